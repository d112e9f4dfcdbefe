"""Login and logout: a token and a name become a session cookie. Whether a token is right is decided by the gate."""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.requests import Request

from monitor.reports.html import render
from monitor.web.access.gate import Gate, Refusal
from monitor.web.access.middleware import client_of, form_of, refuse
from monitor.web.access.origins import local_path
from monitor.web.errors import as_sentence, bare_frame
from monitor.web.site import viewer_of

_FORM_STATUS = {Refusal.WRONG_TOKEN: 401, Refusal.LIMITED: 429}


def add_login_pages(app: FastAPI, gate: Gate) -> None:
    """Adds the routes."""
    pages = _LoginPages(gate)
    app.add_api_route("/login", pages.show, methods=["GET", "HEAD"], response_model=None)
    app.add_api_route("/login", pages.log_in, methods=["POST"], response_model=None)
    app.add_api_route("/logout", pages.log_out, methods=["POST"], response_model=None)


class _LoginPages:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def show(self, request: Request) -> Response:
        there = local_path(request.query_params.get("next", "/"))
        if viewer_of(request).logged_in or self._gate.web.token is None:
            return RedirectResponse(there, status_code=303)
        return _form(request, there=there)

    async def log_in(self, request: Request) -> Response:
        form = form_of(request)
        there, name, token = local_path(form.get("next", "/")), form.get("name", "").strip(), form.get("token", "")
        if not name:
            return _form(request, there=there, sentence="give your name: it is recorded with what you do", status=400)
        visitor = await self._gate.log_in(
            token=token, name=name, host=request.headers.get("host", ""), client=client_of(request)
        )
        if visitor.new_cookie is not None:
            return RedirectResponse(there, status_code=303, headers={"Set-Cookie": visitor.new_cookie})
        if visitor.refusal not in _FORM_STATUS:
            return refuse(request, visitor)
        limited = visitor.refusal is Refusal.LIMITED
        sentence = f"too many wrong tokens were sent: try again in {visitor.wait_s} s" if limited else _WRONG
        answer = _form(request, there=there, name=name, sentence=sentence, status=_FORM_STATUS[visitor.refusal])
        if limited:
            answer.headers["Retry-After"] = str(visitor.wait_s)
        return answer

    async def log_out(self, request: Request) -> Response:
        cookie = self._gate.cookie("", host=request.headers.get("host", ""))
        return RedirectResponse("/login", status_code=303, headers={"Set-Cookie": cookie})


_WRONG = "that is not the token: it is in the file that web.token_file names"


def _form(request: Request, *, there: str, name: str = "", sentence: str = "", status: int = 200) -> Response:
    values = {"next": there, "name": name, "sentence": as_sentence(sentence) if sentence else ""}
    return HTMLResponse(render("login.html", bare_frame(request, "Log in"), **values), status_code=status)
