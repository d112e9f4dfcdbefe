"""The access check over real HTTP: who gets an answer, and what attacks get."""

import http.client
import socket
from urllib.parse import quote

from web.browser import HTML, Browser
from web.conftest import TOKEN
from web.served import ask

from monitor.config.web import access_warnings
from monitor.web.access.attempts import MAX_PER_CLIENT

HEALTH = ("/healthz", "/readyz", "/metrics")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def cookie_of(browser):
    ((name, (value, flags)),) = browser.cookies.items()
    return name, value, flags


def test_on_loopback_without_a_token_everybody_may_read(page):
    browser = Browser(page().address)
    assert browser.get("/").status == 200
    assert browser.cookies == {}
    assert ask(browser.address, "/").status == 200
    assert (browser.get("/login").status, browser.get("/login").headers["location"]) == (303, "/")


def test_on_another_address_the_page_needs_a_token_to_be_configured(page):
    served = page(listen="0.0.0.0:0")
    address = ("127.0.0.1", served.address[1])
    refused = ask(address, "/")
    assert refused.status == 403
    assert "web.token_file" in refused.json["error"]
    assert b"web.token_file" in ask(address, "/", headers={"Accept": HTML}).body
    assert [ask(address, each).status for each in (*HEALTH, "/status", "/status.json", "/static/page.css")] == [200] * 6
    assert [ask(address, "/login", method="POST", body="token=x&name=y", headers=FORM).status] == [403]
    (warning,) = access_warnings(served.state.config.web)
    assert "web.token_file" in warning


def test_with_a_token_only_health_and_status_are_open(locked):
    assert [ask(locked.address, each).status for each in (*HEALTH, "/status", "/status.json")] == [200] * 5
    answers = [ask(locked.address, each) for each in ("/", "/targets/gloo", "/nowhere", "/badge/gloo.svg")]
    assert [each.status for each in answers] == [401, 401, 401, 404]
    assert answers[0].headers["www-authenticate"].startswith("Bearer")
    assert b"gloo" not in b"".join(each.body for each in answers)
    sent = locked.get("/targets/gloo?since=30d")
    assert (sent.status, sent.headers["location"]) == (303, "/login?next=/targets/gloo%3Fsince%3D30d")


def test_the_right_token_becomes_a_session(locked):
    answer = locked.log_in(TOKEN, there="/targets/gloo")
    assert (answer.status, answer.headers["location"]) == (303, "/targets/gloo")
    assert locked.get("/").status == 200
    assert "Log out Ana" in " ".join(locked.get("/").body.decode().split())
    assert "HttpOnly; SameSite=Strict" in answer.headers["set-cookie"]
    assert TOKEN not in answer.headers["set-cookie"]
    assert locked.get("/login?next=/incidents").headers["location"] == "/incidents"


def test_a_logout_needs_the_csrf_token_and_deletes_the_cookie(locked):
    locked.log_in(TOKEN)
    assert locked.post("/logout").status == 403
    left = locked.post("/logout", {"csrf_token": locked.csrf_token()})
    assert (left.status, left.headers["location"], locked.cookies) == (303, "/login", {})
    assert locked.get("/").status == 303


def test_a_wrong_token_gets_the_form_again(locked):
    for wrong in ("", "a-token-of-this-pagE", TOKEN + "x", "é" * 20, "x" * 15_000):
        answer = locked.log_in(wrong, name='"><script>alert(1)</script>')
        assert (answer.status, locked.cookies) == (401, {}), wrong
        assert b"<script>alert" not in answer.body
        assert not wrong or wrong not in answer.body.decode()


def test_a_login_needs_a_name(locked):
    assert [locked.log_in(TOKEN, name=name).status for name in ("", "   ", "\t")] == [400] * 3
    assert locked.cookies == {}


def test_a_name_is_one_printable_line_and_no_header(locked):
    answer = locked.log_in(TOKEN, name="Ana\r\nSet-Cookie: x=1\u202e; Path=/ <b>")
    assert list(locked.cookies) == [f"ingestion_monitor_{locked.address[1]}"]
    assert "x=1" not in answer.headers["set-cookie"]
    shown = locked.get("/").body.decode()
    assert "Ana Set-Cookie: x=1\\u202e; Path=/ &lt;b&gt;" in shown


def test_a_login_leads_to_no_other_site(locked):
    for there in ("https://evil.example", "//evil.example", "/\\evil.example", "/\r\nX: y"):
        assert b"evil" not in locked.get(f"/login?next={quote(there)}").body
        assert Browser(locked.address).log_in(TOKEN, there=there).headers["location"] == "/", there


def test_a_bearer_token_opens_everything_without_a_cookie(locked):
    answer = ask(locked.address, "/", headers=BEARER)
    assert (answer.status, "set-cookie" in answer.headers) == (200, False)
    assert ask(locked.address, "/badge/gloo.svg", headers=BEARER).status == 200
    for wrong in ("Bearer wrong", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN):
        refused = ask(locked.address, "/", headers={"Authorization": wrong})
        assert (refused.status, refused.headers["www-authenticate"][:6]) == (401, "Bearer")


def test_the_password_that_a_proxy_asked_for_is_no_wrong_token(locked):
    """A browser sends it with every request, and a proxy such as nginx passes it on."""
    password = {"Authorization": "Basic YW5hOnBhc3N3b3Jk"}
    assert [locked.get(path, **password).status for path in ("/status", "/login")] == [200, 200]
    assert locked.post("/login", {"token": TOKEN, "name": "Ana"}, **password).status == 303
    assert {locked.get("/", **password).status for _ in range(MAX_PER_CLIENT + 1)} == {200}
    program = ask(locked.address, "/api/v1/incidents", headers=password)
    assert (program.status, "Authorization: Bearer" in program.json["error"]) == (401, True)


def test_a_program_without_a_token_is_told_that_it_needs_one(page):
    address = page("actions = true").address
    answer = ask(address, "/incidents/1/resolve", method="POST")
    assert (answer.status, "Authorization: Bearer" in answer.json["error"]) == (403, True)


def test_wrong_tokens_are_limited_but_sessions_go_on(locked):
    locked.log_in(TOKEN)
    answers = [ask(locked.address, "/", headers={"Authorization": "Bearer wrong"}) for _ in range(MAX_PER_CLIENT + 1)]
    assert [each.status for each in answers] == [401] * MAX_PER_CLIENT + [429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    limited = Browser(locked.address).log_in(TOKEN)
    assert (limited.status, "retry-after" in limited.headers) == (429, True)
    assert locked.get("/").status == 200
    assert [ask(locked.address, each).status for each in (*HEALTH, "/status")] == [200] * 4


def test_a_rotated_token_ends_all_sessions_at_once(locked, token_file):
    locked.log_in(TOKEN)
    token_file.with_suffix(".new").write_text("another-token-of-this", encoding="utf-8")
    token_file.with_suffix(".new").replace(token_file)
    assert locked.get("/").status == 303
    assert ask(locked.address, "/", headers=BEARER).status == 401
    assert locked.log_in(TOKEN).status == 401
    assert locked.log_in("another-token-of-this").status == 303
    assert locked.get("/").status == 200


def test_a_token_that_is_gone_or_too_short_closes_the_page(page, token_file):
    served = page(f'token_file = "{token_file}"')
    browser = Browser(served.address)
    browser.log_in(TOKEN)
    for change in (lambda: token_file.write_text("short", encoding="utf-8"), token_file.unlink):
        change()
        refused = browser.get("/")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert browser.log_in("short").status == 503
        assert ask(served.address, "/status").status == 200


def test_cookies_of_others_are_no_sessions(locked, page):
    locked.log_in(TOKEN)
    name, value, flags = cookie_of(locked)
    for forged in (value[:-2], value + "x", value.partition(".")[0] + ".", "." + value.partition(".")[2], "x" * 3000):
        locked.cookies[name] = forged, flags
        assert locked.get("/").status == 303, forged
    open_page = Browser(page("actions = true").address)
    open_page.get("/")
    locked.cookies[name] = cookie_of(open_page)[1], flags
    assert locked.get("/").status == 303


REBINDING = ("evil.example", "evil.example:8990", "127.0.0.1.evil.example", "[::1", "a b")


def test_a_name_of_somebody_else_gets_nothing(page):
    address = page().address
    for host in REBINDING:
        for path in ("/", "/status.json", "/login", "/badge/gloo.svg", "/static/page.css"):
            refused = ask(address, path, headers={"Host": host})
            assert refused.status == 421, (host, path)
            assert "web.public_url" in refused.json["error"]
        assert [ask(address, each, headers={"Host": host}).status for each in HEALTH] == [200] * 3


def test_the_public_name_is_served_and_its_cookie_is_for_https_alone(page, token_file):
    served = page(f'public_url = "https://monitor.example.com"\ntoken_file = "{token_file}"')
    browser = Browser(served.address, "monitor.example.com", https=True)
    answer = browser.log_in(TOKEN)
    assert answer.headers["set-cookie"].startswith("__Host-ingestion_monitor=")
    assert answer.headers["set-cookie"].endswith("; Secure")
    assert browser.get("/").status == 200
    # a cookie without the prefix may have been set by another host of the domain
    ((_, value),) = browser.cookies.items()
    browser.cookies = {"ingestion_monitor": value}
    assert browser.get("/").status == 303
    tunnel = Browser(served.address)
    assert "Secure" not in tunnel.log_in(TOKEN).headers["set-cookie"]


def test_the_pages_of_two_daemons_on_one_machine_have_a_login_each(page, token_file, tmp_path):
    """As of two tunnels: a browser sends its cookies to all ports of a host."""
    first = Browser(page(f'token_file = "{token_file}"').address)
    # before the second begins: FastAPI silences a warning of its own, which two threads can't do at a time
    first.log_in(TOKEN)
    (tmp_path / "other").write_text("another-token-of-this", encoding="utf-8")
    second = Browser(page(f'token_file = "{tmp_path / "other"}"').address)
    second.cookies = first.cookies
    second.log_in("another-token-of-this")
    assert [first.get("/").status, second.get("/").status] == [200, 200]
    second.post("/logout", {"csrf_token": second.csrf_token()})
    assert [first.get("/").status, second.get("/").status] == [200, 303]


def test_a_link_from_another_site_opens_the_page_by_itself_once(locked):
    locked.log_in(TOKEN)
    first = locked.get("/targets/gloo?since=30d", cross_site=True)
    assert first.status == 200
    assert b'content="0; url=/targets/gloo?since=30d"' in first.body
    assert "SameSite=Lax" in first.headers["set-cookie"]
    assert locked.get("/").status == 200
    assert locked.get("/", cross_site=True).status == 200
    stranger = Browser(locked.address)
    assert stranger.get("/", cross_site=True).status == 200
    assert stranger.get("/", cross_site=True).status == 303
    assert locked.get("/", cross_site=True, method="HEAD").status == 303


def test_a_link_does_not_replace_the_visit_of_somebody_without_login(page):
    browser = Browser(page("actions = true").address)
    browser.get("/")
    visit = dict(browser.cookies)
    assert len(visit) == 1
    assert b"http-equiv" in browser.get("/", cross_site=True).body
    assert browser.get("/").status == 200
    assert browser.cookies == visit


def test_a_form_of_another_site_is_refused(locked):
    locked.log_in(TOKEN)
    fields = {"csrf_token": locked.csrf_token()}
    assert locked.post("/logout", fields, cross_site=True).status == 403
    assert locked.post("/logout", fields, **{"Sec-Fetch-Site": "same-site"}).status == 403
    assert locked.post("/login", {"token": TOKEN, "name": "Eve"}, cross_site=True).status == 403
    assert locked.get("/").status == 200


BODIES = [
    (FORM, b"a=" + b"x" * 16_384, 413),
    ({**FORM, "Content-Length": "99999999999"}, b"", 413),
    ({"Content-Type": "application/json"}, b"{}", 415),
    ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 415),
    ({}, b"a=b", 415),
    (FORM, b"a=%ff", 400),
    (FORM, "a=é".encode("latin-1"), 400),
    (FORM, b"&".join(b"a%d=b" % number for number in range(30)), 400),
]


def test_bodies_other_than_small_forms_are_refused_and_the_connection_ends(locked):
    for headers, body, status in BODIES:
        answer = ask(locked.address, "/login", method="POST", headers=headers, body=body)
        assert (answer.status, answer.headers["connection"]) == (status, "close"), body[:20]
        assert "error" in answer.json


def test_a_body_in_endless_chunks_is_cut(locked):
    with socket.create_connection(locked.address, timeout=10) as connection:
        connection.sendall(
            b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        )
        for _ in range(20):
            connection.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_other_methods_and_bodies_are_refused(page):
    address = page().address
    answers = [
        ask(address, "/", body=b"x"),
        *(ask(address, "/incidents/1", method=each) for each in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH")),
        ask(address, "/status", method="POST"),
    ]
    assert [each.status for each in answers] == [413, *[405] * 5, 403]
    assert [list(each.json) for each in answers] == [["error"]] * 7


def test_every_answer_of_the_page_has_the_headers_that_keep_it_to_itself(locked):
    locked.log_in(TOKEN)
    for path in ("/", "/status", "/login", "/nowhere", "/static/page.css"):
        headers = locked.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert ("no-store" in headers["cache-control"]) == (not path.startswith("/static/"))


def test_health_endpoints_keep_the_headers_that_they_had(page):
    assert {*ask(page().address, "/healthz").headers} == {
        "date", "content-type", "content-length", "cache-control", "x-content-type-options",
    }  # fmt: skip


def test_a_missing_page_is_html_for_a_browser_and_json_for_a_program(page):
    browser = Browser(page().address)
    assert b"<h1>Not found</h1>" in browser.get("/nowhere").body
    assert ask(browser.address, "/nowhere").json == {"error": "there is no such page"}
    assert "error" in browser.get("/api/v1/nowhere").json


def test_a_defect_is_one_page_with_a_reference_that_the_log_has(page, monkeypatch):
    served = page()
    monkeypatch.setattr(type(served.tracker), "snapshot", lambda _: 1 / 0)
    answer = Browser(served.address).get("/status")
    (logged,) = served.logged_events("endpoint_failed")
    assert answer.status == 500
    assert logged["reference"] in answer.body.decode()
    assert b"ZeroDivisionError" not in answer.body


def test_two_host_headers_are_no_way_around_the_check(page):
    address = page().address
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.putrequest("GET", "/", skip_host=True)
    connection.putheader("Host", "127.0.0.1")
    connection.putheader("Host", "evil.example")
    connection.endheaders()
    assert connection.getresponse().status == 400
    connection.close()
