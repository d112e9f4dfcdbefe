import json
from dataclasses import replace

import pytest
from providers.described import described, encoded, read_page, settings

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Meaning, Request
from monitor.providers import Listing
from monitor.providers.generic import Generic

LIST = {"path": "/documents", "items": "data"}
ERRORS = [{"cause": "unauthorized", "path": "code", "values": [109]}]


def row(item_id, status="ready", **more):
    return {"id": item_id, "status": status, **more}


def listed(**more):
    return described(list={**LIST, **more.pop("list", {})}, **more)


# --- what a page means -----------------------------------------------------------------------------------------------

BODIES = {
    "instead of rows": {"code": 109, "data": False, "message": "wrong key"},
    "beside rows": {"data": [], "code": 109},
    "after many rows": {"data": [row(str(n)) for n in range(300)], "code": "109"},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_error_in_a_page_of_200_is_what_the_description_says(body):
    found, _ = read_page(listed(errors=ERRORS), body, pieces=5)
    assert found is Meaning.UNAUTHORIZED


def test_a_missing_item_in_a_page_is_a_list_that_is_not_there():
    found, _ = read_page(listed(item={"not_found": {"values": {"code": [102]}}}), {"code": 102})
    assert found is Meaning.NOT_FOUND


def test_another_code_is_none():
    found, listing = read_page(listed(errors=ERRORS), {"code": 0, "data": [row("a")]})
    assert (found, len(listing)) == (None, 1)
    found, _ = read_page(listed(errors=ERRORS), {"code": 0, "data": 7})
    assert found == BadBody(reason="a page of the list has no array at 'data'")


def test_an_error_is_one_for_a_keyed_list_as_well():
    found, _ = read_page(listed(list={"keyed": True}, errors=ERRORS), {"code": 109})
    assert found is Meaning.UNAUTHORIZED


CUT = {
    "in a row": (b'{"data": [{"id": "a"', "a page of the list can't be read: the list ends too early"),
    "behind the rows": (b'{"data": [{"id": "a", "status": "ready"}]', "a page of the list is not JSON"),
}


@pytest.mark.parametrize(("body", "reason"), CUT.values(), ids=CUT)
def test_a_page_that_is_cut_is_no_page(body, reason):
    found, _ = read_page(listed(errors=ERRORS), body)
    assert found == BadBody(reason=reason)


# --- a list by POST --------------------------------------------------------------------------------------------------


def pages(provider, *bodies):
    """The requests for the pages of a list."""
    listing, page, asked = Listing(), provider.list_request(), []
    for body in bodies:
        asked.append((page.method, page.path, json.loads(page.body) if page.body else None))
        reader = provider.list_reader(page, listing)
        reader.feed(encoded(body))
        page = reader.finish({})
        if not isinstance(page, Request):
            break
    return asked, page


def test_the_page_of_a_list_by_post_is_selected_in_its_body():
    rule = {
        "method": "POST",
        "body": {"sort": "{order}"},
        "page": {"by": "number", "size": 2, "size_parameter": "page_size"},
    }
    asked, end = pages(listed(list=rule, params={"order": "asc"}), {"data": [row("a"), row("b")]}, {"data": [row("c")]})
    assert asked == [
        ("POST", "/documents", {"sort": "asc", "page_size": 2, "page": 1}),
        ("POST", "/documents", {"sort": "asc", "page_size": 2, "page": 2}),
    ]
    assert end is None


@pytest.mark.parametrize("cursor", ["c 1", 7])
def test_a_cursor_keeps_its_type_in_a_body(cursor):
    rule = {"method": "POST", "page": {"by": "cursor", "next": "next"}}
    asked, end = pages(listed(list=rule), {"data": [row("a")], "next": cursor}, {"data": [row("b")]})
    assert asked == [("POST", "/documents", {}), ("POST", "/documents", {"cursor": cursor})]
    assert end is None


def test_the_page_of_a_list_by_post_may_be_selected_in_the_query():
    rule = {"method": "POST", "body": ["all"], "page": {"by": "offset", "size": 1, "in": "query"}}
    asked, _ = pages(listed(list=rule), {"data": [row("a")]}, {"data": []})
    assert asked == [("POST", "/documents?limit=1&offset=0", ["all"]), ("POST", "/documents?limit=1&offset=1", ["all"])]


def test_every_request_of_a_list_by_post_says_that_its_body_is_json():
    provider = listed(list={"method": "POST"}, headers={"X-Version": "2"})
    assert provider.list_request().headers == {"content-type": "application/json", "X-Version": "2"}
    own = listed(list={"method": "POST"}, headers={"Content-Type": "application/vnd.acme+json"})
    assert own.list_request().headers == {"Content-Type": "application/vnd.acme+json"}


# --- ids as keys -----------------------------------------------------------------------------------------------------


def test_the_ids_of_a_list_may_be_keys():
    provider = listed(list={"keyed": True, "status": "now"})
    found, listing = read_page(provider, {"data": {"a": {"now": "ready"}, "b": {"now": "working"}, "": {}}}, pieces=4)
    assert (found, len(listing), listing.completed_stage("a"), listing.contains("b")) == (None, 2, "ready", True)


KEYED = {
    "an error where the ids would be": ({"detail": "no"}, "a page of the list has no object of items at ''"),
    "an array": ([], "a page of the list has no object of items at ''"),
    "not JSON": (b"{", "a page of the list is not JSON"),
    "too large": ({"a": "x" * 3000}, "a page of the list is larger than 2000 bytes"),
}


@pytest.mark.parametrize(("body", "reason"), KEYED.values(), ids=KEYED)
def test_a_keyed_page_that_can_not_be_used_is_named(body, reason):
    options = settings(list={"path": "/documents", "keyed": True, "status": ""})
    found, listing = read_page(Generic.from_settings(replace(options, list_max_bytes=2000)), body, pieces=3)
    assert (found, len(listing)) == (BadBody(reason=reason), 0)


# --- a list that alone answers ---------------------------------------------------------------------------------------


def test_an_api_may_have_only_a_list():
    provider = described(item=None, list={**LIST, "reason": "code"})
    assert provider.list_only
    assert not described().list_only
    assert [provider.valid_id(each) for each in ("a/b", " ", "a\n")] == [True, False, False]
    listing = Listing(keep_statuses=True)
    body = {"data": [row("a"), row("b", "broken", code="E1"), row("c", "odd"), row("d", "gone"), row("e", " ")]}
    found, _ = read_page(provider, body, listing=listing)
    assert found is None
    assert listing.status_of("a") == ItemStatus(state=ItemState.COMPLETED, stage="ready")
    assert listing.status_of("b") == ItemStatus(state=ItemState.FAILED, stage="broken", failure_reason="E1")
    assert listing.status_of("c") == ItemStatus(state=ItemState.PENDING, stage="odd", recognised=False)
    assert listing.status_of("d").state is ItemState.NOT_FOUND
    assert isinstance(listing.status_of("e"), BadBody)
    assert listing.status_of("f") is None


def test_a_list_alone_has_no_item_question():
    provider = described(item=None, list=LIST)
    no_question = BadBody(reason="the API has no question for one item")
    assert provider.item_request("a") == provider.list_request()
    assert provider.request_for("a", {}) == provider.list_request()
    assert provider.read_item(b"{}", "a") == no_question
    assert provider.read_follow_up(b"{}", "a") == no_question
    assert provider.read_batch(b"{}", ["a"]) == {"a": no_question}
    with pytest.raises(ValueError, match="has no batches"):
        provider.batch_request(["a"])


# --- UUIDs -----------------------------------------------------------------------------------------------------------

ID = "C68C9303-9851-476E-96AF-AA5BDD385811"


def test_uuids_are_the_same_in_either_case():
    provider = listed(uuid_ids=True)
    assert provider.uuid_ids
    _, listing = read_page(provider, {"data": [row(ID), row("Doc-1")]})
    assert listing.completed_stage(provider.canonical(ID)) == "ready"
    assert provider.canonical(ID) == ID.lower()
    assert provider.canonical("Doc-1") == "Doc-1"
    assert described().canonical(ID) == ID
