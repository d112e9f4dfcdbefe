import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.failure import fault_error, read_failure
from monitor.exchange import ApiError, Detail, NetworkFault, Reply, WireFault, plain_text

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REFERENCE = json.loads(Path(__file__).with_name("reference_bodies.json").read_text(encoding="utf-8"))
RLO = "\u202e"


def read(body, *, status=400, headers=None, reason="", now=NOW):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_failure(Reply(status=status, headers=headers or {}, body=raw, reason=reason), now=now)


@pytest.mark.parametrize("row", REFERENCE, ids=[f"{row['source']} ({row['status']})" for row in REFERENCE])
def test_it_reads_every_literal_body_of_the_references(row):
    expected = dict(row["expected"])
    details = tuple(Detail(loc=loc, msg=msg) for loc, msg in expected.pop("details", ()))
    seconds = expected.pop("retry_after_s", None)
    retry_after = None if seconds is None else timedelta(seconds=seconds)
    failure = read(row["body"].encode(), status=row["status"], reason=httpx.codes.get_reason_phrase(row["status"]))
    assert failure == ApiError(status=row["status"], details=details, retry_after=retry_after, **expected)


@pytest.mark.parametrize("row", REFERENCE, ids=[row["source"] for row in REFERENCE])
def test_it_never_keeps_the_input_of_a_validation_error(row):
    body = row["body"].replace('"input": ', '"input": "CANARY", "was": ')
    assert "CANARY" not in repr(dataclasses.asdict(read(body.encode(), status=row["status"])))


ODD_BODIES = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "list of objects": b'[{"code": "x"}]',
    "number": b"42",
    "true": b"true",
    "empty object": b"{}",
    "truncated": b'{"detail": {"code": "x", "mess',
    "JSON text cut short": b'"document content',
    "not UTF-8": b"\xff\xfe\x00\x80",
    "NaN": b"NaN",
    "depth 100,000": b"[" * 100_000,
    "objects 100,000 deep": b'{"detail":' * 100_000 + b"1" + b"}" * 100_000,
    "markup without a title": b"<html><body><h1>Bad</h1></body></html>",
    "markup cut short": b"<!DOCTYPE html><html><head><title>502 Bad",
    "a wall of openings": b"<title" * 100_000,
    "everything null": b'{"code": null, "error": null, "detail": null, "message": null, "request_id": null}',
    "everything a list": b'{"code": [], "error": [], "message": [], "type": [], "trace_id": [], "retryable": []}',
    "blank texts": b'{"code": " ", "error": "", "detail": "\\u0000", "message": "\\n"}',
}


@pytest.mark.parametrize("status", [404, 502])
@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
def test_a_body_that_says_nothing_leaves_the_reason_phrase(body, status):
    failure = read(body, status=status, reason="The Reason")
    assert failure == ApiError(status=status, message="The Reason")


SAID = {
    "NaN beside the code": (b'{"code": "limited", "limit": NaN}', {"code": "limited"}),
    "duplicate keys: the last": (b'{"code": "a", "code": "b"}', {"code": "b"}),
    "lone surrogate": (b'{"code": "a\\ud800b"}', {"code": "a b"}),
    "control characters": (b'{"message": "a\\u0000b\\r\\nc\\u001b[31m"}', {"message": "a b c [31m"}),
    "bidi controls": (f'{{"message": "{RLO}abc"}}'.encode(), {"message": "abc"}),
    "byte order mark": (b'\xef\xbb\xbf{"code": "x"}', {"code": "x"}),
    "Latin-1 inside": (b'{"message": "caf\xe9"}', {"message": "caf\ufffd"}),
    "numeric code": (b'{"code": 1234}', {"code": "1234"}),
    "integer of 5,000 digits": (b'{"code": "x", "n": ' + b"9" * 5000 + b"}", {"code": "x"}),
    "code in a boolean is no code": (b'{"code": true, "error_code": "E"}', {"code": "E"}),
    "detail before error": ({"detail": {"code": "d"}, "error": {"code": "e"}, "code": "c"}, {"code": "d"}),
    "error before top level": ({"error": {"code": "e"}, "code": "c", "error_code": "x"}, {"code": "e"}),
    "code before error_code": ({"code": "c", "error_code": "x"}, {"code": "c"}),
    "OAuth error": (
        {"error": "invalid_client", "error_description": "Unknown client"},
        {"error": "invalid_client", "message": "Unknown client"},
    ),
    "JSON text": (b'"Try again"', {"message": "Try again"}),
    "plain text": (b"upstream connect error\n", {"message": "upstream connect error"}),
    "HTML title": (b"<html><head><title>502 Bad\n Gateway</title>", {"message": "502 Bad Gateway"}),
    "escaped markup in a title": (b"<TITLE>&lt;b&gt;It&#39;s down</TITLE>", {"message": "b It's down"}),
    "ids in the error object": (
        {"error": {"request_id": "r1", "trace_id": "t1"}},
        {"request_id": "r1", "trace_id": "t1"},
    ),
    "ids in the detail object": (
        {"detail": {"request_id": "r", "trace_id": "t"}},
        {"request_id": "r", "trace_id": "t"},
    ),
    "top level id first": ({"request_id": "top", "error": {"request_id": "in"}}, {"request_id": "top"}),
    "field of the detail": ({"detail": {"field": "name", "type": "t"}}, {"field": "name", "type": "t"}),
    "retryable is a boolean only": ({"retryable": "yes", "error": {"retryable": 1}}, {"retryable": None}),
    "fault and retryable of the top level": (
        {"fault": "client", "retryable": False},
        {"fault": "client", "retryable": False},
    ),
    "retry_after of the error": ({"error": {"retry_after": 3}}, {"retry_after": timedelta(seconds=3)}),
}


@pytest.mark.parametrize(("body", "expected"), SAID.values(), ids=SAID)
def test_it_keeps_what_was_said(body, expected):
    failure = read(body, reason="The Reason")
    assert {name: getattr(failure, name) for name in expected} == expected


def test_the_request_id_may_stand_in_a_header():
    assert read(b"", headers={"x-request-id": "req-1"}).request_id == "req-1"


def test_a_missing_reason_phrase_is_filled_in():
    assert (read(b"", status=404).message, read(b"", status=599).message) == ("Not Found", "HTTP 599")


@pytest.mark.parametrize(
    ("header", "body", "retryable"),
    [
        ("false", {"retryable": True}, False),
        ("FALSE ", {}, False),
        ("true", {}, None),
        ("true", {"retryable": False}, False),
    ],
)
def test_the_should_retry_header_vetoes_and_never_grants(header, body, retryable):
    assert read(body, headers={"x-should-retry": header}).retryable is retryable


def test_without_a_clock_no_hint_is_read():
    assert read({"retry_after": 5}, now=None).retry_after is None


LOCATIONS = {
    "other host": ("https://evil.example/x?token=CANARY", "redirected to host evil.example"),
    "user in the location": ("https://u:CANARY@evil.example", "redirected to host evil.example"),
    "same host": ("/login?next=CANARY", "redirected to another path of the same host"),
    "garbage": ("http://[CANARY", "redirected to an address that can't be read"),
}


@pytest.mark.parametrize(("location", "message"), LOCATIONS.values(), ids=LOCATIONS)
def test_a_redirect_names_the_host_it_points_to_and_nothing_else(location, message):
    failure = read(b"<title>Moved</title>", status=302, headers={"location": location})
    assert failure.message == f"{message}; redirects are never followed"
    assert "CANARY" not in repr(dataclasses.asdict(failure))


@pytest.mark.parametrize(("status", "redirected"), [(299, False), (300, True), (399, True), (400, False)])
def test_only_the_three_hundreds_redirect(status, redirected):
    failure = read(b"", status=status, headers={"location": "https://evil.example"})
    assert failure.message.startswith("redirected to host evil.example") == redirected


def test_a_status_of_three_hundreds_without_a_location_is_read_like_any_other():
    assert read(b"", status=304).message == "Not Modified"


GATEWAY = {"server": "nginx", "via": "1.1 proxy\u202e", "x-request-id": "r", "set-cookie": "CANARY"}


@pytest.mark.parametrize(
    ("status", "body", "gateway"),
    [
        (502, b"<html>", (("server", "nginx"), ("via", "1.1 proxy"), ("x-request-id", "r"))),
        (500, b"", (("server", "nginx"), ("via", "1.1 proxy"), ("x-request-id", "r"))),
        (502, b"{}", ()),
        (404, b"<html>", ()),
    ],
)
def test_a_gateways_headers_are_kept_only_for_its_own_5xx(status, body, gateway):
    assert read(body, status=status, headers=GATEWAY).gateway == gateway


def test_validation_details_are_bounded():
    entries = [{"loc": ["body", 7, None, "x" * 300], "msg": "m" * 900}] * 30 + ["more"]
    details = read({"detail": entries}, status=422).details
    assert len(details) == 20
    assert details[0].loc.startswith("body.7.xxx")
    assert (len(details[0].loc), len(details[0].msg)) == (200, 500)


def test_validation_details_may_be_texts_or_lack_their_parts():
    details = read({"detail": ["wrong", {"loc": "body"}, {"msg": "m"}, 5]}).details
    assert details == (Detail(loc="", msg="wrong"), Detail(loc="body", msg=""), Detail(loc="", msg="m"))


@pytest.mark.parametrize("fault", list(NetworkFault))
def test_a_fault_of_the_wire_becomes_an_error_without_status(fault):
    said = fault_error(WireFault(fault=fault, text="our\nwords"), from_token_endpoint=True)
    assert said == ApiError(status=None, network=fault, message="our words", from_token_endpoint=True)
    assert fault_error(WireFault(fault=fault, text="")).message == f"no usable answer ({fault})"


def test_it_marks_what_came_from_the_token_endpoint():
    assert read_failure(Reply(status=401, headers={}, body=b""), from_token_endpoint=True).from_token_endpoint


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def assert_storable(failure):
    for text in _texts(dataclasses.asdict(failure)):
        assert len(text) <= 500
        assert text.isprintable()
        text.encode()
    assert failure.message
    assert len(failure.code or "") <= 200
    assert len(failure.request_id or "") <= 200


WORDS = "code error detail message error_code type field fault retryable request_id trace_id loc msg retry_after"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=700),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(WORDS.split(" ")) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=20,
)
STATUSES = st.integers(100, 999)
HEADERS = st.dictionaries(
    st.sampled_from(["location", "server", "via", "x-request-id", "retry-after", "date", "x-should-retry"]), st.text()
)


@given(STATUSES, st.binary(max_size=400), HEADERS)
def test_arbitrary_bytes_become_an_error_that_any_database_takes(status, body, headers):
    assert_storable(read(body, status=status, headers=headers))


@given(STATUSES, JSON, HEADERS, st.booleans())
def test_arbitrary_json_becomes_an_error_that_any_database_takes(status, value, headers, ascii_only):
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert_storable(read(body, status=status, headers=headers))


@given(st.text(), st.integers(1, 50))
def test_plain_text_is_printable_bounded_and_stable(text, limit):
    plain = plain_text(text, limit)
    assert len(plain) <= limit
    assert plain.isprintable()
    assert plain_text(plain, limit) == plain
