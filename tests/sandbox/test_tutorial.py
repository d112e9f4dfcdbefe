"""The client of Gloo's tutorial "RAG pipeline, part 3", as its text describes it, against the sandbox:
only the base URL differs.

Its output must equal that of the tutorial (except for indentation, which the tutorial's text has lost).
"""

import uuid

import httpx
import pytest

from monitor.sandbox import Sandbox

RETRYABLE = {500, 502, 503, 504}
MAX_RETRIES = 4

STEP_1 = """\
Step 1: Resilient client ready (token refresh, error parsing, retry/backoff).
"""
STEP_2 = """\
Step 2: Interpreting API error responses...
Missing item (random UUID): status=404 code='Item not found' \
message='The requested item does not exist or has been permanently deleted'
Malformed item ID: status=400 code='Invalid item ID format' message='Item ID must be a valid UUID format'
Rejected bearer token: status=403 code='Forbidden - insufficient permissions' message='Forbidden'
"""
STEP_3 = """\
Step 3: Retrying transient failures with backoff...
Attempt 1 failed (503: service_unavailable); retrying in 1s
Attempt 2 failed (503: service_unavailable); retrying in 2s
Succeeded after 3 attempts
"""
STEP_4 = """\
Step 4: Verifying ingestion health...
Uploading and indexing a batch...
Waiting for 2 item(s) to finish indexing...
Health: 2 completed, 0 pending, 0 failed, 1 not found
Cleaned up 2 item(s)
"""
DONE = """\
Done. The resilient client handled errors, retries, and verification end to end.
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
    """Its client and its four steps; sleeps move the sandbox's clock."""

    def __init__(self, base_url, settings, *, say, sleep):
        self.settings, self.say, self.sleep = settings, say, sleep
        self.http = httpx.Client(base_url=base_url, trust_env=False, timeout=30)
        self.token = None

    def main(self, item_id):
        self.say("Step 1: Resilient client ready (token refresh, error parsing, retry/backoff).")
        self.say("Step 2: Interpreting API error responses...")
        self.interpret_errors()
        self.say("Step 3: Retrying transient failures with backoff...")
        self.retry_transient(item_id)
        self.say("Step 4: Verifying ingestion health...")
        item_ids = self.upload_batch()
        self.verify_health(item_ids)
        self.clean_up(item_ids)
        self.say("Done. The resilient client handled errors, retries, and verification end to end.")

    def bearer(self):
        if self.token is None:
            response = self.http.post(
                "/oauth2/token",
                data={"grant_type": "client_credentials", "scope": "api/access"},
                auth=(self.settings.client_id, self.settings.client_secret),
            )
            response.raise_for_status()
            self.token = response.json()["access_token"]
        return self.token

    def once(self, method, url, token=None, **kwargs):
        return self.http.request(method, url, headers={"Authorization": f"Bearer {token or self.bearer()}"}, **kwargs)

    def request(self, method, url, token=None, **kwargs):
        refreshed = False
        for attempt in range(MAX_RETRIES + 1):
            try:
                response = self.once(method, url, token, **kwargs)
            except httpx.TransportError:
                if attempt == MAX_RETRIES:
                    raise
                self.back_off(attempt, "network error")
                continue
            if response.status_code == 401 and token is None and not refreshed:
                refreshed, self.token = True, None
                continue
            if response.status_code in RETRYABLE and attempt < MAX_RETRIES:
                self.back_off(attempt, response.status_code)
                continue
            if not response.is_success:
                raise ApiError(response.status_code, *parse_error(response))
            return response.json()
        raise AssertionError("the last attempt returns or raises")

    def back_off(self, attempt, what):
        self.say(f"Attempt {attempt + 1} failed ({what}); retrying in {2**attempt}s")
        self.sleep(2**attempt)

    def interpret_errors(self):
        for label, item_id, token in (
            ("Missing item (random UUID)", uuid.uuid4(), None),
            ("Malformed item ID", "not-a-valid-uuid", None),
            ("Rejected bearer token", uuid.uuid4(), "invalid-token"),
        ):
            with pytest.raises(ApiError) as refused:
                self.request("GET", f"/engine/v2/items/{item_id}", token)
            e = refused.value
            self.say(f"{label}: status={e.status} code={e.code!r} message={e.message!r}")

    def retry_transient(self, item_id):
        for attempt in range(MAX_RETRIES + 1):
            response = self.once("GET", f"/engine/v2/items/{item_id}")
            if response.status_code in RETRYABLE and attempt < MAX_RETRIES:
                self.back_off(attempt, f"{response.status_code}: {parse_error(response)[0]}")
                continue
            assert response.is_success
            self.say(f"Succeeded after {attempt + 1} attempts")
            return

    def upload_batch(self):
        self.say("Uploading and indexing a batch...")
        item_ids = [*self.upload("first.md", b"one"), *self.upload("second.md", b"two")]
        self.wait(item_ids)
        return item_ids

    def upload(self, name, content):
        answer = self.request(
            "POST",
            "/ingestion/v2/files",
            params={"producer_id": f"tutorial-{name}"},
            data={"publisher_id": self.settings.publisher_id},
            files={"files": (name, content)},
        )
        return answer["ingesting"]

    def wait(self, item_ids):
        pending = set(item_ids)
        while pending:
            for item_id in list(pending):
                if self.request("GET", f"/engine/v2/items/{item_id}")["status"].upper() == "COMPLETED":
                    pending.discard(item_id)
            if pending:
                self.say(f"Waiting for {len(pending)} item(s) to finish indexing...")
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
def own(_no_complaint, clock):
    """A sandbox as the command starts it, with another clock."""
    with Sandbox(clock=clock) as serving:
        yield serving


@pytest.fixture
def tutorial(own, clock, printed, slept):
    def sleep(seconds):
        slept.append(seconds)
        clock.advance(seconds)

    made = Tutorial(own.url, own.settings, say=printed.append, sleep=sleep)
    yield made
    made.http.close()


def test_all_four_steps_print_what_the_tutorial_prints(tutorial, own, printed, slept):
    (item_id,) = own.create_items(1, status="COMPLETED")
    body = {"detail": {"code": "service_unavailable", "message": "Service temporarily unavailable"}}
    own.add_fault(path=f"/engine/v2/items/{item_id}", status=503, body=body, count=2)
    tutorial.main(item_id)
    assert printed == (STEP_1 + STEP_2 + STEP_3 + STEP_4 + DONE).splitlines()
    assert slept == [1, 2, 15]


def test_step_4_deletes_its_items(tutorial, own):
    item_ids = tutorial.upload_batch()
    tutorial.clean_up(item_ids)
    assert [tutorial.once("GET", f"/engine/v2/items/{item_id}").status_code for item_id in item_ids] == [404, 404]
    assert own.stats()["items"] == 0


def test_the_client_retries_what_is_transient_in_any_call(tutorial, own, printed):
    own.add_fault("503:path=/ingestion,count=1")
    own.add_fault("drop:path=/ingestion,count=1")
    assert len(tutorial.upload("first.md", b"one")) == 1
    assert printed == ["Attempt 1 failed (503); retrying in 1s", "Attempt 2 failed (network error); retrying in 2s"]


def test_the_client_stops_after_its_last_retry(tutorial, own, slept):
    own.add_fault("html502:path=/engine")
    with pytest.raises(ApiError) as refused:
        tutorial.request("GET", "/engine/v2/items/1")
    assert (refused.value.code, refused.value.message) == (None, "Bad Gateway")
    assert slept == [1, 2, 4, 8]


def test_an_expired_token_is_refreshed_once_and_a_rejected_one_never(tutorial, own):
    (item_id,) = own.create_items(1, status="COMPLETED")
    assert tutorial.request("GET", f"/engine/v2/items/{item_id}")["item_id"] == item_id
    own.expire_tokens()
    assert tutorial.request("GET", f"/engine/v2/items/{item_id}")["item_id"] == item_id
    tutorial.token = "rejected"
    with pytest.raises(ApiError):
        tutorial.request("GET", f"/engine/v2/items/{item_id}")
    assert own.requests("POST /oauth2/token 200") == 2
