import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Meaning, Operation
from monitor.providers import Listing, ProviderSettings
from monitor.providers.gloo import Gloo

ID = "c68c9303-9851-476e-96af-aa5bdd385811"


def settings(**fields):
    return ProviderSettings(**{"target": "t", "base_url": "https://gloo.test", "publisher_id": "pub", **fields})


def gloo(**statuses):
    return Gloo.from_settings(settings(statuses=statuses))


def read(body, provider=None):
    raw = body if isinstance(body, bytes) else json.dumps({"item_id": ID, **body}).encode()
    return (provider or gloo()).read_item(raw, ID)


PENDING = [
    "STARTED",
    "QUEUED",
    "FETCHING",
    "TRANSCRIBING",
    "NORMALIZING",
    "CHUNKING",
    "EMBEDDING",
    "SYNCED",
    "ENRICHED",
]
TABLE = [
    *((status, ItemState.PENDING) for status in PENDING),
    ("COMPLETED", ItemState.COMPLETED),
    ("FAILED", ItemState.FAILED),
    ("ERROR", ItemState.FAILED),
]


@pytest.mark.parametrize("spelt", [str.upper, str.lower, str.title])
@pytest.mark.parametrize(("status", "state"), TABLE)
def test_every_documented_status_is_known_in_any_case(status, state, spelt):
    assert read({"item_id": ID, "status": spelt(status)}) == ItemStatus(state=state, stage=spelt(status))


@pytest.mark.parametrize("status", ["RERANKING", "DONE", "COMPLETE", "COMPLETED!", "0"])
def test_an_unknown_status_is_pending_and_reported(status):
    assert read({"status": status}) == ItemStatus(state=ItemState.PENDING, stage=status, recognised=False)


def test_a_status_is_bounded_and_printable():
    assert read({"status": "  completed\n"}) == ItemStatus(state=ItemState.COMPLETED, stage="completed")
    odd = read({"status": "\u202ea\u0000b" + "x" * 5000})
    assert isinstance(odd, ItemStatus)
    assert odd.stage == "a b" + "x" * 197


def test_configured_statuses_extend_and_override_the_table():
    provider = gloo(pending=["Reranking", "error"], completed=["DONE"])
    stages = {status: read({"status": status}, provider).state for status in ("RERANKING", "ERROR", "done", "FAILED")}
    assert stages == {
        "RERANKING": ItemState.PENDING,
        "ERROR": ItemState.PENDING,
        "done": ItemState.COMPLETED,
        "FAILED": ItemState.FAILED,
    }
    assert read({"status": "RERANKING"}, provider).recognised


@pytest.mark.parametrize("item_id", [ID, ID.upper()])
def test_the_id_of_an_item_is_accepted_in_either_case(item_id):
    assert read({"item_id": item_id, "status": "QUEUED"}) == ItemStatus(state=ItemState.PENDING, stage="QUEUED")


BAD = {
    "empty": (b"", "the item's body is empty"),
    "HTML": (b"<html>", "the item's body is not JSON"),
    "truncated": (b'{"status": "COMPLE', "the item's body is not JSON"),
    "not UTF-8": (b'{"status": "\xff"}', "the item's body is not JSON"),
    "NaN": (f'{{"status": "COMPLETED", "item_id": "{ID}", "x": NaN}}'.encode(), "the item's body is not JSON"),
    "depth 100,000": (b'{"status": "COMPLETED", "x": ' + b"[" * 100_000, "the item's body is not JSON"),
    "null": (b"null", "the item's body has an unexpected form"),
    "list": (b"[]", "the item's body has an unexpected form"),
    "no status": (b"{}", "the item's body has an unexpected form"),
    "no item_id": (b'{"status": "COMPLETED"}', "the item's body has an unexpected form"),
    "item_id null": (b'{"status": "QUEUED", "item_id": null}', "the item's body has an unexpected form"),
    "item_id blank": (b'{"status": "QUEUED", "item_id": ""}', "the body is about another item"),
    "an error with a status": (
        b'{"status": "error", "message": "Unauthorized"}',
        "the item's body has an unexpected form",
    ),
    "a health check's answer": (b'{"status": "ok"}', "the item's body has an unexpected form"),
    "status null": (b'{"status": null}', "the item's body has an unexpected form"),
    "status a number": (b'{"status": 3}', "the item's body has an unexpected form"),
    "item_id a number": (b'{"status": "QUEUED", "item_id": 3}', "the item's body has an unexpected form"),
    "blank status": (f'{{"status": " \\u0000 ", "item_id": "{ID}"}}'.encode(), "the item's status is blank"),
    "another item": (b'{"status": "COMPLETED", "item_id": "other"}', "the body is about another item"),
}


@pytest.mark.parametrize(("body", "reason"), BAD.values(), ids=BAD)
def test_a_body_of_another_item_is_bad(body, reason):
    answer = read(body)
    assert isinstance(answer, BadBody)
    assert answer.reason.startswith(reason)


@given(st.binary(max_size=200))
def test_no_body_raises_or_is_mistaken_for_an_item(body):
    assert isinstance(read(body), BadBody)


@given(st.text(max_size=300))
def test_any_status_text_has_a_state_or_is_blank(status):
    answer = read({"status": status})
    if isinstance(answer, ItemStatus):
        assert answer.stage.isprintable()
        assert 0 < len(answer.stage) <= 200
        assert answer.recognised or answer.state is ItemState.PENDING
    else:
        assert answer.reason == "the item's status is blank"


@pytest.mark.parametrize("item_id", [ID, ID.upper()])
def test_canonical_uuids_are_valid(item_id):
    assert gloo().valid_id(item_id)


BAD_IDS = ["", "x", ID[:-1], ID + "0", ID + "\n", ID.replace("-", ""), f"{{{ID}}}", ID.replace("c", "g"), f"../{ID}"]


@pytest.mark.parametrize("item_id", BAD_IDS)
def test_ids_that_the_api_cannot_accept_are_invalid(item_id):
    assert not gloo().valid_id(item_id)


def test_an_item_request_is_for_one_item():
    request = gloo().item_request(ID)
    assert (request.method, request.path, request.operation) == ("GET", f"/engine/v2/items/{ID}", Operation.READ)
    assert request.template == "/engine/v2/items/{item_id}"


@given(st.text(max_size=50))
def test_an_id_stays_one_segment_of_the_path(item_id):
    path = gloo().item_request(item_id).path
    assert path.startswith("/engine/v2/items/")
    assert path.count("/") == 4
    assert path.isascii()
    assert path.isprintable()
    assert not set(path) & set("?#\\ ")


def test_the_token_endpoint_is_known():
    provider = gloo()
    assert (provider.name, provider.token_path, provider.token_scope) == ("gloo", "/oauth2/token", "api/access")


WRONG = {
    "state": ({"done": ["X"]}, "statuses.done is not a state: use completed, pending, failed"),
    "two states": ({"pending": ["X"], "failed": ["x"]}, "statuses has x under two states"),
}


@pytest.mark.parametrize(("statuses", "problem"), WRONG.values(), ids=WRONG)
def test_an_invalid_setting_is_named(statuses, problem):
    with pytest.raises(ConfigError) as caught:
        Gloo.from_settings(settings(statuses=statuses))
    assert caught.value.problems[0].startswith(problem)


def test_a_known_status_with_a_control_character_is_unknown():
    found = read({"status": "\0COMPLETED"})
    assert (found.state, found.stage, found.recognised) == (ItemState.PENDING, "COMPLETED", False)


def listed(body, *, piece=7, **fields):
    """The listing of a body in small pieces, and the next request."""
    provider, listing = Gloo.from_settings(settings(**fields)), Listing()
    reader = provider.list_reader(provider.list_request(), listing)
    for start in range(0, len(body), piece):
        if not reader.feed(body[start : start + piece]):
            break
    return listing, reader.finish({})


def rows(*pairs):
    return msgspec.json.encode(
        [{"item_id": i, "item_title": "a },{ b", "filename": "f", "status": s} for i, s in pairs]
    )


def test_the_list_is_one_request_for_the_publisher():
    request = Gloo.from_settings(settings(publisher_id="a/../b", list_max_bytes=5)).list_request()
    assert request.path == "/engine/v2/publisher/a%2F..%2Fb/items"
    assert (request.template, request.max_bytes) == ("/engine/v2/publisher/{publisher_id}/items", 5)
    assert Gloo.from_settings(settings(publisher_id=None)).list_request() is None


def test_the_list_uses_the_canonical_spelling_of_ids():
    listing, _ = listed(rows((ID.upper(), "COMPLETED")))
    assert gloo().canonical(ID.upper()) == gloo().canonical(ID) == ID
    assert listing.contains(gloo().canonical(ID.upper()))


def test_the_list_separates_completed_items_from_all_others():
    body = rows(
        ("AB", "COMPLETED"), ("c", "completed"), ("d", "FAILED"), ("e", "EMBEDDING"), ("f", "THAWING"), ("g", " ")
    )
    listing, after = listed(body)
    assert after is None
    assert {i: listing.completed_stage(i) for i in "cdefg"} == {"c": "completed", **dict.fromkeys("defg")}
    assert listing.completed_stage("ab") == "COMPLETED"
    assert all(listing.contains(i) for i in ("ab", *"cdefg"))


def test_a_list_uses_the_targets_own_statuses():
    listing, _ = listed(rows(("a", "ARCHIVED")), statuses={"completed": ["archived"]})
    assert listing.completed_stage("a") == "ARCHIVED"


def test_malformed_rows_do_not_affect_other_rows():
    listing, after = listed(
        b'[{"item_id":"a","status":"COMPLETED"},{"item_id":null,"status":3},{"item_id":"b","status":"X"}]'
    )
    assert (after, len(listing)) == (None, 2)


UNUSABLE = {
    "nothing": (b"", "the list is empty or not a JSON array"),
    "an object": (b'{"items": []}', "the list is not a JSON array"),
    "a page": (b"<html>502</html>", "the list is not a JSON array"),
    "cut short": (rows(("a", "COMPLETED"), ("b", "COMPLETED"))[:-3], "the list ends too early"),
    "mostly unreadable": (
        b'[{"id":"a"},{"id":"b"},{"item_id":"c","status":"FAILED"}]',
        "most rows of the list have no",
    ),
}


@pytest.mark.parametrize(("body", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_list_has_a_reason(body, reason):
    _, after = listed(body)
    assert after.reason.startswith(reason)


def test_unknown_statuses_are_remembered_up_to_a_limit():
    listing, after = listed(rows(*((str(n), f"S{n}") for n in range(2500)), ("z", "COMPLETED")), piece=1000)
    assert (after, len(listing), listing.completed_stage("z")) == (None, 2501, "COMPLETED")


# --- what a target changes -------------------------------------------------------------------------------------------


def test_a_target_may_change_the_questions():
    """The description is read then as any other, with its own places."""
    item = {"path": "/v3/{item_id}", "status": "state.now", "id": "state.id"}
    provider = Gloo.from_settings(settings(options={"item": item, "list": {"path": "/v3", "items": "data"}}))
    assert provider.item_request("x").path == "/v3/x"
    assert provider.valid_id("any form")
    body = msgspec.json.encode({"state": {"id": "x", "now": "COMPLETED"}})
    assert provider.read_item(body, "x") == ItemStatus(state=ItemState.COMPLETED, stage="COMPLETED")
    listing = Listing()
    reader = provider.list_reader(provider.list_request(), listing)
    reader.feed(b'{"data": [{"id": "a", "status": "COMPLETED"}]}')
    assert (reader.finish({}), listing.completed_stage("a")) == (None, "COMPLETED")


def test_another_path_or_form_of_ids_leaves_the_answers_as_they_are():
    item = {"path": "/v3/{item_id}", "id": "item_id", "id_pattern": "doc-[0-9]+"}
    provider = Gloo.from_settings(settings(options={"item": item}))
    assert [provider.valid_id(each) for each in ("doc-1", ID)] == [True, False]
    assert provider.read_item(b'{"status": 7}', "doc-1").reason.startswith("the item's body has an unexpected form")


def test_a_word_of_the_target_may_mean_that_there_is_no_such_item():
    assert read({"status": "deleted"}, gloo(not_found=["DELETED"])) is Meaning.NOT_FOUND


def test_the_publisher_may_be_a_parameter():
    provider = Gloo.from_settings(settings(publisher_id=None, params={"publisher_id": "p 1"}))
    assert provider.list_request().path == "/engine/v2/publisher/p%201/items"


def test_ids_are_uuids():
    assert gloo().uuid_ids
    assert (gloo().batch_size, gloo().list_only, gloo().read_meaning) == (1, False, None)
