"""Gloo's API in the sandbox, over HTTP."""

import uuid
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import pytest

from monitor.sandbox import Sandbox, SandboxSettings
from monitor.sandbox.rate_limits import parse_rate

FORBIDDEN = {"error": "Forbidden - insufficient permissions", "code": "forbidden"}
EXPIRED = {"detail": "Invalid or expired access token."}
NOT_FOUND = {
    "detail": {"code": "Item not found", "message": "The requested item does not exist or has been permanently deleted"}
}
GRANT = {"grant_type": "client_credentials", "scope": "api/access"}
GOOD = ("sandbox-client", "sandbox-secret")


def bearer(value):
    return {"Authorization": f"Bearer {value}"}


def item_status(http, item_id, headers):
    answer = http.get(f"/engine/v2/items/{item_id}", headers=headers)
    return answer.json().get("status", answer.status_code)


@pytest.fixture
def key(sandbox):
    return bearer(sandbox.settings.api_key)


@pytest.fixture
def upload(http, key, sandbox):
    def send(*files, publisher=sandbox.settings.publisher_id, query=None):
        parts = [("files", (name, content)) for name, content in files]
        form = {"publisher_id": publisher} if publisher is not None else {}
        return http.post("/ingestion/v2/files", params=query, data=form, files=parts, headers=key)

    return send


# --- the token endpoint ----------------------------------------------------------------------------------------------


def test_a_token_of_the_token_endpoint_is_accepted_by_the_api(http, sandbox):
    answer = http.post("/oauth2/token", data=GRANT, auth=GOOD)
    body = answer.json()
    assert answer.status_code == 200
    assert (body["expires_in"], body["token_type"], body["scope"]) == (100, "Bearer", "api/access")
    (item_id,) = sandbox.create_items(1, status="QUEUED")
    assert item_status(http, item_id, bearer(body["access_token"])) == "QUEUED"


def test_a_token_request_without_a_scope_gets_the_only_one(http):
    assert http.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=GOOD).json()["scope"] == (
        "api/access"
    )


REFUSALS = {
    "no credentials": (GRANT, {}, 401, "invalid_client"),
    "another secret": (GRANT, {"auth": ("sandbox-client", "wrong")}, 401, "invalid_client"),
    "another client": (GRANT, {"auth": ("nobody", "sandbox-secret")}, 401, "invalid_client"),
    "a bearer": (GRANT, {"headers": {"Authorization": "Bearer x"}}, 401, "invalid_client"),
    "Basic that is no base64": (GRANT, {"headers": {"Authorization": "Basic %%%"}}, 401, "invalid_client"),
    "Basic beyond ASCII": (GRANT, {"headers": {"Authorization": b"Basic \xe9"}}, 401, "invalid_client"),
    "Basic that is no text": (GRANT, {"headers": {"Authorization": "Basic //79"}}, 401, "invalid_client"),
    "no grant": ({}, {"auth": GOOD}, 400, "invalid_request"),
    "another grant": ({"grant_type": "password"}, {"auth": GOOD}, 400, "unsupported_grant_type"),
    "another scope": ({**GRANT, "scope": "admin"}, {"auth": GOOD}, 400, "invalid_scope"),
}


@pytest.mark.parametrize(("form", "how", "status", "error"), REFUSALS.values(), ids=REFUSALS)
def test_the_token_endpoint_returns_oauth_errors(http, form, how, status, error):
    answer = http.post("/oauth2/token", data=form, **how)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"]


def test_a_form_that_cannot_be_parsed_is_a_400_in_json(http):
    answer = http.post("/oauth2/token", content=b"x", headers={"content-type": "multipart/form-data"}, auth=GOOD)
    assert (answer.status_code, answer.json()) == (400, {"detail": "Missing boundary in multipart."})


def test_tokens_expire(http, sandbox, clock, granted):
    (item_id,) = sandbox.create_items(1, status="COMPLETED")
    clock.advance(99.9)
    assert item_status(http, item_id, granted) == "COMPLETED"
    clock.advance(0.1)
    answer = http.get(f"/engine/v2/items/{item_id}", headers=granted)
    assert (answer.status_code, answer.json()) == (401, EXPIRED)


def test_after_all_tokens_expired_a_new_one_can_be_requested(http, sandbox, granted):
    sandbox.expire_tokens()
    url = f"/engine/v2/items/{uuid.uuid4()}"
    assert http.get(url, headers=granted).status_code == 401
    fresh = http.post("/oauth2/token", data=GRANT, auth=GOOD).json()["access_token"]
    assert http.get(url, headers=bearer(fresh)).status_code == 404


# --- authorization ---------------------------------------------------------------------------------------------------

CALLS = {
    "item": ("GET", "/engine/v2/items/33333333-3333-4333-8333-333333333333"),
    "list": ("GET", "/engine/v2/publisher/11111111-1111-4111-8111-111111111111/items"),
    "by producer": ("POST", "/engine/v2/publisher/11111111-1111-4111-8111-111111111111/items/by-producer"),
    "snippets": ("GET", "/engine/v1/files/33333333-3333-4333-8333-333333333333/snippets"),
    "upload": ("POST", "/ingestion/v2/files"),
    "delete": ("DELETE", "/engine/v2/items"),
}
HEADERS = {
    "no header": ({}, 401, {"error": "Missing Authorization", "code": "unauthorized_missing_authorization"}),
    "empty header": (
        {"Authorization": ""},
        401,
        {"error": "Missing Authorization", "code": "unauthorized_missing_authorization"},
    ),
    "not a bearer": ({"Authorization": "Basic c2FuZGJveA=="}, 403, FORBIDDEN),
    "no token": ({"Authorization": "Bearer"}, 403, FORBIDDEN),
    "unknown token": ({"Authorization": "Bearer rejected"}, 403, FORBIDDEN),
    "token beyond ASCII": ({"Authorization": b"Bearer \xe9"}, 403, FORBIDDEN),
}


@pytest.mark.parametrize(("method", "path"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("headers", "status", "body"), HEADERS.values(), ids=HEADERS)
def test_a_missing_header_is_a_401_and_a_rejected_token_a_403(http, method, path, headers, status, body):
    answer = http.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()) == (status, body)


def test_a_revoked_client_gets_401_everywhere_until_it_is_restored(http, sandbox, granted, key):
    url = f"/engine/v2/items/{uuid.uuid4()}"
    sandbox.revoke_client()
    answer = http.post("/oauth2/token", data=GRANT, auth=GOOD)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert http.get(url, headers=granted).json() == EXPIRED
    assert http.get(url, headers=key).status_code == 404  # the API key is another credential
    sandbox.restore_client()
    assert http.get(url, headers=granted).status_code == 404
    assert http.post("/oauth2/token", data=GRANT, auth=GOOD).status_code == 200


def test_a_revoked_api_key_gets_403_until_it_is_restored(http, sandbox, granted, key):
    url = f"/engine/v2/items/{uuid.uuid4()}"
    sandbox.revoke_key()
    answer = http.get(url, headers=key)
    assert (answer.status_code, answer.json()) == (403, FORBIDDEN)
    assert http.get(url, headers=granted).status_code == 404  # the client is another credential
    sandbox.restore_key()
    assert http.get(url, headers=key).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/engine/v2/items/", 404), ("POST", "/engine/v2/items/1", 405)],
)
def test_an_unknown_path_is_a_404_in_json(http, key, method, path, status):
    answer = http.request(method, path, headers=key)
    assert answer.status_code == status
    assert answer.json()["detail"] == answer.reason_phrase


# --- one item --------------------------------------------------------------------------------------------------------


def test_an_item_has_the_fields_of_the_reference(http, sandbox, key):
    (item_id,) = sandbox.create_items(1, status="COMPLETED", filename="a.sermon.txt")
    body = http.get(f"/engine/v2/items/{item_id.upper()}", headers=key).json()
    assert {name: body[name] for name in ("item_id", "status", "filename", "item_title")} == {
        "item_id": item_id,
        "status": "COMPLETED",
        "filename": "a.sermon.txt",
        "item_title": "a.sermon",
    }
    assert (body["author"], body["item_tags"]) == ([], [])
    assert body["etag"]


def test_an_unknown_item_is_a_404(http, key):
    answer = http.get(f"/engine/v2/items/{uuid.uuid4()}", headers=key)
    assert (answer.status_code, answer.json()) == (404, NOT_FOUND)


@pytest.mark.parametrize("item_id", ["not-a-uuid", "1", "3" * 32, "{33333333-3333-4333-8333-333333333333}", "%20", "é"])
def test_a_malformed_id_is_a_400(http, key, item_id):
    answer = http.get(f"/engine/v2/items/{item_id}", headers=key)
    body = {"detail": {"code": "Invalid item ID format", "message": "Item ID must be a valid UUID format"}}
    assert (answer.status_code, answer.json()) == (400, body)


def test_another_publishers_item_is_a_distinct_403(http, sandbox, key):
    mine, foreign = sandbox.create_items(2, status="COMPLETED")
    sandbox.assign_to_other_publisher(foreign)
    answer = http.get(f"/engine/v2/items/{foreign}", headers=key)
    body = {"detail": {"code": "item_publisher_mismatch", "message": "Item does not belong to the specified publisher"}}
    assert (answer.status_code, answer.json()) == (403, body)
    assert item_status(http, mine, key) == "COMPLETED"


def test_a_removed_item_is_a_404(http, sandbox, key):
    (item_id,) = sandbox.create_items(1)
    sandbox.remove(item_id)
    assert item_status(http, item_id, key) == 404


@pytest.mark.parametrize("act", ["set_status", "assign_to_other_publisher", "remove"])
def test_a_missing_item_cannot_be_changed(sandbox, act):
    arguments = ["no-item", "FAILED"] if act == "set_status" else ["no-item"]
    with pytest.raises(KeyError):
        getattr(sandbox, act)(*arguments)


@pytest.mark.parametrize(
    ("filename", "end"), [("sermon.txt", "COMPLETED"), ("fail.txt", "FAILED"), ("stuck.txt", "CHUNKING")]
)
def test_the_name_of_an_item_decides_its_final_status(http, sandbox, clock, granted, filename, end):
    (item_id,) = sandbox.create_items(1, filename=filename)
    seen = []
    for _ in range(9):
        seen.append(item_status(http, item_id, granted))
        clock.advance(10)
    assert seen[:5] == ["STARTED", "QUEUED", "FETCHING", "NORMALIZING", "CHUNKING"]
    assert seen[8] == end


def test_an_item_with_a_fixed_status_continues_when_it_is_released(http, sandbox, clock, granted):
    (item_id,) = sandbox.create_items(1)
    sandbox.set_status(item_id, "RERANKING")
    clock.advance(80)
    assert item_status(http, item_id, granted) == "RERANKING"
    sandbox.set_status(item_id, None)
    assert item_status(http, item_id, granted) == "COMPLETED"


def test_updated_at_and_etag_change_with_the_status_and_only_then(http, sandbox, clock, granted):
    (item_id,) = sandbox.create_items(1)

    def stamps():
        body = http.get(f"/engine/v2/items/{item_id}", headers=granted).json()
        return datetime.fromisoformat(body["updated_at"]), body["etag"]

    started_at, started = stamps()
    clock.advance(9)
    assert stamps() == (started_at, started)
    clock.advance(1)
    queued_at, queued = stamps()
    assert queued_at - started_at == timedelta(seconds=10)
    assert queued != started
    assert started_at.tzinfo is not None


# --- the list --------------------------------------------------------------------------------------------------------


def test_the_list_is_a_bare_array_of_the_publishers_own_items(http, sandbox, key):
    mine, foreign = sandbox.create_items(2, status="EMBEDDING")
    sandbox.assign_to_other_publisher(foreign)
    answer = http.get(f"/engine/v2/publisher/{sandbox.settings.publisher_id}/items", headers=key)
    assert answer.json() == [{"item_id": mine, "item_title": "made", "filename": "made.txt", "status": "EMBEDDING"}]


def test_the_list_of_an_unknown_publisher_is_a_400(http, key):
    answer = http.get("/engine/v2/publisher/nobody/items", headers=key)
    assert answer.status_code == 400
    assert answer.json() == {"detail": {"code": "publisher_not_found", "message": "Publisher not found"}}


def test_the_list_of_a_foreign_publisher_is_a_403(http, sandbox, key):
    answer = http.get(f"/engine/v2/publisher/{sandbox.settings.foreign_publisher_id}/items", headers=key)
    assert (answer.status_code, answer.json()) == (403, FORBIDDEN)


def test_a_large_list_is_streamed_and_a_small_one_has_a_length(http, sandbox, key):
    path = f"/engine/v2/publisher/{sandbox.settings.publisher_id}/items"
    ids = sandbox.create_items(3)
    assert "content-length" in http.get(path, headers=key).headers
    ids += sandbox.create_items(5000)
    answer = http.get(path, headers=key)
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["content-type"] == "application/json"
    assert [row["item_id"] for row in answer.json()] == ids


def test_a_client_may_disconnect_during_the_list(http, sandbox, key):
    sandbox.create_items(20_000)
    path = f"/engine/v2/publisher/{sandbox.settings.publisher_id}/items"
    with http.stream("GET", path, headers=key) as answer:
        assert next(answer.iter_raw()).startswith(b'[{"item_id":"')
    assert len(http.get(path, headers=key).json()) == 20_000


# --- by producer id --------------------------------------------------------------------------------------------------


@pytest.fixture
def by_producer(http, key, sandbox):
    def send(*producer_ids, publisher=sandbox.settings.publisher_id, **body):
        given = body or {"json": {"producer_ids": list(producer_ids)}}
        return http.post(f"/engine/v2/publisher/{publisher}/items/by-producer", headers=key, **given)

    return send


def test_items_are_found_by_producer_id(upload, by_producer):
    (first,) = upload(("a.txt", b"a"), query={"producer_id": "p1"}).json()["ingesting"]
    (second,) = upload(("b.txt", b"b"), query={"producer_id": "p2"}).json()["ingesting"]
    row = {"item_title": "a", "filename": "a.txt", "status": "STARTED", "producer_id": "p1"}
    assert by_producer("p1").json() == [{"item_id": first, **row}]
    assert [row["item_id"] for row in by_producer("p2", "p1", "p2", "p3").json()] == [second, first]


def test_the_list_contains_producer_ids(http, key, sandbox, upload):
    upload(("a.txt", b"a"), query={"producer_id": "p1"})
    (row,) = http.get(f"/engine/v2/publisher/{sandbox.settings.publisher_id}/items", headers=key).json()
    assert row["producer_id"] == "p1"


def test_a_successful_producer_id_lookup_is_cached(http, key, clock, upload, by_producer):
    (item_id,) = upload(("a.txt", b"a"), query={"producer_id": "p1"}).json()["ingesting"]
    stale = by_producer("p1").json()
    http.request("DELETE", "/engine/v2/items", json={"item_ids": [item_id]}, headers=key)
    clock.advance(299.9)
    assert by_producer("p1").json() == stale
    assert item_status(http, item_id, key) == 404
    clock.advance(0.1)
    assert by_producer("p1").status_code == 404


def test_a_failed_producer_id_lookup_is_cached_too(clock, upload, by_producer):
    nothing = by_producer("p1")
    assert nothing.status_code == 404
    assert nothing.json() == {
        "detail": {"code": "Items not found", "message": "No items were found for the provided producer IDs"}
    }
    upload(("a.txt", b"a"), query={"producer_id": "p1"})
    assert by_producer("p1").status_code == 404
    clock.advance(300)
    assert len(by_producer("p1").json()) == 1


NO_PRODUCERS = {"no ids": {"json": {"producer_ids": []}}, "a text": {"json": {"producer_ids": "p"}}, "nothing": {}}


@pytest.mark.parametrize("body", NO_PRODUCERS.values(), ids=NO_PRODUCERS)
def test_a_lookup_without_producer_ids_is_a_400(by_producer, body):
    answer = by_producer(**(body or {"content": b""}))
    assert answer.status_code == 400
    assert answer.json() == {
        "detail": {"code": "Invalid request", "message": "At least one producer_id must be provided"}
    }


def test_a_producer_id_that_is_not_a_string_is_a_422_with_its_location(by_producer):
    answer = by_producer("p1", 7)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "producer_ids", 1])


def test_a_lookup_for_another_publisher_is_refused(sandbox, by_producer):
    assert by_producer("p1", publisher=sandbox.settings.foreign_publisher_id).status_code == 403
    assert by_producer("p1", publisher="nobody").status_code == 400


# --- snippets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def snippets(http, key):
    return lambda item_id, **query: http.get(f"/engine/v1/files/{item_id}/snippets", params=query, headers=key)


def test_a_completed_document_has_snippets(clock, upload, snippets):
    (item_id,) = upload(("a.txt", b"the sentinel-42 stands here")).json()["ingesting"]
    assert snippets(item_id).json() == {"data": [], "pagination": {"total": 0}}
    clock.advance(80)
    (entry,) = snippets(item_id, limit=25).json()["data"]
    assert entry["snippet"] == "the sentinel-42 stands here"


def test_snippets_are_cut_at_words_and_limited(clock, upload, snippets):
    (item_id,) = upload(("a.txt", b"word " * 20_000)).json()["ingesting"]
    clock.advance(80)
    body = snippets(item_id).json()
    assert len(body["data"]) == 25
    assert body["pagination"]["total"] > 100
    assert {word for entry in body["data"] for word in entry["snippet"].split()} == {"word"}
    assert [entry["part"] for entry in snippets(item_id, limit=2).json()["data"]] == [0, 1]


def test_a_binary_document_has_snippets_too(clock, upload, snippets):
    (item_id,) = upload(("a.pdf", b"%PDF \xff\xfe")).json()["ingesting"]
    clock.advance(80)
    assert snippets(item_id).json()["data"][0]["snippet"].startswith("%PDF ")


def test_an_item_without_a_file_has_one_snippet(sandbox, snippets):
    (item_id,) = sandbox.create_items(1, status="COMPLETED", filename="letter.txt")
    assert "letter" in snippets(item_id).json()["data"][0]["snippet"]


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5"])
def test_an_invalid_limit_of_snippets_is_a_422(sandbox, snippets, limit):
    (item_id,) = sandbox.create_items(1, status="COMPLETED")
    answer = snippets(item_id, limit=limit)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "limit"])


def test_snippets_of_foreign_items_are_refused_like_the_items(sandbox, snippets):
    (foreign,) = sandbox.create_items(1)
    sandbox.assign_to_other_publisher(foreign)
    assert [snippets(each).status_code for each in (foreign, uuid.uuid4(), "1")] == [403, 404, 400]


# --- the rate limit --------------------------------------------------------------------------------------------------


def test_each_credential_has_its_own_rate_limit_with_headers(http, sandbox, clock, key, granted):
    sandbox.limit_rate(parse_rate("2/10s"))
    path = f"/engine/v2/items/{uuid.uuid4()}"
    answers = [http.get(path, headers=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert answers[2].json() == {"error": "Rate limit exceeded", "code": "too_many_requests"}
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"2"}
    assert "retry-after" not in answers[2].headers
    assert http.get(path, headers=granted).status_code == 404
    clock.advance(10)
    assert http.get(path, headers=key).status_code == 404


def test_the_reset_header_is_the_unix_time_of_the_full_limit(http, sandbox, clock, key):
    sandbox.limit_rate(parse_rate("2/10s"))
    path = f"/engine/v2/items/{uuid.uuid4()}"
    before = [http.get(path, headers=key) for _ in range(3)][-1].headers
    # the sandbox's clock started at 5000 s: its Unix time is that of the start plus the time since then
    sent = parsedate_to_datetime(before["date"]).timestamp()
    assert sent - 60 < int(before["x-ratelimit-reset"]) - 10 - (clock.now_s - 5000.0) < sent + 60
    clock.advance(11)
    assert http.get(path, headers=key).headers["x-ratelimit-remaining"] == "1"


def test_unauthorized_calls_do_not_count_against_the_limit(http, sandbox, key):
    sandbox.limit_rate(parse_rate("1/10s"))
    path = f"/engine/v2/items/{uuid.uuid4()}"
    refused = [http.get(path, headers=headers) for headers in ({}, bearer("rejected"))]
    assert [answer.status_code for answer in refused] == [401, 403]
    assert {"x-ratelimit-limit" in answer.headers for answer in refused} == {False}
    assert http.get(path, headers=key).status_code == 404


@pytest.mark.usefixtures("_no_complaint")
def test_retry_after_is_sent_if_configured_and_the_rate_survives_a_reset():
    settings = SandboxSettings(rate=parse_rate("1/10s"), retry_after=True)
    with Sandbox(settings, clock=lambda: 5.0) as serving, httpx.Client(base_url=serving.url, trust_env=False) as client:

        def ask():
            return client.get("/engine/v2/items/1", headers=bearer(settings.api_key))

        assert ask().status_code == 400
        assert (ask().status_code, ask().headers["retry-after"]) == (429, "10")
        serving.reset()
        assert ask().status_code == 400
        serving.limit_rate(None)
        assert "x-ratelimit-limit" not in ask().headers


# --- uploads ---------------------------------------------------------------------------------------------------------


def test_an_upload_returns_ids_of_items_that_progress(http, upload, clock, key):
    body = upload(("a.txt", b"a"), ("b.txt", b"b")).json()
    assert (body["success"], body["duplicates"]) == (True, [])
    assert body["message"] == "File processing started in background."
    first, second = body["ingesting"]
    assert item_status(http, first, key) == "STARTED"
    clock.advance(80)
    assert item_status(http, second, key) == "COMPLETED"


def test_known_content_is_a_duplicate_and_never_a_409(upload):
    (item_id,) = upload(("a.txt", b"same")).json()["ingesting"]
    answer = upload(("b.txt", b"same"), ("c.txt", b"same"))
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "message": "File processing started in background.",
        "ingesting": [],
        "duplicates": [item_id, item_id],
    }


def test_content_that_was_deleted_can_be_uploaded_again(http, upload, key):
    (first,) = upload(("a.txt", b"same")).json()["ingesting"]
    http.request("DELETE", "/engine/v2/items", json={"item_ids": [first]}, headers=key)
    (second,) = upload(("a.txt", b"same")).json()["ingesting"]
    assert second != first


def test_a_large_file_is_accepted(upload):
    assert len(upload(("large.bin", b"x" * 3_000_000)).json()["ingesting"]) == 1


def test_a_producer_id_belongs_to_one_file(upload):
    assert upload(("a.txt", b"a"), query={"producer_id": "p1"}).status_code == 200
    answer = upload(("b.txt", b"b"), ("c.txt", b"c"), query={"producer_id": "p2"})
    assert answer.status_code == 400
    assert answer.json() == {
        "detail": {"message": "Too many files. Producer ID is pre-file only.", "code": "too_many_files"}
    }


def test_an_upload_to_a_foreign_publisher_is_a_403(upload, sandbox):
    answer = upload(("a.txt", b"a"), publisher=sandbox.settings.foreign_publisher_id)
    assert answer.status_code == 403
    assert answer.json() == {
        "detail": {"message": "Item does not belong to this publisher", "code": "publisher_mismatch"}
    }


def test_an_upload_to_an_unknown_publisher_is_a_400(upload):
    answer = upload(("a.txt", b"a"), publisher="nobody")
    assert (answer.status_code, answer.json()["detail"]["code"]) == (400, "publisher_not_found")


def missing(*names):
    return {
        "detail": [{"type": "missing", "loc": ["body", name], "msg": "Field required", "input": {}} for name in names]
    }


MISSING = {
    "publisher": ({}, {"files": ("a.txt", b"a")}, ["publisher_id"]),
    "files": ({"publisher_id": "p"}, {"other": ("a.txt", b"a")}, ["files"]),
    "files that are text": ({"publisher_id": "p", "files": "a"}, {"other": ("a.txt", b"a")}, ["files"]),
    "publisher that is a file": ({}, {"publisher_id": ("a.txt", b"a"), "files": ("a.txt", b"a")}, ["publisher_id"]),
    "both": ({}, None, ["publisher_id", "files"]),
}


@pytest.mark.parametrize(("form", "files", "names"), MISSING.values(), ids=MISSING)
def test_an_upload_without_a_required_field_is_a_422_that_names_it(http, key, form, files, names):
    answer = http.post("/ingestion/v2/files", data=form, files=files, headers=key)
    assert (answer.status_code, answer.json()) == (422, missing(*names))


# --- deletion --------------------------------------------------------------------------------------------------------


@pytest.fixture
def delete(http, key):
    def send(**body):
        return http.request("DELETE", "/engine/v2/items", headers=key, **body)

    return send


PLACES = ("weaviate", "s3", "chunk_enrichments", "files", "database")


def outcome(item_id, *, error=None, gone=PLACES):
    return {
        "item_id": item_id,
        "success": error is None,
        "error": error,
        "deleted_from": {place: place in gone for place in PLACES},
    }


@pytest.mark.parametrize("count", [1, 1000])
def test_deleted_items_are_404(http, sandbox, key, delete, count):
    ids = sandbox.create_items(count)
    body = delete(json={"item_ids": ids}).json()
    assert body.pop("results") == [outcome(item_id) for item_id in ids]
    assert body == {
        "success": True,
        "mode": "hard",
        "total_requested": count,
        "total_deleted": count,
        "total_failed": 0,
        "message": f"{count} of {count} items deleted",
    }
    assert item_status(http, ids[-1], key) == 404
    assert sandbox.stats()["items"] == 0


def test_unknown_ids_fail_individually(sandbox, delete):
    (known,), unknown = sandbox.create_items(1), str(uuid.uuid4())
    answer = delete(json={"item_ids": [known, unknown]})
    body = answer.json()
    assert (answer.status_code, body["success"], body["total_deleted"], body["total_failed"]) == (200, False, 1, 1)
    assert body["results"] == [outcome(known), outcome(unknown, error="Item not found", gone=())]


def test_a_locked_item_is_a_partial_deletion_and_stays(http, sandbox, key, delete):
    (free,), (locked,) = sandbox.create_items(1), sandbox.create_items(1, filename="locked.txt")
    body = delete(json={"item_ids": [locked, free]}).json()
    assert (body["success"], body["total_deleted"], body["total_failed"]) == (False, 1, 1)
    partly = outcome(locked, error="Deletion failed", gone=("weaviate", "s3", "chunk_enrichments"))
    assert body["results"] == [partly, outcome(free)]
    assert [item_status(http, each, key) for each in (locked, free)] == ["STARTED", 404]


def test_a_repeated_id_is_deleted_once(sandbox, delete):
    (known,) = sandbox.create_items(1)
    body = delete(json={"item_ids": [known, known]}).json()
    assert (body["total_requested"], body["total_deleted"]) == (1, 1)


@pytest.fixture
def lagging(_no_complaint, clock):
    """A sandbox that returns deleted items for another 30 s."""
    with (
        Sandbox(SandboxSettings(delete_lag_seconds=30.0), clock=clock) as serving,
        httpx.Client(base_url=serving.url, headers=bearer(serving.settings.api_key), trust_env=False) as client,
    ):
        yield serving, client


def test_a_deleted_item_is_returned_until_the_lag_is_over(lagging, clock):
    sandbox, client = lagging
    first, second = sandbox.create_items(2, status="COMPLETED")
    path = f"/engine/v2/publisher/{sandbox.settings.publisher_id}/items"
    assert client.request("DELETE", "/engine/v2/items", json={"item_ids": [first]}).json()["success"]
    clock.advance(29.9)
    again = client.request("DELETE", "/engine/v2/items", json={"item_ids": [first]}).json()
    assert again["results"] == [outcome(first, error="Item not found", gone=())]
    assert client.get(f"/engine/v2/items/{first}").json()["status"] == "COMPLETED"
    assert (len(client.get(path).json()), sandbox.stats()["items"]) == (2, 2)
    clock.advance(0.1)
    assert (len(client.get(path).json()), sandbox.stats()["items"]) == (1, 1)
    assert client.get(f"/engine/v2/items/{first}").status_code == 404
    assert client.get(f"/engine/v2/items/{second}").status_code == 200


def test_content_whose_item_is_being_deleted_can_be_uploaded_again(lagging):
    sandbox, client = lagging
    form = {"publisher_id": sandbox.settings.publisher_id}

    def upload():
        return client.post("/ingestion/v2/files", data=form, files={"files": ("a.txt", b"same")}).json()

    (first,) = upload()["ingesting"]
    client.request("DELETE", "/engine/v2/items", json={"item_ids": [first]})
    assert upload()["duplicates"] == []


NO_IDS = {
    "no ids": {"json": {"item_ids": []}},
    "no field": {"json": {}},
    "a list": {"json": ["a"]},
    "a text": {"json": {"item_ids": "a"}},
    "nothing": {},
    "no JSON": {"content": b"{"},
    "not UTF-8": {"content": b'"\xff"'},
    "too deep": {"content": b"[" * 100_000},
}


@pytest.mark.parametrize("body", NO_IDS.values(), ids=NO_IDS)
def test_a_deletion_without_ids_is_a_400(delete, body):
    answer = delete(**body)
    assert answer.status_code == 400
    assert answer.json() == {"detail": {"code": "Invalid request", "message": "At least one item_id is required"}}


def test_a_deletion_of_more_than_a_thousand_is_a_400(sandbox, delete):
    answer = delete(json={"item_ids": sandbox.create_items(1001)})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (400, "Invalid request")
    assert sandbox.stats()["items"] == 1001


def test_an_id_that_is_not_a_string_is_a_422_with_its_location(sandbox, delete):
    (known,) = sandbox.create_items(1)
    answer = delete(json={"item_ids": [known, 7]})
    (entry,) = answer.json()["detail"]
    assert (answer.status_code, entry["loc"], entry["input"]) == (422, ["body", "item_ids", 1], 7)
    assert sandbox.stats()["items"] == 1


def test_a_foreign_item_refuses_the_whole_deletion(sandbox, delete):
    mine, foreign = sandbox.create_items(2)
    sandbox.assign_to_other_publisher(foreign)
    answer = delete(json={"item_ids": [mine, foreign]})
    assert answer.status_code == 403
    assert answer.json() == {
        "detail": {
            "code": "Unauthorized access",
            "message": "You don't have permission to delete these items",
            "unauthorized_items": [foreign],
        }
    }
    assert sandbox.stats()["items"] == 2
