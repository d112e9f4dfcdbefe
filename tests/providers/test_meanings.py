import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from providers.described import described, encoded

from monitor.model import BadBody, Cause, ItemState
from monitor.model.http import Meaning

ERRORS = [
    {"cause": "unauthorized", "path": "error.type", "values": ["no_db_connection"], "statuses": [400]},
    {"cause": "unauthorized", "path": "error.details.*.reason", "values": ["API_KEY_INVALID"]},
    {"cause": "unauthorized", "path": "code", "values": [109]},
    {"cause": "invalid", "path": "detail", "values": ["null"]},
    {"cause": "spending_limit", "statuses": [403], "path": "quota", "values": [False]},
    {"cause": "outage", "statuses": [418]},
]
NOT_FOUND = {"statuses": [400], "values": {"code": [102], "error.kind": ["NotFound"]}}
API = described(item={"not_found": NOT_FOUND}, errors=ERRORS)

MEANINGS = {
    "a code in a 200": (200, {"code": 109, "data": False}, Meaning.UNAUTHORIZED),
    "the same as a text": (200, {"code": "109"}, Meaning.UNAUTHORIZED),
    "another code": (200, {"code": 0}, None),
    "a code of a missing item": (200, {"code": 102, "message": "no such document"}, Meaning.NOT_FOUND),
    "the same with a 404": (404, {"code": 102}, Meaning.NOT_FOUND),
    "a type, in any case": (400, {"error": {"type": "No_DB_connection", "code": "400"}}, Meaning.UNAUTHORIZED),
    "the same type with another status": (500, {"error": {"type": "no_db_connection"}}, None),
    "one of many details": (
        400,
        {"error": {"details": [{"x": 1}, {"reason": "API_KEY_INVALID"}]}},
        Meaning.UNAUTHORIZED,
    ),
    "none of many details": (401, {"error": {"details": [{"reason": "OTHER"}]}}, None),
    "a null": (422, {"detail": None}, Meaning.INVALID),
    "no member at all": (422, {}, None),
    "a false": (403, {"quota": False}, Meaning.SPENDING_LIMIT),
    "a true": (403, {"quota": True}, None),
    "a status alone": (418, b"short and stout", Meaning.OUTAGE),
    "a status that means a missing item": (400, {"error": {"message": "File not found"}}, Meaning.NOT_FOUND),
    "the same, not JSON": (400, b"<html>", Meaning.NOT_FOUND),
    "nothing known": (200, {"status": "ready"}, None),
    "empty": (200, b"", None),
    "not JSON": (502, b"<html>", None),
}


@pytest.mark.parametrize(("status", "body", "expected"), MEANINGS.values(), ids=MEANINGS)
def test_an_answer_means_what_the_description_says(status, body, expected):
    assert API.read_meaning(status, encoded(body)) is expected


def test_errors_come_before_what_is_not_found():
    """A gateway's 400 for a wrong key, at an API whose 400 means a missing item."""
    assert API.read_meaning(400, encoded({"error": {"type": "no_db_connection"}, "code": 102})) is Meaning.UNAUTHORIZED


def test_a_description_without_meanings_has_none_to_read():
    assert described().read_meaning is None
    assert described(item={"not_found": {"absent": ["documents"]}}).read_meaning is None


def test_every_meaning_but_two_is_a_cause():
    assert {each.value for each in Meaning} - {"not_found", "invalid"} <= {each.value for each in Cause}


@given(
    st.integers(100, 599), st.binary(max_size=60) | st.builds(lambda n: json.dumps({"code": n}).encode(), st.integers())
)
def test_no_body_raises(status, body):
    assert API.read_meaning(status, body) in {None, *Meaning}


# --- no such item, in a 2xx ------------------------------------------------------------------------------------------

ABSENT = {
    "an empty list": ({"documents": []}, True),
    "an empty object": ({"documents": {}}, True),
    "a null": ({"documents": None}, True),
    "a null beside a message": ({"documents": None, "message": "no such document"}, True),
    "nothing there": ({"total": 0}, True),
    "nothing there, beside an error": ({"error": "Authentication failed"}, False),
    **{
        f"nothing there, beside {name}": ({name: value, "n": 1}, False)
        for name, value in {
            "errcode": 40001,
            "errorMessage": "x",
            "Message": "x",
            "success": False,
            "ok": False,
        }.items()
    },
    "nothing there, in a success": ({"success": True, "code": 0, "error": None, "fault": []}, True),
    "another form": ("documents", False),
    "no body": (None, False),
    "a document": ({"documents": [{"status": "ready"}]}, False),
    "a zero": ({"documents": 0}, False),
}


@pytest.mark.parametrize(("body", "absent"), ABSENT.values(), ids=ABSENT)
def test_an_absent_path_means_that_there_is_no_such_item(body, absent):
    provider = described(item={"status": "documents.*.status", "not_found": {"absent": ["documents"]}})
    found = provider.read_item(encoded(body), "x")
    assert (found is Meaning.NOT_FOUND) is absent
    if not absent:
        assert isinstance(found, BadBody) or found.state is ItemState.COMPLETED


@pytest.mark.parametrize(("body", "absent"), [(None, True), ([], True), ({}, True), ({"status": "ready"}, False)])
def test_the_empty_path_is_the_answer_itself(body, absent):
    found = described(item={"not_found": {"absent": [""]}}).read_item(encoded(body), "x")
    assert (found is Meaning.NOT_FOUND) is absent


def test_a_null_on_the_way_beside_an_error_is_no_missing_item():
    provider = described(item={"not_found": {"absent": ["data.documents"]}, "status": "data.status"})
    assert isinstance(provider.read_item(encoded({"data": None, "code": 500}), "x"), BadBody)
    assert provider.read_item(encoded({"data": None}), "x") is Meaning.NOT_FOUND


def test_a_value_means_it_before_the_id_is_compared():
    provider = described(item={"id": "id", "not_found": {"values": {"kind": ["Missing"]}}})
    assert provider.read_item(encoded({"kind": "missing"}), "x") is Meaning.NOT_FOUND
