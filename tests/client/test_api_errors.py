import dataclasses
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from monitor.client.api_errors import FIELD_PATHS, parse_api_error, transport_api_error
from monitor.model.http import ApiError, ErrorDetail, NetworkFault, Reply, TransportFault

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REFERENCE = json.loads(Path(__file__).with_name("reference_bodies.json").read_text(encoding="utf-8"))
OTHERS = json.loads(Path(__file__).with_name("other_bodies.json").read_text(encoding="utf-8"))
RLO = "\u202e"


def read(body, *, status=400, headers=None, reason="", now=NOW):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_api_error(Reply(status=status, headers=headers or {}, body=raw, reason=reason), now=now)


@pytest.mark.parametrize("row", REFERENCE, ids=[f"{row['source']} ({row['status']})" for row in REFERENCE])
def test_every_literal_body_of_the_references_is_read(row):
    expected = dict(row["expected"])
    details = tuple(ErrorDetail(loc=loc, msg=msg) for loc, msg in expected.pop("details", ()))
    seconds = expected.pop("retry_after_s", None)
    retry_after = None if seconds is None else timedelta(seconds=seconds)
    failure = read(row["body"].encode(), status=row["status"], reason=httpx.codes.get_reason_phrase(row["status"]))
    assert failure == ApiError(status=row["status"], details=details, retry_after=retry_after, **expected)


@pytest.mark.parametrize("row", REFERENCE, ids=[row["source"] for row in REFERENCE])
def test_the_input_of_a_validation_error_is_never_kept(row):
    body = row["body"].replace('"input": ', '"input": "CANARY", "was": ')
    assert "CANARY" not in repr(dataclasses.asdict(read(body.encode(), status=row["status"])))


ODD_BODIES = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "list of numbers": b"[1.5, {}]",
    "number": b"42",
    "true": b"true",
    "empty object": b"{}",
    "truncated": b'{"detail": {"code": "x", "mess',
    "JSON text cut short": b'"document content',
    "JSON cut short behind blanks": b'\n\t {"detail": "x',
    "not UTF-8": b"\xff\xfe\x00\x80",
    "NaN": b"NaN",
    "depth 100,000": b"[" * 100_000,
    "objects 100,000 deep": b'{"detail":' * 100_000 + b"1" + b"}" * 100_000,
    "markup without a title": b"<html><body><p>Bad</p></body></html>",
    "markup cut short": b"<!DOCTYPE html><html><head><title>502 Bad",
    "a wall of openings": b"<title" * 100_000,
    "everything null": b'{"code": null, "error": null, "detail": null, "message": null, "request_id": null}',
    "everything a list": b'{"code": [], "error": [], "message": [], "type": [], "trace_id": [], "retryable": []}',
    "blank texts": b'{"code": " ", "error": "", "detail": "\\u0000", "message": "\\n"}',
}


@pytest.mark.parametrize("status", [404, 502])
@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
def test_an_empty_body_leaves_the_reason_phrase(body, status):
    failure = read(body, status=status, reason="The Reason")
    assert dataclasses.replace(failure, page=None) == ApiError(status=status, message="The Reason")
    assert not failure.page or body == b"NaN"


SAID = {
    "a list of texts": (b'["no", "yes"]', {"message": "no"}),
    "a list: its first object": (b'[{"code": "x", "message": "m"}, 2]', {"code": "x", "message": "m"}),
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
def test_each_field_is_kept(body, expected):
    failure = read(body, reason="The Reason")
    assert {name: getattr(failure, name) for name in expected} == expected


def _merged(one, other):
    """Both bodies merged; empty if they conflict."""
    if isinstance(one, list) and isinstance(other, list):
        return [inner] if (inner := _merged(one[0], other[0])) else []
    if not isinstance(one, dict) or not isinstance(other, dict):
        return {}
    both = {**one, **other}
    for name in one.keys() & other.keys():
        both[name] = _merged(one[name], other[name])
    return both if all(both.values()) else {}


def _body(path, value):
    for step in reversed(path.split(".")):
        value = [value] if step == "0" else {step: value}
    return value


ONE_PLACE = [(field.split(",")[0], path) for field, paths in FIELD_PATHS.items() for path in paths]


@pytest.mark.parametrize(("field", "path"), ONE_PLACE)
def test_each_place_is_read_on_its_own(field, path):
    value, expected = {"retryable": (False, False), "retry_after": (7, timedelta(seconds=7))}.get(
        field, ("said", "said")
    )
    assert getattr(read(_body(path, value)), field) == expected


EARLIER_AND_LATER = [
    (field, first, then)
    for field in ("code", "error", "type", "message", "field", "request_id", "trace_id", "fault")
    for first, then in itertools.combinations(FIELD_PATHS[field], 2)
    if _merged(_body(first, "first"), _body(then, "then"))
]


def test_the_earlier_of_two_places_counts():
    for field, first, then in EARLIER_AND_LATER:
        body = _merged(_body(then, "then"), _body(first, "first"))
        assert getattr(read(body), field) == "first", (field, first, then)


WORDS = {
    "a word where codes stand is the last resort": ({"error": "invalid_grant", "code": "c"}, 400, "c"),
    "a sentence is no code": ({"error": "Not allowed"}, 400, None),
    "a word with digits is no code: it may be a name": ({"error": "report7"}, 400, None),
    "hyphens and underscores join a word": ({"reason": "not-a_word"}, 400, "not-a_word"),
    "none stand at its ends": ({"reason": "_word"}, 400, None),
    "a type's name space is left out": ({"__type": "com.aws.v2#Throttling"}, 400, "Throttling"),
    "words beyond ASCII are no code": ({"reason": "größe"}, 400, None),
    "a number that repeats the status is passed over": ({"error": {"code": 429, "status": "SPENT"}}, 429, "SPENT"),
    "a text that repeats the status is passed over": ({"code": "404", "reason": "NotFound"}, 404, "NotFound"),
    "a later code is better than the status": ({"code": 404, "error_code": "E"}, 404, "E"),
    "the status is a code where nothing else is": ({"code": 404}, 404, "404"),
    "another number is a code": ({"code": 4040, "reason": "NotFound"}, 404, "4040"),
}


@pytest.mark.parametrize(("body", "status", "code"), WORDS.values(), ids=WORDS)
def test_the_most_specific_code_is_found(body, status, code):
    assert read(body, status=status).code == code


@pytest.mark.parametrize("row", OTHERS, ids=[f"{row['source']} ({row['status']})" for row in OTHERS])
def test_errors_of_other_apis_and_gateways_are_read(row):
    said = read(row["body"].encode(), status=row["status"], reason="The Reason")
    expected = dict.fromkeys(("code", "error", "type", "field", "request_id", "trace_id")) | row["expected"]
    assert {name: getattr(said, name) for name in expected} == expected
    assert "CANARY" not in repr(dataclasses.asdict(said))


MARKUP = {
    "a page inside a text: its title": ("Bad: <html><head><title>It &amp; all</title>", "It & all"),
    "escaped markup in a page's title": ("<html><title>&lt;html&gt; is &lt;b&gt;down</title>", "html is b down"),
    "a page without a title: its heading": ("<!DOCTYPE html><h1>Down</h1>", "Down"),
    "a page without either says nothing": ("<!DOCTYPE html><p>Down</p>", "The Reason"),
    "a script loses its brackets": ("<script>alert(1)</script>", "script alert(1) /script"),
    "a placeholder loses its brackets": ("Field <name> is wrong", "Field name is wrong"),
    "an open tag loses its bracket": ("see <a href=x", "see a href=x"),
    "brackets inside brackets": ("<<b>> <!-- c -->", "< b > !-- c --"),
    "comparisons stay": ("1 < 2 and a <3", "1 < 2 and a <3"),
    "a processing instruction": ("<?php x ?>", "?php x ?"),
}


@pytest.mark.parametrize(("text", "message"), MARKUP.values(), ids=MARKUP)
def test_a_message_is_never_markup(text, message):
    assert read({"message": text}, reason="The Reason").message == message
    assert read({"detail": [text]}).details[0].msg == message.replace("The Reason", "")


def test_markup_in_the_reason_phrase_and_in_headers_loses_its_brackets():
    said = read(b"", status=502, reason="<b>x", headers={"server": "<i>", "x-request-id": "<r>"})
    assert (said.message, said.request_id) == ("b x", "r")
    assert said.gateway == (("server", "i"), ("x-request-id", "r"))


LONG = {
    "code": ({"code": "x" * 201}, "code", 200),
    "one word": ({"reason": "x" * 201}, "code", 200),
    "error": ({"error": "x" * 401}, "error", 400),
    "type": ({"type": "x" * 201}, "type", 200),
    "message": ({"message": "x" * 501}, "message", 500),
    "message from a list": ({"name": ["x" * 501]}, "message", 500),
    "field": ({"field": "x" * 201}, "field", 200),
    "request id": ({"request_id": "x" * 201}, "request_id", 200),
    "trace id": ({"trace_id": "x" * 201}, "trace_id", 200),
    "fault": ({"fault": "x" * 201}, "fault", 200),
    "plain text": (b"x" * 501, "message", 500),
    "HTML title": (b"<title>" + b"x" * 501 + b"</title>", "message", 500),
}


@pytest.mark.parametrize(("body", "field", "chars"), LONG.values(), ids=LONG)
def test_a_text_is_cut_at_its_limit_and_not_before(body, field, chars):
    assert len(getattr(read(body), field)) == chars
    shorter = (
        json.dumps(body).replace("xx", "x", 1).encode() if isinstance(body, dict) else body.replace(b"xx", b"x", 1)
    )
    assert len(getattr(read(shorter), field)) == chars


def test_texts_from_headers_and_the_status_line_are_cut_too():
    said = read(b"", status=500, reason="x" * 501, headers={"x-request-id": "x" * 201, "server": "x" * 201})
    assert (len(said.message), len(said.request_id), len(said.gateway[0][1])) == (500, 200, 200)
    assert len(transport_api_error(TransportFault(fault=NetworkFault.DNS, text="x" * 501)).message) == 500
    moved = read(b"", status=302, headers={"location": f"https://{'x' * 201}"})
    assert moved.message == f"redirected to host {'x' * 200}; redirects are never followed"


def _page(bytes_before_the_end):
    page = b"<title>T</title"
    return b"<" + b"!" * (bytes_before_the_end - len(page) - 1) + page


@pytest.mark.parametrize(("size", "message"), [(16_384, "T"), (16_385, "Bad Request")])
def test_a_title_is_looked_for_in_the_first_16_384_characters(size, message):
    assert read(_page(size)).message == message
    assert read({"message": _page(size).decode()}).message == message


@pytest.mark.parametrize(("chars", "message"), [(1000, "T"), (1001, "Bad Request")])
def test_a_title_has_at_most_1000_characters(chars, message):
    assert read(b"<title>T" + b" " * (chars - 1) + b"</title>").message == message


@pytest.mark.parametrize(("attributes", "message"), [(200, "T"), (201, "Bad Request")])
def test_a_title_may_have_attributes(attributes, message):
    assert read(b"<title" + b" " * attributes + b">T</title>").message == message


@pytest.mark.parametrize(("chars", "code"), [(2000, "C"), (2001, None)])
def test_an_element_of_an_xml_error_has_at_most_2000_characters(chars, code):
    assert read(b"<Error><Code>C</Code><Message>" + b"m" * chars + b"</Message></Error>").code == code


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(("digits", "said"), [("9" * 20, True), ("1" + "0" * 20, False), ("9" * 5000, False)])
def test_an_integer_of_over_20_digits_is_not_a_code(sign, digits, said):
    number = sign + digits
    assert read(b'{"code": %s}' % number.encode()).code == (number if said else None)


@pytest.mark.parametrize("digits", ["9" * 20, "9" * 21, "9" * 400, "9" * 4300, "9" * 4301, "9" * 100_000])
def test_a_huge_retry_after_counts_as_an_hour(digits):
    assert read(b'{"retry_after": %s}' % digits.encode()).retry_after == timedelta(hours=1)


@pytest.mark.parametrize(
    "number", ["-" + "9" * 400, "-" + "9" * 5000, "NaN", "Infinity", "-Infinity", "1e999", "true", "[5]", '"\u0663"']
)
def test_a_retry_after_that_names_no_time_is_no_hint(number):
    assert read(b'{"retry_after": %s}' % number.encode()).retry_after is None


def test_the_first_retry_after_is_read():
    assert read({"retry_after": "soon", "error": {"retry_after": 5}}).retry_after is None
    assert read({"retry_after": None, "error": {"retry_after": 5}}).retry_after == timedelta(seconds=5)


def test_the_first_retryable_counts():
    assert read({"retryable": True, "error": {"retryable": False}}).retryable is False
    assert read({"retryable": True, "error": {"retryable": None}}).retryable is True


def test_secrets_are_masked_before_texts_are_cut():
    secret = "s3cret" * 20
    body = {"message": f"{'x' * 450} {secret}", "code": secret, "detail": [{"loc": [secret], "msg": secret}]}

    def redact(text):
        return text.replace(secret, "*")

    raw = json.dumps(body).encode()
    said = parse_api_error(Reply(status=401, headers={}, body=raw), redact=redact)
    assert said.message == f"{'x' * 450} *"
    assert (said.code, said.details) == ("*", (ErrorDetail(loc="*", msg="*"),))
    assert (
        parse_api_error(Reply(status=401, headers={}, body=f"key {secret}".encode()), redact=redact).message == "key *"
    )


DETAIL_LISTS = {
    "entries": ([{"msg": "m"}], 1),
    "texts": (["m"], 1),
    "anything": ([None], 1),
    "nothing": ([], 0),
    "20": (["m"] * 20, 20),
    "21": (["m"] * 21, 20),
}


@pytest.mark.parametrize(("detail", "count"), DETAIL_LISTS.values(), ids=DETAIL_LISTS)
def test_a_nonempty_list_of_details_is_kept(detail, count):
    assert len(read({"detail": detail}, status=403).details) == count


LOCATED = {
    "a path": (["body", "a", 0, "b"], "body.a.0.b"),
    "one name": ("name", "name"),
    "one number": (3, "3"),
    "nothing": (None, ""),
    "an object": ({"x": "y"}, ""),
    "booleans and blanks are passed over": (["a", True, "", " ", 1.5, "b"], "a.b"),
    "20 parts": (["a"] * 20, ".".join("a" * 20)),
    "21 parts": (["a"] * 21, ".".join("a" * 20)),
    "200 characters": (["a" * 150, "b" * 49], "a" * 150 + "." + "b" * 49),
    "201 characters": (["a" * 150, "b" * 50], "a" * 150 + "." + "b" * 49),
}


@pytest.mark.parametrize(("loc", "dotted"), LOCATED.values(), ids=LOCATED)
def test_a_detail_has_its_location_as_a_dotted_path(loc, dotted):
    assert read({"detail": [{"loc": loc, "msg": "m"}]}).details == (ErrorDetail(loc=dotted, msg="m"),)


FIRST_WORDS = {
    "of a detail": ({"detail": [{"loc": ["a"]}, {"loc": ["b"], "msg": "m"}]}, "b: m"),
    "of a detail without a place": ({"detail": ["m"]}, "m"),
    "a message before details": ({"detail": [{"loc": ["a"], "msg": "m"}], "message": "said"}, "said"),
    "of an object of lists": ({"a": [], "b": [{}], "c": ["no", "yes"], "d": ["x"]}, "c: no"),
    "of an object of 20 lists": ({**{str(n): [] for n in range(19)}, "c": ["no"]}, "c: no"),
    "of no object of 21 lists": ({**{str(n): [] for n in range(20)}, "c": ["no"]}, "The Reason"),
    "of an object of lists in `errors`": ({"errors": {"a": ["no"]}, "x": 1}, "a: no"),
    "of no object with other members": ({"a": ["no"], "b": 1}, "The Reason"),
    "of nothing": ({"a": [], "errors": {}}, "The Reason"),
    "a detail without words": ({"detail": [{"loc": ["a"]}]}, "The Reason"),
}


@pytest.mark.parametrize(("body", "message"), FIRST_WORDS.values(), ids=FIRST_WORDS)
def test_without_a_message_the_first_detail_is_the_message(body, message):
    assert read(body, reason="The Reason").message == message


def test_the_request_id_may_be_in_a_header():
    assert read(b"", headers={"x-request-id": "req-1"}).request_id == "req-1"


def test_aws_names_the_request_in_a_header_of_its_own():
    assert read(b"", headers={"x-amzn-requestid": "r-2"}).request_id == "r-2"
    assert read(b"", headers={"x-amzn-requestid": "r-2", "x-request-id": "r-1"}).request_id == "r-1"
    assert read({"request_id": "r-0"}, headers={"x-amzn-requestid": "r-2"}).request_id == "r-0"


NAMED = {
    "with its namespace": (
        "ExpiredTokenException:http://internal.amazon.com/coral/com.amazon/",
        "ExpiredTokenException",
    ),
    "alone": ("ThrottlingException", "ThrottlingException"),
    "behind its shape": ("com.amazon.coral.service#AccessDeniedException", "AccessDeniedException"),
    "no word": ("what is wrong?", None),
    "empty": ("", None),
    "only a namespace": (":http://internal.amazon.com/", None),
}


@pytest.mark.parametrize(("header", "code"), NAMED.values(), ids=NAMED)
def test_aws_names_the_error_in_a_header(header, code):
    headers = {"x-amzn-errortype": header}
    assert read({"message": "no"}, status=403, headers=headers).code == code
    assert read({"code": "own"}, status=403, headers=headers).code == "own"


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


@pytest.mark.parametrize(
    ("headers", "status", "wait_s"),
    [
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 500, 30),
        ({"x-ratelimit-reset": "5"}, 429, 5),
        ({"x-ratelimit-reset": "5"}, 500, None),
    ],
)
def test_hints_depend_on_our_clock_and_the_status(headers, status, wait_s):
    said = read({}, headers=headers, status=status).retry_after
    assert said == (None if wait_s is None else timedelta(seconds=wait_s))


def test_without_a_clock_no_hint_is_read():
    assert read({"retry_after": 5}, now=None).retry_after is None


LOCATIONS = {
    "other host": ("https://evil.example/x?token=CANARY", "redirected to host evil.example"),
    "user in the location": ("https://u:CANARY@evil.example", "redirected to host evil.example"),
    "same host": ("/login?next=CANARY", "redirected to another path of the same host"),
    "garbage": ("http://[CANARY", "redirected to an unreadable address"),
    "markup": ("https://<b>CANARY", "redirected to an unreadable address"),
    "a port": ("https://evil.example:8443/CANARY", "redirected to host evil.example"),
    "an IPv6 address": ("https://[::1]/CANARY", "redirected to host ::1"),
    "another script": ("https://bücher.example/CANARY", "redirected to host bücher.example"),
}


@pytest.mark.parametrize(("location", "message"), LOCATIONS.values(), ids=LOCATIONS)
def test_a_redirect_names_the_host_it_points_to_and_nothing_else(location, message):
    failure = read(b"<title>Moved</title>", status=302, headers={"location": location})
    assert failure.message == f"{message}; redirects are never followed"
    assert "CANARY" not in repr(dataclasses.asdict(failure))


@pytest.mark.parametrize(("status", "redirected"), [(299, False), (300, True), (399, True), (400, False)])
def test_only_3xx_statuses_redirect(status, redirected):
    failure = read(b"", status=status, headers={"location": "https://evil.example"})
    assert failure.message.startswith("redirected to host evil.example") == redirected


def test_a_3xx_without_a_location_is_read_like_any_other_status():
    assert read(b"", status=304).message == "Not Modified"


GATEWAY = {"server": "nginx", "via": "1.1 proxy\u202e", "x-request-id": "r", "set-cookie": "CANARY"}


@pytest.mark.parametrize(
    ("status", "body", "gateway"),
    [
        (502, b"<html>", (("server", "nginx"), ("via", "1.1 proxy"), ("x-request-id", "r"))),
        (500, b"", (("server", "nginx"), ("via", "1.1 proxy"), ("x-request-id", "r"))),
        (502, b"{}", ()),
        (404, b"<html>", (("server", "nginx"), ("via", "1.1 proxy"), ("x-request-id", "r"))),
        (404, b"404 page not found", (("server", "nginx"), ("via", "1.1 proxy"), ("x-request-id", "r"))),
        (404, b"{}", ()),
        (404, b"", ()),
    ],
)
def test_a_gateways_headers_are_kept_for_its_own_pages_and_for_a_5xx_that_is_not_json(status, body, gateway):
    assert read(body, status=status, headers=GATEWAY).gateway == gateway


def test_validation_details_are_bounded():
    entries = [{"loc": ["body", 7, None, "x" * 300], "msg": "m" * 900}] * 30 + ["more"]
    details = read({"detail": entries}, status=422).details
    assert len(details) == 20
    assert details[0].loc.startswith("body.7.xxx")
    assert (len(details[0].loc), len(details[0].msg)) == (200, 500)


def test_validation_details_may_be_texts_or_lack_their_parts():
    details = read({"detail": ["wrong", {"loc": "body"}, {"msg": "m"}, 5, None]}).details
    said = [("", "wrong"), ("body", ""), ("", "m"), ("", "5"), ("", "")]
    assert details == tuple(ErrorDetail(loc=loc, msg=msg) for loc, msg in said)


@pytest.mark.parametrize("fault", list(NetworkFault))
def test_a_network_fault_becomes_an_error_without_status(fault):
    said = transport_api_error(TransportFault(fault=fault, text="our\nwords"), from_token_endpoint=True)
    assert said == ApiError(status=None, network=fault, message="our words", from_token_endpoint=True)
    bare = transport_api_error(TransportFault(fault=fault, text=""))
    assert bare == ApiError(status=None, network=fault, message=f"no usable answer ({fault})")


def test_errors_of_the_token_endpoint_are_marked():
    assert parse_api_error(Reply(status=401, headers={}, body=b""), from_token_endpoint=True).from_token_endpoint
