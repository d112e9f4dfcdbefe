"""The ASGI middleware in front of all routes: who may pass, with what body, and the headers of every answer.

A request passes these checks in this order; the first that fails answers it.

1. The Host header names this page (DNS rebinding).
2. The method is GET, HEAD or POST; only a POST has a body, a form of at most 16 KB, which is read here.
3. A POST was sent by this page or by a program (Origin, Fetch metadata).
4. The visitor has a session or the token, unless the path is public.
5. A form carries the CSRF token of its session.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.reports.html import render
from monitor.web.access.gate import Gate, Refusal, Visitor
from monitor.web.access.origins import Sender, came_by_a_link, host_is_served, is_own_form, local_path
from monitor.web.access.sessions import BOUNCE_COOKIE, bounce_cookie
from monitor.web.errors import TEXTS, bare_frame, refusal, wants_html

HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Open to everybody, under any Host: probes name the address of a pod."""
_PUBLIC_PATHS = frozenset({"/status", "/status.json", "/login"})
_PUBLIC_FOLDERS = ("/badge/", "/static/")
_OF_TOKENS = frozenset({Refusal.WRONG_TOKEN, Refusal.LIMITED})
"""Refusals of a program, which is told so on public pages, too."""
_OLD_FORM = "this form is out of date: go back, reload the page, and send it again"
_NO_FORM = "a program needs the token in web.token_file: send it as Authorization: Bearer"
_FORM = "application/x-www-form-urlencoded"
_MAX_BODY = 16 * 1024
_MAX_FIELDS = 20

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    # not "no-referrer": with it a browser sends our own forms with `Origin: null`
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""Where a route does not set its own."""


class Access:
    """Lets requests pass to `app`, or answers them."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        request = Request(scope, receive)
        if scope["path"] in HEALTH_PATHS:
            await self._serve_health(request, send)
            return
        cookies: list[str] = []
        refused = self._refuse_by_host(request) or await _read_form(request)
        refused = refused or await self._refuse_visitor(request, cookies)
        await (refused or self._app)(scope, receive, _with_headers(send, cookies))

    async def _serve_health(self, request: Request, send: Send) -> None:
        """Refuses a body and closes its connection."""
        if _has_body(request):
            headers = {"Connection": "close", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
            rejection = JSONResponse({"error": TEXTS[413]}, status_code=413, headers=headers)
            await rejection(request.scope, request.receive, send)
        else:
            await self._app(request.scope, request.receive, send)

    def _refuse_by_host(self, request: Request) -> Response | None:
        web = self._gate.web
        listen = web.address[0] if web.address else ""
        if host_is_served(request.headers.get("host", ""), listen=listen, public_url=web.public_url):
            return None
        sentence = "this page is not known under that name: set web.public_url to the address in your browser"
        return refusal(request, 421, sentence, headers=_close_if_body(request))

    async def _refuse_visitor(self, request: Request, cookies: list[str]) -> Response | None:
        """Finds out who it is. A header in `cookies` is added to the answer."""
        sender, form = Sender.of(request.headers), request.scope["form"]
        is_post = request.method == "POST"
        if is_post and not is_own_form(sender, public_url=self._gate.web.public_url):
            return refusal(request, 403, "this form was sent by another site: open this page itself")
        visitor = await self._gate.identify(
            host=sender.host,
            cookies=request.cookies,
            authorization=request.headers.get("authorization", ""),
            client=client_of(request),
        )
        if visitor.refusal in _OF_TOKENS or (visitor.refusal is not None and not _is_public(request)):
            return self._refuse_or_reload(request, sender, visitor)
        if visitor.new_cookie is not None and request.method == "GET" and wants_html(request):
            if _must_reload(request, sender):
                return _reload(request)
            cookies.append(visitor.new_cookie)
        if visitor.session is not None and BOUNCE_COOKIE in request.cookies:
            cookies.append(bounce_cookie(age_s=0))  # so that the next link opens by itself, too
        if is_post and request.url.path != "/login" and not visitor.may_post(form):
            return refusal(request, 403, _OLD_FORM if wants_html(request) else _NO_FORM)
        request.scope["viewer"] = visitor.viewer
        return None

    def _refuse_or_reload(self, request: Request, sender: Sender, visitor: Visitor) -> Response:
        if visitor.refusal is Refusal.NOT_LOGGED_IN and _must_reload(request, sender):
            return _reload(request)
        return refuse(request, visitor)


def client_of(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client else "an unknown address"


def form_of(request: Request) -> Mapping[str, str]:
    """The fields of the form that was posted; empty without one."""
    form: Mapping[str, str] = request.scope["form"]
    return form


def refuse(request: Request, visitor: Visitor) -> Response:
    """The answer to a visitor who may not pass."""
    match visitor.refusal:
        case Refusal.NO_TOKEN_SET:
            return refusal(
                request,
                403,
                "the page needs a token on this address: set web.token_file to the path of a file that holds one",
            )
        case Refusal.TOKEN_UNREADABLE:
            sentence = "the token can't be read now: see page_token_unreadable in the daemon's log"
            return refusal(request, 503, sentence, headers={"Retry-After": "5"})
        case Refusal.LIMITED:
            sentence = f"too many wrong tokens were sent: try again in {visitor.wait_s} s"
            return refusal(request, 429, sentence, headers={"Retry-After": str(visitor.wait_s)})
        case Refusal.WRONG_TOKEN:
            return refusal(request, 401, "that is not the token", headers={"WWW-Authenticate": _CHALLENGE})
        case _:
            return _ask_to_log_in(request)


_CHALLENGE = 'Bearer realm="ingestion-monitor"'


def _ask_to_log_in(request: Request) -> Response:
    if not wants_html(request):
        sentence = "send the token in web.token_file as Authorization: Bearer"
        return refusal(request, 401, sentence, headers={"WWW-Authenticate": _CHALLENGE})
    there = _path_of(request) if request.method == "GET" else _page_of_form(request)
    return RedirectResponse(f"/login?next={quote(there, safe='/')}", status_code=303)


def _page_of_form(request: Request) -> str:
    """The page that has the form which was posted: of an incident, so that nobody has to search for it again."""
    page, _, _ = request.url.path.rpartition("/")
    return local_path(page) if page.startswith("/incidents/") else "/"


def _must_reload(request: Request, sender: Sender) -> bool:
    """Whether the cookie may only be missing because a link of another site led here."""
    by_link = came_by_a_link(sender) and wants_html(request) and request.method == "GET"
    return by_link and BOUNCE_COOKIE not in request.cookies


def _reload(request: Request) -> Response:
    """A page that opens itself again, this time as a page of this site, so that the browser sends its cookie."""
    html = render("reload.html", bare_frame(request, "Opening"), there=_path_of(request))
    return HTMLResponse(html, headers={"Set-Cookie": bounce_cookie()})


def _path_of(request: Request) -> str:
    """The path that was asked for, with its query, as it was sent."""
    raw = request.scope.get("raw_path") or quote(request.url.path).encode()
    query = request.scope["query_string"]
    return local_path(raw.decode("latin-1") + (f"?{query.decode('latin-1')}" if query else ""))


def _is_public(request: Request) -> bool:
    path = request.url.path
    return path in _PUBLIC_PATHS or path.startswith(_PUBLIC_FOLDERS)


def _has_body(request: Request) -> bool:
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _close_if_body(request: Request) -> Mapping[str, str]:
    """Ends the connection, so that a body that nobody reads does not arrive."""
    return {"Connection": "close"} if _has_body(request) else {}


async def _read_form(request: Request) -> Response | None:
    """Puts the fields of the form into the scope. The answer if it is refused; its connection is closed then."""
    close, headers = {"Connection": "close"}, request.headers
    request.scope["form"] = {}
    if request.method not in {"GET", "HEAD", "POST"}:
        return refusal(request, 405, "use GET, HEAD or POST", headers={"Allow": "GET, HEAD, POST", **close})
    if not _has_body(request):
        return None
    if request.method != "POST":
        return refusal(request, 413, TEXTS[413], headers=close)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return refusal(request, 415, f"send a form, as {_FORM}", headers=close)
    body = await _read_body(request)
    if body is None:
        return refusal(request, 413, "a form may have at most 16 KB", headers=close)
    try:
        # programs such as curl send text as it is, where a browser escapes it
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        return refusal(request, 400, f"a form has at most {_MAX_FIELDS} fields of UTF-8 text", headers=close)
    request.scope["form"] = dict(fields)
    return None


async def _read_body(request: Request) -> bytes | None:
    """The body; None if it is too large. The server closes a connection whose body does not arrive in time."""
    length = request.headers.get("content-length", "0")
    if len(length) > 9 or int(length) > _MAX_BODY:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            return None
    return bytes(body)


def _with_headers(send: Send, cookies: Sequence[str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            for cookie in cookies:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return send_with_headers
