import base64
import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from monitor.client.api_errors import parse_api_error
from monitor.client.redaction import make_redactor, redact_error, remembering
from monitor.logs import redact_text
from monitor.model.http import ApiError, ErrorDetail, Reply, Request

CANARY = "canary-key-7c1f"


def test_secrets_in_errors_are_masked_and_other_text_is_kept():
    texts = ("code", "error", "type", "message", "field", "request_id", "trace_id", "fault")
    error = ApiError(
        status=403,
        retryable=False,
        details=(ErrorDetail(loc=f"body.{CANARY}", msg=CANARY),),
        gateway=(("via", f"1.1 {CANARY}"),),
        **{name: f"{name} {CANARY}" for name in texts},
    )
    hidden = redact_error(error, lambda text: text.replace(CANARY, "*"))
    assert CANARY not in str(dataclasses.asdict(hidden))
    assert (hidden.status, hidden.retryable, hidden.message) == (403, False, "message *")
    assert hidden.details == (ErrorDetail(loc="body.*", msg="*"),)


def test_missing_fields_stay_missing():
    error = ApiError(status=503)
    assert redact_error(error, str.upper) == error


TOKEN = "Zq9/xW7+vK3/mP5~rT2=uY8/eB6+nH4/"
SPELLED = {
    "plain": TOKEN,
    "with slashes as PHP escapes them": TOKEN.replace("/", "\\/"),
    "escaped": "".join(f"\\u{ord(char):04x}" for char in TOKEN),
    "URL-encoded": quote(TOKEN, safe=""),
    "URL-encoded in lower case": re.sub("%..", lambda octet: octet[0].lower(), quote(TOKEN, safe="")),
    "URL-encoded, every character that is no letter": "".join(
        char if char.isalnum() else f"%{ord(char):02X}" for char in TOKEN
    ),
    "base64": base64.b64encode(TOKEN.encode()).decode(),
    "base64 of a whole header": base64.b64encode(f"Authorization: Bearer {TOKEN}".encode()).decode(),
    "base64 for URLs, off by one": base64.urlsafe_b64encode(f"x{TOKEN}".encode()).decode(),
}


def _given_away(text):
    """Whether eight consecutive characters of any encoding of the token are left."""
    spellings = {
        TOKEN,
        quote(TOKEN, safe=""),
        *(base64.b64encode(b"x" * n + TOKEN.encode()).decode()[4:-4] for n in range(3)),
    }
    return any(each[at : at + 8] in text for each in spellings for at in range(len(each) - 7))


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
@pytest.mark.parametrize("before", [0, 185, 195, 485, 495])
def test_every_encoding_of_a_credential_is_masked_in_a_failed_reply_cut_anywhere(spelled, before):
    text = "x" * before + " " + spelled
    body = (
        f'{{"code":"{text}","message":"{text}","request_id":"{text}","detail":[{{"loc":["{text}"],"msg":"{text}"}}]}}'
    )
    redact = make_redactor(TOKEN, str)
    for content in (body, f'["{text}"]', f'{{"name":["{text}"]}}'):
        error = parse_api_error(Reply(status=503, headers={}, body=content.encode()), redact=redact)
        assert not _given_away(str(dataclasses.asdict(redact_error(error, redact))))


@pytest.mark.parametrize("spelled", [text for name, text in SPELLED.items() if "\\" not in text])
@pytest.mark.parametrize("before", [0, 185, 195, 485, 495])
@pytest.mark.parametrize("status", [302, 503])
def test_every_encoding_of_a_credential_is_masked_in_headers_of_a_failed_reply(spelled, before, status):
    text, redact = "x" * before + spelled, make_redactor(TOKEN, str)
    headers = {"x-request-id": text, "server": text, "via": text, "location": f"https://{text}.example/"}
    error = parse_api_error(Reply(status=status, headers=headers, body=b"", reason=text), redact=redact)
    assert not _given_away(str(dataclasses.asdict(redact_error(error, redact))))


SHORT = ["x", "index", "COMPLET", "not_fou"]


@pytest.mark.parametrize("key", SHORT)
def test_a_short_credential_masks_nothing(key):
    """Seven characters would match ordinary words."""
    error = ApiError(status=404, code="not_found", message="no such index: COMPLETED", request_id="x-1")
    redact = make_redactor(key, str)
    assert redact_error(error, redact) == error
    assert redact(base64.b64encode(key.encode()).decode()) == base64.b64encode(key.encode()).decode()


def test_a_credential_is_masked_from_eight_characters_on():
    assert make_redactor("abcdefgh", str)("key abcdefgh refused") == "key ********** refused"


def test_what_is_remembered_is_masked_as_before():
    calls = []

    def redact(text):
        calls.append(text)
        return text.replace("secret-1", "*")

    masked = remembering(redact)
    assert [masked("a secret-1"), masked("a secret-1"), masked("b")] == ["a *", "a *", "b"]
    assert calls == ["a secret-1", "b"]
    assert masked("x" * 300 + "secret-1").endswith("*")


LAID_OUT = {
    "compact": json.dumps,
    "indented": lambda body: json.dumps(body, indent=2),
    "with CRLF": lambda body: json.dumps(body, indent=2).replace("\n", "\r\n"),
    "long": lambda body: json.dumps({"input": "x" * 5000, **body}),
    "with what looks like a secret": lambda body: json.dumps({"access_token": "x", "see": "https://x.y/z?q=1", **body}),
}


@pytest.mark.parametrize("lay_out", LAID_OUT.values(), ids=LAID_OUT)
def test_masking_keeps_errors_of_any_layout_readable(lay_out):
    """A mask that escapes line breaks and cuts at 2,000 characters must not run before the body is parsed."""
    body = {
        "detail": {"code": "SPENDING_LIMIT_EXCEEDED", "message": "no\nmore", "request_id": "r-1", "retryable": False},
        "retry_after": 7,
    }
    error = parse_api_error(
        Reply(status=429, headers={}, body=lay_out(body).encode()),
        redact=make_redactor(CANARY, redact_text),
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )
    assert (error.code, error.message, error.request_id) == ("SPENDING_LIMIT_EXCEEDED", "no more", "r-1")
    assert (error.retryable, error.retry_after) == (False, timedelta(seconds=7))


def test_repr_of_requests_and_replies_omits_their_content():
    secrets = {"authorization": "s3cret-canary"}
    asked = Request(method="GET", path="/s3cret-canary", template="/x", headers=secrets, body=b"s3cret-canary")
    came = Reply(status=200, headers=secrets, body=b"s3cret-canary")
    assert repr(asked) == "Request(method='GET', template='/x', operation=<Operation.READ: 'read'>)"
    assert repr(came) == "Reply(status=200)"


def test_without_a_credential_only_the_mask_applies():
    assert make_redactor("", str.upper)("a text") == "A TEXT"


def test_a_key_is_masked_as_javascript_encodes_it():
    key, encoded = "Zq9/it's(a)key!*", "Zq9%2Fit's(a)key!*"  # encodeURIComponent leaves !'()* as they are
    assert make_redactor(key, str)(f"key={encoded}&x=1") == "key=**********&x=1"
