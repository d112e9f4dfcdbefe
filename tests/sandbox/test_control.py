import uuid

import pytest

OWN = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def control(http):
    def call(method, path, **body):
        return http.request(method, f"/_sandbox{path}", **body)

    return call


@pytest.fixture
def ask(http, sandbox):
    def item(item_id):
        return http.get(f"/engine/v2/items/{item_id}", headers={"Authorization": f"Bearer {sandbox.settings.api_key}"})

    return item


def done(answer):
    return (answer.status_code, answer.json()) == (200, {"done": True})


def test_items_can_be_created(control, ask, clock):
    batch = {"count": 2, "status": "TRANSCRIBING", "filename": "talk.mp3"}
    first, second = control("POST", "/items", json=batch).json()["item_ids"]
    assert first != second
    assert ask(first).json()["filename"] == "talk.mp3"
    clock.advance(500)
    assert ask(second).json()["status"] == "TRANSCRIBING"


def test_an_empty_batch_creates_one_item(control, ask):
    (item_id,) = control("POST", "/items").json()["item_ids"]
    assert ask(item_id).json()["status"] == "STARTED"


def test_an_item_can_be_created_for_another_publisher(control, ask):
    (item_id,) = control("POST", "/items", json={"publisher_id": "other"}).json()["item_ids"]
    assert ask(item_id).status_code == 403


def test_an_item_is_changed_and_returned(control, ask):
    (item_id,) = control("POST", "/items").json()["item_ids"]
    assert done(control("PATCH", f"/items/{item_id.upper()}", json={"status": "FAILED", "publisher_id": "other"}))
    assert ask(item_id).status_code == 403
    assert done(control("PATCH", f"/items/{item_id}", json={"publisher_id": OWN}))
    assert ask(item_id).json()["status"] == "FAILED"
    assert done(control("PATCH", f"/items/{item_id}", json={"status": None}))
    assert ask(item_id).json()["status"] == "STARTED"


def test_an_item_is_removed(control, ask):
    (item_id,) = control("POST", "/items").json()["item_ids"]
    assert done(control("DELETE", f"/items/{item_id}"))
    assert ask(item_id).status_code == 404


def test_a_fault_is_set_and_cleared(control, ask):
    fault = {"path": "/engine", "status": 502, "body": "<html>Bad Gateway</html>"}
    assert done(control("POST", "/faults", json=fault))
    assert (ask("1").status_code, ask("1").text) == (502, "<html>Bad Gateway</html>")
    assert done(control("DELETE", "/faults"))
    assert ask("1").status_code == 400


def test_an_empty_fault_answers_503_to_everything_but_the_control_endpoint(control, ask):
    assert done(control("POST", "/faults"))
    assert (ask("1").status_code, ask("1").content) == (503, b"")
    assert control("GET", "/stats").status_code == 200


def test_a_client_is_revoked_and_restored(control, http, granted):
    url = f"/engine/v2/items/{uuid.uuid4()}"
    assert done(control("POST", "/clients/sandbox-client/revoke"))
    assert http.get(url, headers=granted).status_code == 401
    assert done(control("POST", "/clients/sandbox-client/restore"))
    assert http.get(url, headers=granted).status_code == 404


def test_an_api_key_is_revoked_and_restored(control, ask):
    assert done(control("POST", "/keys/sandbox-key/revoke"))
    assert ask(uuid.uuid4()).status_code == 403
    assert done(control("POST", "/keys/sandbox-key/restore"))
    assert ask(uuid.uuid4()).status_code == 404


def test_a_rate_limit_is_set_and_removed(control, ask):
    assert done(control("POST", "/rate", json={"rate": "1/h"}))
    assert [ask("1").status_code, ask("1").status_code] == [400, 429]
    assert control("GET", "/stats").status_code == 200
    assert done(control("POST", "/rate", json={"rate": None}))
    assert ask("1").status_code == 400


def test_tokens_expire_on_demand(control, http, granted):
    assert done(control("POST", "/expire-tokens"))
    assert http.get(f"/engine/v2/items/{uuid.uuid4()}", headers=granted).status_code == 401


def test_the_statistics_count_by_template_and_result(control, ask, http):
    (item_id,) = control("POST", "/items").json()["item_ids"]
    for asked in (item_id, item_id, uuid.uuid4(), "malformed"):
        ask(asked)
    http.get("/engine/v2/publisher/p/items")
    http.post("/engine/v2/publisher/p/items/by-producer")
    http.get(f"/engine/v1/files/{item_id}/snippets")
    assert control("GET", "/stats").json() == {
        "requests": {
            "GET /engine/v1/files/{item_id}/snippets 401": 1,
            "GET /engine/v2/items/{item_id} 200": 2,
            "GET /engine/v2/items/{item_id} 400": 1,
            "GET /engine/v2/items/{item_id} 404": 1,
            "GET /engine/v2/publisher/{publisher_id}/items 401": 1,
            "POST /engine/v2/publisher/{publisher_id}/items/by-producer 401": 1,
        },
        "items": 1,
        "max_in_flight": 1,
    }


def test_a_reset_forgets_everything(control, ask, http, granted):
    (item_id,) = control("POST", "/items").json()["item_ids"]
    control("POST", "/keys/sandbox-key/revoke")
    control("POST", "/faults", json={"path": "/engine"})
    ask(item_id)
    assert done(control("POST", "/reset"))
    assert control("GET", "/stats").json() == {"requests": {}, "items": 0, "max_in_flight": 0}
    assert ask(item_id).status_code == 404
    assert http.get(f"/engine/v2/items/{item_id}", headers=granted).status_code == 403


ITEM = "/items/33333333-3333-4333-8333-333333333333"
MISUSE = {
    "unknown call": ("GET", "/fauls", {}, "unknown request GET /_sandbox/fauls: use POST /faults"),
    "wrong method": ("PUT", "/faults", {}, "unknown request PUT /_sandbox/faults"),
    "nothing but the prefix": ("GET", "", {}, "unknown request GET /_sandbox"),
    "no JSON": ("POST", "/faults", {"content": b"{status: 503}"}, "the body is not JSON"),
    "not UTF-8": ("POST", "/faults", {"content": b'"\xff"'}, "the body is not JSON"),
    "too deep": ("POST", "/faults", {"content": b"[" * 100_000}, "the body is not JSON"),
    "unknown field": ("POST", "/faults", {"json": {"stauts": 500}}, "the keys are path, method, status, body, headers"),
    "wrong type": ("POST", "/faults", {"json": {"status": "500"}}, "Expected `int`, got `str` - at `$.status`"),
    "closing and passing": ("POST", "/faults", {"json": {"close": True, "passes": True}}, "it either closes or passes"),
    "no rate": ("POST", "/rate", {"json": {"rate": "fast"}}, "'fast' is not a rate: write requests per s, m or h"),
    "nothing about the rate": ("POST", "/rate", {}, "missing required field `rate`; the keys are rate"),
    "unknown client": ("POST", "/clients/nobody/revoke", {}, "unknown client nobody: it is sandbox-client"),
    "unknown key": ("POST", "/keys/none/restore", {}, "unknown API key none: it is sandbox-key"),
    "unknown act": ("POST", "/keys/sandbox-key/rotate", {}, "for the API key: use revoke or restore"),
    "no items": ("POST", "/items", {"json": {"count": 0}}, "Expected `int` >= 1 - at `$.count`"),
    "too many items": ("POST", "/items", {"json": {"count": 1_000_001}}, "<= 1000000"),
    "a count that is a boolean": ("POST", "/items", {"json": {"count": True}}, "the keys are count, status"),
    "a batch that is a list": ("POST", "/items", {"json": []}, "invalid batch of items: Expected `object`"),
    "a status that is a number": ("PATCH", ITEM, {"json": {"status": 5}}, "invalid change of an item"),
    "a publisher that is null": ("PATCH", ITEM, {"json": {"publisher_id": None}}, "invalid change of an item"),
    "no change": ("PATCH", ITEM, {"json": {}}, "needs status, publisher_id or both"),
    "change of no item": ("PATCH", ITEM, {"json": {"status": "FAILED"}}, "there is no such item"),
    "removal of no item": ("DELETE", ITEM, {}, "there is no such item"),
}


@pytest.mark.parametrize(("method", "path", "body", "why"), MISUSE.values(), ids=MISUSE)
def test_an_invalid_request_is_a_400_with_the_reason(control, method, path, body, why):
    answer = control(method, path, **body)
    assert answer.status_code == 400
    assert why in answer.json()["error"]
