"""Pages as the gateways themselves send them: with the API's own JSON beside, nothing may be taken for the other."""

import json

import pytest
from support.samples import NOW

from monitor.client.api_errors import parse_api_error, parse_unusable
from monitor.client.classify import accepts_credentials, cause_of, is_absent, is_gateways, is_invalid_id
from monitor.client.pages import gateway_page, page_words
from monitor.model import Cause, ItemState
from monitor.model.http import ApiError, Reply
from monitor.runs.outcomes import outcome_from_error


def nginx(text, heading=None):
    head = f"<html>\r\n<head><title>{text}</title></head>\r\n<body>\r\n<center><h1>{heading or text}</h1></center>\r\n"
    return (head + "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n").encode()


HTML, TEXT = "text/html", "text/plain; charset=utf-8"
PAGES = {
    "nginx, no client certificate": (
        400, HTML, nginx("400 No required SSL certificate was sent", "400 Bad Request"),
        "400 No required SSL certificate was sent", "a client certificate is required",
    ),
    "nginx, HTTP on the HTTPS port": (
        400, HTML, nginx("400 The plain HTTP request was sent to HTTPS port", "400 Bad Request"),
        "400 The plain HTTP request was sent to HTTPS port", "HTTP was sent to an HTTPS port",
    ),
    "nginx, headers too large": (
        400, HTML, nginx("400 Request Header Or Cookie Too Large", "400 Bad Request"),
        "400 Request Header Or Cookie Too Large", "the headers are too large",
    ),
    "nginx, deny": (403, HTML, nginx("403 Forbidden"), "403 Forbidden", "access is denied"),
    "nginx, no location": (404, HTML, nginx("404 Not Found"), "404 Not Found", "no such path or host"),
    "nginx, gone": (410, HTML, nginx("410 Gone"), "410 Gone", "gone"),
    "Traefik, no router": (404, TEXT, b"404 page not found\n", "404 page not found", "no such path or host"),
    "Go's net/http, no TLS": (
        400, TEXT, b"Client sent an HTTP request to an HTTPS server.\n",
        "Client sent an HTTP request to an HTTPS server.", "HTTP was sent to an HTTPS port",
    ),
    "Apache, %2F": (
        404, "text/html; charset=iso-8859-1",
        b'<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><title>404 Not Found</title></html>',
        "404 Not Found", "no such path or host",
    ),
    "HAProxy, deny: a heading": (
        403, HTML,
        b"<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n",
        "403 Forbidden: Request forbidden by administrative rules.", "access is denied",
    ),
    "a title in another charset": (
        404, "text/html; charset=iso-8859-1", "<title>P\xe1gina n\xe3o encontrada</title>".encode("latin-1"),
        "P\xe1gina n\xe3o encontrada", "another page",
    ),
    "without a content type": (404, "", b"no route", "no route", "no such path or host"),
    "HTML that is declared as JSON": (404, "application/json", nginx("404 Not Found"), "404 Not Found",
                                      "no such path or host"),
    "a charset that nobody knows": (404, "text/html; charset=klingon", nginx("404 Not Found"), "404 Not Found",
                                    "no such path or host"),
    "a page without a title": (404, HTML, b"<html><body>oops</body></html>", "", "another page"),
    "a number as text": (404, TEXT, b"404", "404", "another page"),
    "text in quotes": (404, TEXT, b'"404 page not found"', '"404 page not found"', "no such path or host"),
    "text in brackets": (
        403, TEXT, b"[403] Forbidden by policy", "[403] Forbidden by policy", "access is denied",
    ),
    "a page whose template was not filled in": (
        403, HTML, b"{{ banner }}<html><title>Access Denied</title></html>", "Access Denied", "access is denied",
    ),
    "binary": (404, "", b"\xff\xfe\x00", "", "another page"),
}  # fmt: skip


def read(status, content_type, body, **more):
    headers = {"content-type": content_type, "server": "edge/1", "via": "1.1 edge"}
    return parse_api_error(Reply(status=status, headers=headers, body=body), **more)


@pytest.mark.parametrize(("status", "content_type", "body", "title", "words"), PAGES.values(), ids=PAGES)
def test_a_gateways_page_is_never_the_apis_word(status, content_type, body, title, words):
    error = read(status, content_type, body)
    assert (error.page, page_words(error.page)) == (title, words)
    assert error.gateway == (("server", "edge/1"), ("via", "1.1 edge"))
    assert cause_of(error) is Cause.BAD_RESPONSE
    assert is_gateways(error)
    assert [is_absent(error), is_invalid_id(error), accepts_credentials(error)] == [False] * 3
    outcome = outcome_from_error("a", error, NOW)
    assert (outcome.state, outcome.reason, outcome.answered) == (ItemState.UNKNOWN, Cause.BAD_RESPONSE, False)


OWN = {
    "an empty body": (404, HTML, b""),
    "blanks": (404, TEXT, b" \r\n"),
    "an object": (404, "application/json", b'{"error": "not found"}'),
    "an object as text": (404, TEXT, b'{"error": "not found"}'),
    "an object without a content type": (404, "", b'{"error": "not found"}'),
    "an object behind a byte order mark": (404, "", b'\xef\xbb\xbf{"error": "not found"}'),
    "an array": (410, "application/json", b"[]"),
    "a JSON text": (404, "application/json", b'"not found"'),
    "JSON that was cut short": (404, "application/json", b'{"error": "not fo'),
    "a text that is declared as JSON": (404, "application/problem+json", b"not found"),
    "null": (404, "application/json", b"null"),
    "the XML error of a cloud": (404, "application/xml", b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"),
}


@pytest.mark.parametrize(("status", "content_type", "body"), OWN.values(), ids=OWN)
def test_the_apis_own_404_stays_its_own(status, content_type, body):
    error = read(status, content_type, body)
    assert error.page is None
    assert is_absent(error)
    assert accepts_credentials(error)


def test_an_api_that_answers_errors_as_text_can_be_told_so():
    error = read(404, TEXT, b"404 page not found", text_errors=True)
    assert error.page is None
    assert is_absent(error)


OF_ANY_SENDER = [(401, Cause.UNAUTHORIZED), (402, Cause.SPENDING_LIMIT), (408, Cause.OUTAGE), (429, Cause.RATE_LIMITED),
                 (502, Cause.OUTAGE), (503, Cause.OUTAGE)]  # fmt: skip


@pytest.mark.parametrize(("status", "cause"), OF_ANY_SENDER)
def test_some_statuses_mean_the_same_whoever_sends_them(status, cause):
    error = read(status, HTML, nginx(f"{status} Some Title"))
    assert (cause_of(error), is_gateways(error)) == (cause, False)
    assert error.page == f"{status} Some Title"


def test_a_gateways_page_in_place_of_a_token_is_no_rejected_key():
    error = read(400, HTML, nginx("400 No required SSL certificate was sent"), from_token_endpoint=True)
    assert cause_of(error) is Cause.BAD_RESPONSE
    assert cause_of(read(400, "application/json", b'{"error": "invalid_client"}', from_token_endpoint=True)) is (
        Cause.UNAUTHORIZED
    )


def test_the_log_has_our_own_words_and_never_the_title():
    assert page_words("secret-report.pdf was not found here") == "no such path or host"
    assert page_words("secret-report.pdf") == "another page"


@pytest.mark.parametrize("age", ["1", "3600", " 7 "])
def test_what_a_cache_answers_shows_nothing_about_the_key(age):
    error = parse_api_error(Reply(status=404, headers={"age": age}, body=b"{}"))
    assert error.cached
    assert not accepts_credentials(error)
    outcome = outcome_from_error("a", error, NOW)
    assert (outcome.answered, outcome.accepted) == (True, False)


@pytest.mark.parametrize("age", ["0", "", "-1", "x", "\u0661"])
def test_a_fresh_answer_shows_that_the_key_is_accepted(age):
    assert accepts_credentials(parse_api_error(Reply(status=404, headers={"age": age}, body=b"{}")))


UNUSABLE = {
    "RAGFlow's wrong key": (b'{"code": 109, "data": false, "message": "Authentication error"}', "109",
                            "no status: Authentication error"),
    "an error object": (b'{"error": {"code": "busy", "message": "later"}, "request_id": "r-9"}', "busy",
                        "no status: later"),
    "success is no error code": (b'{"code": 0, "data": {}}', None, "no status"),
    "the status again": (b'{"code": 200}', None, "no status"),
    "a document's own words": (b'{"title": "Secret plan", "type": "pdf", "reason": "draft"}', None, "no status"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "code", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_2xx_without_a_status_keeps_its_code_and_message(body, code, message):
    error = parse_unusable(Reply(status=200, headers={}, body=body), "no status")
    assert (error.status, error.code, error.message) == (200, code, message)
    assert error.page is None


def test_a_login_page_with_status_200_keeps_its_title():
    body = b"<html><title>Log in to the hotel's network</title></html>"
    error = parse_unusable(Reply(status=200, headers={"server": "portal"}, body=body), "the item's body is not JSON")
    assert (error.page, page_words(error.page)) == ("Log in to the hotel's network", "a login page")
    assert error.gateway == (("server", "portal"),)
    assert cause_of(error) is Cause.BAD_RESPONSE


@pytest.mark.parametrize(
    "body",
    [
        {"detail": {"message": "later"}}, {"error": {"message": "later"}}, {"message": "later"}, {"detail": "later"},
        {"error_description": "later"}, {"error": "later"}, {"errors": [{"detail": "later"}]},
        {"errors": [{"message": "later"}]}, {"errors": [{"title": "later"}]}, {"error": [{"message": "later"}]},
        {"detail": {"error": "later"}}, {"msg": "later"},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_2xx_says_what_is_wrong_at_many_places(body):
    error = parse_unusable(Reply(status=200, headers={}, body=json.dumps(body).encode()), "no status")
    assert error == ApiError(status=200, message="no status: later")


def starred(text):
    return text.replace("key", "*")


def test_the_error_of_a_2xx_is_redacted_and_cut_and_keeps_its_ids():
    body = {"code": "key-c", "message": "key " + "m" * 900, "trace_id": "key-t"}
    reply = Reply(status=203, headers={"x-request-id": "key-r", "age": "60"}, body=json.dumps(body).encode())
    assert parse_unusable(reply, "no status", redact=starred) == ApiError(
        status=203, code="*-c", message=f"no status: * {'m' * 900}"[:500], request_id="*-r", trace_id="*-t", cached=True
    )
    named = Reply(status=200, headers={"x-request-id": "header"}, body=b'{"request_id": "body"}')
    assert parse_unusable(named, "no status").request_id == "body"


def test_a_page_with_status_200_is_redacted_and_cut():
    reply = Reply(status=200, headers={"server": "key-s"}, body=b"<title>key " + b"t" * 900 + b"</title>")
    title = f"* {'t' * 900}"[:200]
    assert parse_unusable(reply, "no status", redact=starred) == ApiError(
        status=200, message=f"no status: {title}", gateway=(("server", "*-s"),), page=title
    )


def test_a_title_is_redacted_and_cut():
    page = gateway_page(Reply(status=404, headers={}, body=b"<title>" + b"key-12345678 " * 60 + b"</title>"))
    error = parse_api_error(
        Reply(status=404, headers={}, body=f"<title>{page}</title>".encode()),
        redact=lambda text: text.replace("key", "*"),
    )
    assert "key" not in error.page
    assert len(error.page) <= 200


def test_our_own_errors_have_no_page():
    assert ApiError(status=404).page is None
