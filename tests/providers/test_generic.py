import json
from itertools import count as count_from
from itertools import repeat
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Operation, Request, is_valid_path
from monitor.providers import Listing, ProviderSettings
from monitor.providers.generic import Generic
from monitor.providers.paths import scalar_text, value_at

STATUSES = {"completed": ["ready", "true", "2"], "pending": ["working"], "failed": ["broken"]}
ITEM = {"path": "/v1/documents/{item_id}"}
LIST = {"path": "/v1/documents", "items": "data"}


def settings(*, statuses=None, publisher_id=None, **options):
    return ProviderSettings(
        target="docs",
        base_url="https://api.example.com/base",
        publisher_id=publisher_id,
        statuses=STATUSES if statuses is None else statuses,
        list_max_bytes=2000,
        options=options,
    )


def generic(item=None, **more):
    return Generic.from_settings(settings(item={**ITEM, **(item or {})}, **more))


def encoded(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def read(body, *, item_id="doc-1", **item):
    return generic(item).read_item(encoded(body), item_id)


# --- dotted paths ----------------------------------------------------------------------------------------------------

FOUND = {
    "the value itself": ({"a": 1}, "", {"a": 1}),
    "a member": ({"a": {"b": "x"}}, "a.b", "x"),
    "an element": ({"a": [{"b": "x"}, {"b": "y"}]}, "a.1.b", "y"),
    "a member named by a number": ({"0": "x"}, "0", "x"),
    "nothing": ({"a": 1}, "b", None),
    "a null": ({"a": None}, "a", None),
    "below a text": ({"a": "x"}, "a.b", None),
    "below a null": ({"a": None}, "a.b", None),
    "past the end": ({"a": [1]}, "a.1", None),
    "from the end": ({"a": [1]}, "a.-1", None),
    "a name in an array": ({"a": [1]}, "a.b", None),
    "a digit of another script": ({"a": [1]}, "a.²", None),
    "a number without end": ({"a": [1]}, "a." + "9" * 5000, None),
}


@pytest.mark.parametrize(("value", "path", "expected"), FOUND.values(), ids=FOUND)
def test_a_dotted_path_leads_to_a_value_or_to_nothing(value, path, expected):
    assert value_at(value, path) == expected


PLAIN = [("x", "x"), ("", ""), (7, "7"), (True, "true"), (False, "false"), (1.5, None), (None, None), ([], None)]


@pytest.mark.parametrize(("value", "text"), [*PLAIN, (10**5000, None)], ids=lambda value: str(type(value)))
def test_only_strings_integers_and_booleans_are_read_as_text(value, text):
    assert scalar_text(value) == text


# --- one item --------------------------------------------------------------------------------------------------------

READ = {
    "at the top": ({"status": "ready"}, {}, ItemState.COMPLETED),
    "in any case": ({"status": "Working"}, {}, ItemState.PENDING),
    "nested": ({"data": {"status": "broken"}}, {"status": "data.status"}, ItemState.FAILED),
    "in an array": ({"documents": [{"state": "ready"}]}, {"status": "documents.0.state"}, ItemState.COMPLETED),
    "a boolean": ({"indexed": True}, {"status": "indexed"}, ItemState.COMPLETED),
    "a number": ({"status": 2}, {}, ItemState.COMPLETED),
    "the body itself": ("ready", {"status": ""}, ItemState.COMPLETED),
    "named as asked": ({"id": "doc-1", "status": "ready"}, {"id": "id"}, ItemState.COMPLETED),
    "named in another case": ({"id": "DOC-1", "status": "ready"}, {"id": "id"}, ItemState.COMPLETED),
}


@pytest.mark.parametrize(("body", "item", "state"), READ.values(), ids=READ)
def test_the_status_is_read_from_the_configured_path(body, item, state):
    found = read(body, **item)
    assert isinstance(found, ItemStatus)
    assert (found.state, found.recognised) == (state, True)


def test_an_item_id_may_be_a_number():
    assert read({"id": 17, "status": "ready"}, item_id="17", id="id") == ItemStatus(
        state=ItemState.COMPLETED, stage="ready"
    )


@pytest.mark.parametrize("status", ["marinating", "404", 99, 600, -1, False])
def test_an_unconfigured_status_is_pending_and_reported(status):
    stage = "false" if status is False else str(status)
    assert read({"status": status}) == ItemStatus(state=ItemState.PENDING, stage=stage, recognised=False)


NULLS = {
    "a status that is null": ({"status": None}, "status"),
    "a null on the way": ({"id": "doc-1", "last": None}, "last.status"),
    "a null in an array": ({"runs": [None]}, "runs.0.status"),
    "null, beside a message": ({"message": "queued", "data": {"status": None}}, "data.status"),
}


@pytest.mark.parametrize(("body", "path"), NULLS.values(), ids=NULLS)
@pytest.mark.parametrize("named", ["pending", "failed", "completed", None])
def test_the_table_says_what_null_means_and_without_it_null_is_pending_and_reported(body, path, named):
    """A fresh item often has no status yet (report: `status: null` was unreadable for ever)."""
    statuses = {"completed": ["ready"]}
    if named:
        statuses[named] = [*statuses.get(named, []), "null"]
    found = generic(item={"path": "/d/{item_id}", "status": path}, statuses=statuses).read_item(
        json.dumps(body).encode(), "doc-1"
    )
    assert found == ItemStatus(state=ItemState(named or "pending"), stage="null", recognised=named is not None)


BAD = {
    "empty": (b"", {}, "the item's body is empty"),
    "HTML": (b"<html>", {}, "the item's body is not JSON"),
    "truncated": (b'{"status": "rea', {}, "the item's body is not JSON"),
    "not UTF-8": (b'{"status": "\xff"}', {}, "the item's body is not JSON"),
    "depth 100,000": (b"[" * 100_000, {}, "the item's body is not JSON"),
    "no status": ({}, {}, "the item's body has no status at 'status'"),
    "an error with a null on the way": (
        {"code": 102, "data": None, "message": "no such document"},
        {"status": "data.run"},
        "the item's body has no status",
    ),
    "status an object": ({"status": {}}, {}, "the item's body has no status at 'status'"),
    "status half a number": ({"status": 1.5}, {}, "the item's body has no status at 'status'"),
    "status blank": ({"status": " "}, {}, "the item's status is blank"),
    "an HTTP status": ({"status": 404, "title": "Not Found"}, {}, "the item's status looks like an HTTP status"),
    "the lowest": ({"status": 100}, {}, "the item's status looks like an HTTP status"),
    "the highest": ({"status": 599}, {}, "the item's status looks like an HTTP status"),
    "an array": ([], {}, "the item's body has no status at 'status'"),
    "no id": ({"status": "ready"}, {"id": "id"}, "the item's body has no id at 'id'"),
    "another item": ({"status": "ready", "id": "doc-2"}, {"id": "id"}, "the body is about another item"),
}


@pytest.mark.parametrize(("body", "item", "reason"), BAD.values(), ids=BAD)
def test_a_body_without_the_configured_fields_is_bad(body, item, reason):
    found = read(body, **item)
    assert isinstance(found, BadBody)
    assert found.reason.startswith(reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["status", "data", "id", "n"]), inner),
    max_leaves=12,
)


@given(st.binary(max_size=60) | JSON.map(encoded), st.sampled_from(["", "status", "data.status", "data.0.status"]))
def test_no_item_body_raises(body, status):
    assert isinstance(read(body, status=status, id="id"), ItemStatus | BadBody)


# --- requests --------------------------------------------------------------------------------------------------------


def test_an_item_request_has_the_configured_headers():
    request = generic(headers={"X-Api-Version": "2"}).item_request("doc 1")
    assert (request.method, request.path, request.operation) == ("GET", "/v1/documents/doc%201", Operation.READ)
    assert request.template == "/v1/documents/{item_id}"
    assert request.headers == {"X-Api-Version": "2"}


def test_a_publisher_is_escaped_in_the_path_and_not_in_the_template():
    provider = generic(
        {"path": "/t/{publisher_id}/d/{item_id}?full=1"}, publisher_id="a/b", list={"path": "/t/{publisher_id}/d?x=1"}
    )
    assert provider.item_request("7").path == "/t/a%2Fb/d/7?full=1"
    assert provider.item_request("7").template == "/t/{publisher_id}/d/{item_id}"
    assert provider.list_request().path == "/t/a%2Fb/d?x=1"
    assert provider.list_request().template == "/t/{publisher_id}/d"


@given(st.text(max_size=60))
def test_a_valid_id_is_one_path_segment(item_id):
    provider = generic()
    path = provider.item_request(item_id).path
    assert path.startswith("/v1/documents/")
    assert path.count("/") == 3
    assert not set(path) & set("?#\\ ")
    assert is_valid_path(path) or not provider.valid_id(item_id)


@given(st.text(max_size=60))
def test_an_id_in_the_query_stays_one_value(item_id):
    path = generic({"path": "/v1/documents?id={item_id}&full=1"}).item_request(item_id).path
    assert path.startswith("/v1/documents?id=")
    assert path.endswith("&full=1")
    assert (path.count("="), path.count("&"), "#" in path) == (2, 1, False)


@pytest.mark.parametrize("item_id", ["", " ", ".", "..", "a\nb", "a\0b", "é" * 2000])
def test_an_id_that_cannot_be_sent_is_invalid(item_id):
    assert not generic().valid_id(item_id)


@pytest.mark.parametrize(
    "item_id",
    [
        "報告\u3000書.pdf",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467.txt",
        "\u0645\u06cc\u200c\u062e\u0648",
        "Prix 5\u00a0€.pdf",
        "\u202eid",
        "\ue000",
    ],
    ids=["ideographic space", "joiner", "non-joiner", "no-break space", "bidi override", "private use"],
)
def test_an_id_of_any_characters_that_can_be_escaped_is_valid_and_arrives_whole(item_id):
    provider = generic()
    assert provider.valid_id(item_id)
    assert unquote(provider.item_request(item_id).path.rpartition("/")[2]) == item_id


def test_an_id_must_match_the_configured_pattern_completely():
    provider = generic({"id_pattern": "file-[a-z0-9]+"})
    assert [provider.valid_id(item_id) for item_id in ("file-a1", "file-", "xfile-a1", "file-a1\n")] == [
        True,
        False,
        False,
        False,
    ]


def test_ids_have_one_spelling_and_there_is_no_token_endpoint():
    provider = generic()
    assert (provider.name, provider.token_path, provider.token_scope) == ("generic", None, "")
    assert provider.canonical("DOC-1") == "DOC-1"


# --- the list --------------------------------------------------------------------------------------------------------


def page(body, *, pieces=1, listing=None, headers=None, **rule):
    """Reads one page in pieces; returns the next request and the listing."""
    provider = generic(list={**LIST, **rule})
    listing = Listing() if listing is None else listing
    reader = provider.list_reader(provider.list_request(), listing)
    raw = encoded(body)
    step = max(1, -(-len(raw) // pieces))
    for start in range(0, len(raw), step):
        if not reader.feed(raw[start : start + step]):
            break
    return reader.finish(headers or {}), listing


def test_a_target_without_a_list_has_no_list_request():
    assert generic().list_request() is None
    with pytest.raises(ValueError, match="only pages of this provider's own list"):
        generic().list_reader(generic().item_request("x"), Listing())


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_a_page_is_split_into_completed_and_other_items(pieces):
    items = [
        {"id": "a", "status": "ready"},
        {"id": "b", "status": "READY"},
        {"id": "c", "status": "working"},
        {"id": "d", "status": "unheard of"},
        {"id": "e"},
        {"id": 6, "status": True},
    ]
    following, listing = page({"data": items}, pieces=pieces)
    assert following is None
    assert listing.completed_stages("abcde6") == ["ready", "READY", None, None, None, "true"]
    assert all(listing.contains(item_id) for item_id in "abcde6")


def test_ids_and_statuses_of_a_list_are_read_from_the_configured_paths():
    body = [{"file": {"id": "a"}, "state": {"now": "ready"}}]
    _, listing = page(body, items="", id="file.id", status="state.now")
    assert listing.completed_stage("a") == "ready"


BAD_PAGES = {
    "empty": (b"", "a page of the list is empty"),
    "HTML": (b"<html>", "a page of the list is not JSON"),
    "no array": ({"data": {}}, "a page of the list has no array at 'data'"),
    "nothing there": ({}, "a page of the list has no array at 'data'"),
    "an item without an id": ({"data": [{"id": "a", "status": "ready"}, {"status": "ready"}]}, "an item of the list"),
    "an item with an empty id": ({"data": [{"id": "", "status": "ready"}]}, "an item of the list has no id at 'id'"),
    "an item that is a text": ({"data": ["a"]}, "an item of the list has no id at 'id'"),
    "too large": ({"data": ["x" * 3000]}, "a page of the list is larger than 2000 bytes"),
}


@pytest.mark.parametrize(("body", "reason"), BAD_PAGES.values(), ids=BAD_PAGES)
def test_a_page_that_can_not_be_used_is_named(body, reason):
    following, _ = page(body, pieces=7)
    assert isinstance(following, BadBody)
    assert following.reason.startswith(reason)


def walk(bodies, **rule):
    """Reads pages until the list ends; how many were read, how it ended, and the listing."""
    provider, listing, count = generic(list={**LIST, **rule}), Listing(), 0
    following = provider.list_request()
    while isinstance(following, Request):
        reader = provider.list_reader(following, listing)
        reader.feed(encoded(next(bodies)))
        following, count = reader.finish({}), count + 1
    return count, following, listing


def rows(*ids, **more):
    return {"data": [{"id": item_id, "status": "ready"} for item_id in ids], **more}


def test_an_api_that_ignores_the_page_is_left_after_a_few_pages():
    count, end, listing = walk(repeat(rows("a", "b")), page={"by": "number"})
    assert (count, len(listing)) == (4, 2)
    assert end.reason == "3 pages of the list in a row have no new items: the pages lead in a circle"


def test_a_page_that_only_repeats_items_of_a_list_that_shifts_is_no_circle():
    pages = [rows("a", "b"), rows("b"), rows("b", "a"), rows("c"), rows("c"), rows()]
    count, end, listing = walk(iter(pages), page={"by": "number"})
    assert (count, end, len(listing)) == (6, None, 3)


def test_pages_without_any_item_and_without_end_are_left():
    cursors = ({"data": [], "next": f"c{n}"} for n in count_from(0))
    count, end, _ = walk(cursors, page={"by": "cursor", "next": "next"})
    assert (count, isinstance(end, BadBody)) == (100, True)


def test_some_pages_without_any_item_are_read_over():
    pages = [{"data": [], "next": f"c{n}"} for n in range(50)] + [rows("a")]
    count, end, listing = walk(iter(pages), page={"by": "cursor", "next": "next"})
    assert (count, end, len(listing)) == (51, None, 1)


def test_a_page_that_is_read_again_is_no_repetition():
    provider, listing = generic(list={**LIST, "page": {"by": "number"}}), Listing()
    for _ in range(5):
        reader = provider.list_reader(provider.list_request(), listing)
        reader.feed(encoded(rows("a")))
        following = reader.finish({})
    assert following.path == "/v1/documents?page=2"


@pytest.mark.parametrize(
    "row",
    [
        b"0,",
        b'"",',
        pytest.param(b"[],", marks=pytest.mark.process),
        b"{},",
        b'{"id":"a","status":"ready","x":[[0,0]]},',
    ],
)
def test_a_bomb_of_small_rows_needs_no_memory(row):
    """300 MB would come of it: what is kept at a time is a row, at most 4 MiB."""
    provider, listing = generic(list=LIST, list_max_bytes=1 << 30), Listing()
    reader, piece = provider.list_reader(provider.list_request(), listing), row * (250_000 // len(row))
    reader.feed(b'{"data":[')
    read = sum(1 for _ in range(40) if reader.feed(piece))
    assert len(reader._array._buffer) < 5 << 20
    assert read <= 20 or len(listing) == 1


def test_a_page_that_is_too_large_is_not_read_further():
    provider = generic(list=LIST)
    reader = provider.list_reader(provider.list_request(), Listing())
    assert [reader.feed(b"x" * 1500), reader.feed(b"x" * 1500), reader.feed(b"x")] == [True, False, False]


@given(st.binary(max_size=60) | JSON.map(encoded), st.sampled_from(["none", "link", "cursor", "offset", "number"]))
def test_no_page_raises(body, by):
    following, _ = page(body, page={"by": by, "more": "n", "total": "n", "next": "id"}, headers={"link": repr(body)})
    assert following is None or isinstance(following, BadBody) or is_valid_path(following.path)


# --- configuration ---------------------------------------------------------------------------------------------------

WRONG = {
    "no item": ({}, "targets.docs.item is missing: add the request for one item"),
    "no placeholder": ({"item": {"path": "/v1"}}, "targets.docs.item.path must contain {item_id} exactly once"),
    "two placeholders": (
        {"item": {"path": "/{item_id}/{item_id}"}},
        "targets.docs.item.path must contain {item_id} exactly once",
    ),
    "no slash": ({"item": {"path": "v1/{item_id}"}}, "targets.docs.item.path must begin with a slash"),
    "another placeholder": ({"item": {"path": "/{store}/{item_id}"}}, "targets.docs.item.path contains {store}"),
    "no publisher": ({"item": {"path": "/{publisher_id}/{item_id}"}}, "targets.docs.item.path contains {publisher_id}"),
    "dot segments": ({"item": {"path": "/a/../{item_id}"}}, "targets.docs.item.path must be a valid URL path"),
    "a space": ({"item": {"path": "/a b/{item_id}"}}, "targets.docs.item.path must be a valid URL path"),
    "a list of one item": ({"item": ITEM, "list": {"path": "/{item_id}"}}, "targets.docs.list.path contains {item_id}"),
    "a broken pattern": ({"item": {**ITEM, "id_pattern": "["}}, "targets.docs.item.id_pattern must be a valid regular"),
    "a header in two lines": ({"item": ITEM, "headers": {"X": "a\nb"}}, "targets.docs.headers.'X' must be"),
    "a header's name": ({"item": ITEM, "headers": {"X Y": "a"}}, "targets.docs.headers.'X Y' must be"),
    "an unknown page rule": (
        {"item": ITEM, "list": {**LIST, "page": {"by": "magic"}}},
        "targets.docs: item, list or headers have an unexpected form",
    ),
    "nothing is ready": ({"item": ITEM, "statuses": {"failed": ["x"]}}, "targets.docs.statuses.completed is missing"),
    "not a state": ({"item": ITEM, "statuses": {"completed": ["x"], "done": ["y"]}}, "statuses.done is not a state"),
    "two states": (
        {"item": ITEM, "statuses": {"completed": ["x"], "failed": ["X"]}},
        "statuses has X under two states",
    ),
}


@pytest.mark.parametrize(("options", "problem"), WRONG.values(), ids=WRONG)
def test_an_invalid_setting_is_named(options, problem):
    with pytest.raises(ConfigError) as caught:
        Generic.from_settings(settings(**options))
    assert [text for text in caught.value.problems if text.startswith(problem)]


def test_all_problems_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        Generic.from_settings(settings(item={"path": "x"}, list={"path": "x"}, statuses={}))
    assert len(caught.value.problems) == 3
