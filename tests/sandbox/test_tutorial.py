"""The client of Gloo's tutorial "RAG pipeline, part 3", as its text describes it, against the sandbox.

What it says must be what the tutorial prints, to the letter (indentation aside, which its text has lost).
"""

import uuid

import pytest

RETRYABLE = {500, 502, 503, 504}
MAX_RETRIES = 4

STEP_2 = """\
Missing item (random UUID): status=404 code='Item not found' \
message='The requested item does not exist or has been permanently deleted'
Malformed item ID: status=400 code='Invalid item ID format' message='Item ID must be a valid UUID format'
Rejected bearer token: status=403 code='Forbidden - insufficient permissions' message='Forbidden'
"""
STEP_3 = """\
Attempt 1 failed (503: service_unavailable); retrying in 1s
Attempt 2 failed (503: service_unavailable); retrying in 2s
Succeeded after 3 attempts
"""
STEP_4 = """\
Uploading and indexing a batch...
Waiting for 2 item(s) to finish indexing...
Health: 2 completed, 0 pending, 0 failed, 1 not found
Cleaned up 2 item(s)
"""


class ApiError(Exception):
    def __init__(self, status, code, message):
        super().__init__(f"[{status} {code}] {message}")
        self.status, self.code, self.message = status, code, message


def parse_error(response):
    try:
        body = response.json()
    except ValueError:
        return None, response.reason_phrase
    detail = body.get("detail") if isinstance(body, dict) else None
    if isinstance(detail, dict):
        return detail.get("code"), detail.get("message") or response.reason_phrase
    if isinstance(detail, str):
        return None, detail
    return body.get("error"), body.get("message") or response.reason_phrase


class Tutorial:
    """Its snippets, on one connection; what it would sleep moves the sandbox's clock instead."""

    def __init__(self, http, settings, *, say, sleep):
        self.http, self.settings, self.say, self.sleep = http, settings, say, sleep
        self.token = self.fetch_token()

    def fetch_token(self):
        response = self.http.post(
            "/oauth2/token",
            data={"grant_type": "client_credentials", "scope": "api/access"},
            auth=(self.settings.client_id, self.settings.client_secret),
        )
        return response.json()["access_token"]

    def once(self, method, url, token=None, **kwargs):
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return self.http.request(method, url, headers=headers, timeout=30, **kwargs)

    def request(self, method, url, token=None, **kwargs):
        for attempt in range(MAX_RETRIES + 1):
            response = self.once(method, url, token, **kwargs)
            if response.status_code in RETRYABLE and attempt < MAX_RETRIES:
                delay = 2**attempt
                self.say(f"Attempt {attempt + 1} failed ({response.status_code}); retrying in {delay}s")
                self.sleep(delay)
                continue
            if not response.is_success:
                code, message = parse_error(response)
                raise ApiError(response.status_code, code, message)
            return response.json()
        raise AssertionError("the last attempt returns or raises")

    def interpret_errors(self):
        for label, item_id, token in (
            ("Missing item (random UUID)", uuid.uuid4(), None),
            ("Malformed item ID", "not-a-uuid", None),
            ("Rejected bearer token", uuid.uuid4(), "invalid-token"),
        ):
            with pytest.raises(ApiError) as refused:
                self.request("GET", f"/engine/v2/items/{item_id}", token)
            e = refused.value
            self.say(f"{label}: status={e.status} code={e.code!r} message={e.message!r}")

    def retry_transient(self, item_id):
        calls = 0

        def flaky():
            nonlocal calls
            calls += 1
            response = self.once("GET", f"/engine/v2/items/{item_id}")
            if not response.is_success:
                raise ApiError(response.status_code, *parse_error(response))

        for attempt in range(MAX_RETRIES + 1):
            try:
                flaky()
                break
            except ApiError as e:
                if e.status not in RETRYABLE or attempt == MAX_RETRIES:
                    raise
                delay = 2**attempt
                self.say(f"Attempt {attempt + 1} failed ({e.status}: {e.code}); retrying in {delay}s")
                self.sleep(delay)
        self.say(f"Succeeded after {calls} attempts")

    def upload_batch(self):
        self.say("Uploading and indexing a batch...")
        item_ids = [*self.upload("first.txt", b"one"), *self.upload("second.txt", b"two")]
        self.wait(item_ids)
        return item_ids

    def upload(self, name, content):
        answer = self.request(
            "POST",
            "/ingestion/v2/files",
            data={"publisher_id": self.settings.publisher_id},
            files={"files": (name, content)},
        )
        return answer["ingesting"]

    def wait(self, item_ids):
        self.say(f"Waiting for {len(item_ids)} item(s) to finish indexing...")
        while {self.request("GET", f"/engine/v2/items/{item_id}")["status"] for item_id in item_ids} != {"COMPLETED"}:
            self.sleep(15)

    def verify_health(self, item_ids):
        summary = {"completed": 0, "pending": 0, "failed": 0, "not_found": 0}
        for item_id in [*item_ids, str(uuid.uuid4())]:
            try:
                status = self.request("GET", f"/engine/v2/items/{item_id}").get("status", "").upper()
                if status == "COMPLETED":
                    summary["completed"] += 1
                elif status in {"FAILED", "ERROR"}:
                    summary["failed"] += 1
                else:
                    summary["pending"] += 1
            except ApiError as e:
                if e.status != 404:
                    raise
                summary["not_found"] += 1
        self.say(
            f"Health: {summary['completed']} completed, {summary['pending']} pending, "
            f"{summary['failed']} failed, {summary['not_found']} not found"
        )

    def clean_up(self, item_ids):
        answer = self.request("DELETE", "/engine/v2/items", json={"item_ids": item_ids})
        self.say(f"Cleaned up {answer['total_deleted']} item(s)")


@pytest.fixture
def slept():
    return []


@pytest.fixture
def printed():
    return []


@pytest.fixture
def tutorial(http, sandbox, clock, printed, slept):
    def sleep(seconds):
        slept.append(seconds)
        clock.advance(seconds)

    return Tutorial(http, sandbox.settings, say=printed.append, sleep=sleep)


def test_step_2_the_errors_read_as_the_tutorial_shows_them(tutorial, printed):
    tutorial.interpret_errors()
    assert printed == STEP_2.splitlines()


def test_step_3_a_service_that_fails_twice_is_retried_with_backoff(tutorial, sandbox, printed, slept):
    (item_id,) = sandbox.create_items(1, status="COMPLETED")
    body = {"detail": {"code": "service_unavailable", "message": "Service temporarily unavailable"}}
    sandbox.add_fault(path="/engine", status=503, body=body, count=2)
    tutorial.retry_transient(item_id)
    assert printed == STEP_3.splitlines()
    assert slept == [1, 2]


def test_step_1_the_client_itself_retries_the_same_way(tutorial, sandbox, printed):
    (item_id,) = sandbox.create_items(1, status="COMPLETED")
    sandbox.add_fault(path="/engine", status=503, count=2)
    assert tutorial.request("GET", f"/engine/v2/items/{item_id}")["item_id"] == item_id
    assert printed == ["Attempt 1 failed (503); retrying in 1s", "Attempt 2 failed (503); retrying in 2s"]


def test_step_1_the_client_gives_up_after_its_last_retry(tutorial, sandbox, slept):
    sandbox.add_fault(path="/engine", status=502, body="<html>Bad Gateway</html>")
    with pytest.raises(ApiError) as refused:
        tutorial.request("GET", "/engine/v2/items/1")
    assert (refused.value.code, refused.value.message) == (None, "Bad Gateway")
    assert slept == [1, 2, 4, 8]


def test_step_4_a_batch_is_uploaded_verified_and_cleaned_up(tutorial, printed, slept):
    item_ids = tutorial.upload_batch()
    tutorial.verify_health(item_ids)
    tutorial.clean_up(item_ids)
    assert printed == STEP_4.splitlines()
    assert sum(slept) == 90  # the walk takes 80 s, asked about every 15 s
    statuses = [tutorial.once("GET", f"/engine/v2/items/{item_id}").status_code for item_id in item_ids]
    assert statuses == [404, 404]
