"""Properties of every failed reply, with any bytes, headers and status."""

import dataclasses
import json
import re
import string
import sys
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from monitor.client.api_errors import FIELD_PATHS, parse_api_error
from monitor.client.retry_after import MAX_RETRY_AFTER, RETRY_AFTER_SOURCES
from monitor.model import Cause, ItemState
from monitor.model.http import ErrorDetail, Reply, plain_text
from monitor.runs.outcomes import outcome_from_error

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MARKUP = re.compile(r"<[a-zA-Z!/?]")
NAMES = ("code", "type", "field", "request_id", "trace_id", "fault")
ANSWERS = {ItemState.NOT_FOUND, ItemState.INVALID, ItemState.UNKNOWN}


def read(body, *, status=400, headers=None, reason="", now=NOW):
    return parse_api_error(Reply(status=status, headers=headers or {}, body=body, reason=reason), now=now)


def _texts(failure):
    yield from (text for name in NAMES if (text := getattr(failure, name)) is not None)
    yield from (text for text in (failure.error, failure.message) if text is not None)
    yield from (text for detail in failure.details for text in (detail.loc, detail.msg))
    yield from (text for header in failure.gateway for text in header)


def assert_storable(failure):
    for text in _texts(failure):
        assert text.isprintable()
        assert text.encode().decode() == text
        assert not MARKUP.search(text)
    assert failure.message
    assert all(len(getattr(failure, name) or "x") in range(1, 201) for name in NAMES)
    assert len(failure.error or "") <= 400
    assert len(failure.message) <= 500
    assert len(failure.details) <= 20
    assert all(len(detail.loc) <= 200 and len(detail.msg) <= 500 for detail in failure.details)
    assert all(len(value) <= 200 for _, value in failure.gateway)
    assert failure.retryable in {True, False, None}
    assert failure.retry_after is None or timedelta(0) < failure.retry_after <= MAX_RETRY_AFTER


HOSTILE = st.sampled_from(
    [
        "<b>",
        "</",
        "<!--",
        "<title>t</title>",
        "<html",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\ud800",
        "²",
        "é",
        "\u200b",
        "&lt;",
    ]
)
TEXTS = st.text(max_size=40) | st.lists(HOSTILE | st.text(max_size=3), max_size=8).map("".join) | st.text(max_size=700)
STEPS = sorted(
    {step for paths in FIELD_PATHS.values() for path in paths for step in path.split(".")} | {"loc", "msg", "input"}
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(STEPS) | st.text(max_size=5), inner, max_size=8)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(STEPS) | st.text(max_size=5), JSON, max_size=6)
STATUSES = st.integers(100, 599)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "location",
            "server",
            "via",
            "x-request-id",
            "x-amzn-requestid",
            "x-amzn-errortype",
            "date",
            "x-should-retry",
            *(s.header for s in RETRY_AFTER_SOURCES if s.header),
        ]
    )
    | st.text(max_size=5),
    TEXTS | st.integers(0, 10**14).map(str),
    max_size=8,
)


@given(STATUSES, st.binary(max_size=400), HEADERS, TEXTS)
def test_arbitrary_bytes_become_an_error_that_any_database_stores(status, body, headers, reason):
    assert_storable(read(body, status=status, headers=headers, reason=reason))


@given(STATUSES, JSON, HEADERS, TEXTS, st.booleans())
def test_arbitrary_json_becomes_an_error_that_any_database_stores(status, value, headers, reason, ascii_only):
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert_storable(read(body, status=status, headers=headers, reason=reason))


@given(STATUSES, TEXTS)
def test_arbitrary_text_becomes_an_error_that_any_database_stores(status, text):
    assert_storable(read(text.encode("utf-8", "surrogatepass"), status=status))
    assert_storable(read(f"<title>{text}</title>".encode("utf-16-le", "surrogatepass"), status=status))
    assert_storable(read(f"<Error><Code>{text}</Code><Message>{text}</Message>".encode("utf-8", "replace")))


@given(JSON, st.integers(0, 400))
def test_a_body_cut_at_any_byte_is_still_read(value, size):
    assert_storable(read(json.dumps(value).encode()[:size], status=502))


def test_every_status_is_kept_and_has_a_message():
    for status in range(100, 600):
        failure = read(b"", status=status)
        assert failure.status == status
        assert_storable(failure)


@given(st.integers(), st.text())
def test_any_number_is_accepted_as_status(status, reason):
    assert_storable(read(b"", status=status, reason=reason))


@given(STATUSES, JSON, HEADERS)
def test_reading_twice_gives_the_same_error(status, value, headers):
    body = json.dumps(value).encode()
    assert read(body, status=status, headers=headers) == read(body, status=status, headers=headers)


@given(JSON, st.text(string.ascii_letters, min_size=12, max_size=12))
def test_the_input_of_a_validation_error_is_never_kept(value, canary):
    detail = [{"loc": ["body"], "msg": "m", "input": canary, "ctx": {"input": canary}, "url": canary}]
    said = read(json.dumps({"x": value, "detail": detail, "input": canary}).encode(), status=422)
    assert canary not in repr(dataclasses.asdict(said))
    assert said.details == (ErrorDetail(loc="body", msg="m"),)


@given(OBJECTS, st.sampled_from(["a", "B_1", "Item not found"]))
def test_detail_code_takes_precedence_over_every_other_code(value, code):
    assert read(json.dumps({**value, "detail": {"code": code}}).encode()).code == code


@given(OBJECTS, st.sampled_from(["a", "B_1", "Item not found"]))
def test_codes_are_read_from_four_places_in_order(value, code):
    others = {name: value[name] for name in value.keys() - {"detail", "error", "code"}}
    assert read(json.dumps({**others, "error_code": "late", "code": code}).encode()).code == code
    assert read(json.dumps({**others, "code": "late", "error": {"code": code}}).encode()).code == code


@given(STATUSES.filter(lambda status: not 200 <= status < 300), JSON, HEADERS)
@example(403, {"detail": [{"loc": ["body"], "msg": "m"}]}, {})
def test_no_failed_reply_makes_an_item_healthy_or_pending(status, value, headers):
    failure = read(json.dumps(value).encode(), status=status, headers=headers)
    outcome = outcome_from_error("id", failure, NOW)
    assert outcome.state in ANSWERS
    assert (outcome.reason is not None) == (outcome.state is ItemState.UNKNOWN)


@given(st.lists(JSON, min_size=1, max_size=3), OBJECTS)
def test_a_403_with_a_list_of_details_is_about_the_request(details, value):
    failure = read(json.dumps({**value, "detail": details}).encode(), status=403)
    outcome = outcome_from_error("id", failure, NOW)
    assert outcome.state is ItemState.INVALID


@given(OBJECTS, st.none() | st.just([]) | TEXTS | OBJECTS)
def test_any_other_403_is_forbidden(value, detail):
    failure = read(json.dumps({**value, "detail": detail}).encode(), status=403)
    outcome = outcome_from_error("id", failure, NOW)
    assert (outcome.state, outcome.reason) == (ItemState.UNKNOWN, Cause.FORBIDDEN)


def test_a_nearly_exhausted_recursion_limit_does_no_harm():
    def dive(depth):
        return dive(depth - 1) if depth else read(b'{"detail":' * 500 + b"1" + b"}" * 500, status=502)

    assert_storable(dive(sys.getrecursionlimit() // 2))


@given(st.text(), st.integers(1, 50))
def test_plain_text_is_printable_bounded_and_stable(text, limit):
    plain = plain_text(text, limit)
    assert len(plain) <= limit
    assert plain.isprintable()
    assert plain_text(plain, limit) == plain
