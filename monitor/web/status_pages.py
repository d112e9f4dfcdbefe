"""The public page /status, the same as JSON, and badges: read at most every few seconds, whoever asks how often."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from monitor.incidents.store import open_causes
from monitor.model import OpenCause
from monitor.reports.html import Frame, render
from monitor.reports.status import Status, StatusBoard, StatusInput, StatusWord, status_board, status_json
from monitor.web.database_probe import DatabaseProbe, TargetState, target_inputs
from monitor.web.errors import bare_frame
from monitor.web.readiness import overdue_from
from monitor.web.site import Site, UnavailableError, viewer_of
from monitor.web.state import StateTracker

CACHE_S = 5.0
_MAX_NAME = 60
_METHODS = ["GET", "HEAD"]
_SHARED = "public, max-age=60"
"""No more than everybody may know: a proxy may keep it for a minute."""


def add_status_pages(app: FastAPI, site: Site, tracker: StateTracker, probe: DatabaseProbe) -> None:
    """Adds the routes."""
    pages = _StatusPages(StatusReader(site, tracker, probe), site)
    app.add_api_route("/status", pages.page, methods=_METHODS, response_model=None)
    app.add_api_route("/status.json", pages.json, methods=_METHODS, response_model=None)
    app.add_api_route("/badge/{name}", pages.badge, methods=_METHODS, response_model=None)


class StatusReader:
    """Reads the states of all targets; a result is reused for `CACHE_S`, and those who wait share one reading."""

    def __init__(
        self,
        site: Site,
        tracker: StateTracker,
        probe: DatabaseProbe,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site, self._tracker, self._probe, self._monotonic = site, tracker, probe, monotonic
        self._lock = asyncio.Lock()
        self._board: StatusBoard | None = None
        self._read_s = 0.0

    async def board(self) -> StatusBoard:
        """The states now, or a moment ago. Without a database there is no data."""
        async with self._lock:
            if self._board is None or self._monotonic() - self._read_s >= CACHE_S:
                self._board, self._read_s = await self._read(), self._monotonic()
            return self._board

    async def _read(self) -> StatusBoard:
        probe, daemon = await self._probe.latest(), self._tracker.snapshot()
        causes: dict[str, list[OpenCause]] | None = None
        if probe.usable:
            try:
                causes = await self._site.read(open_causes)
            except UnavailableError:
                causes = None
        inputs: dict[str, StatusInput] = {}
        for target in target_inputs(daemon, probe) if causes is not None else ():
            stored = probe.stored.targets.get(target.name, TargetState())
            inputs[target.name] = StatusInput(
                total=None if stored.snapshot is None else stored.snapshot.total,
                last_run_at=stored.last_run_at,
                overdue_at=overdue_from(target),
                causes=(causes or {}).get(target.name, ()),
            )
        names = {target.name: target.status_name for target in daemon.config.targets}
        return status_board(inputs, names, daemon.at)


class _StatusPages:
    def __init__(self, reader: StatusReader, site: Site) -> None:
        self._reader, self._site = reader, site

    async def page(self, request: Request) -> Response:
        board = await self._reader.board()
        return HTMLResponse(render("status.html", bare_frame(request, "Status"), board=board))

    async def json(self) -> Response:
        return JSONResponse(status_json(await self._reader.board()), headers={"Cache-Control": _SHARED})

    async def badge(self, request: Request, name: str) -> Response:
        """The state of one target; of one that the page does not list, only for those who may see all."""
        target = name.removesuffix(".svg")
        configured = {each.name: each.status_name for each in self._site.config.targets}
        public_name = configured.get(target)
        hidden = public_name is None and not viewer_of(request).can_see_all
        if target == name or target not in configured or hidden:
            raise HTTPException(404, "there is no such badge: a target has one if its status_name is set")
        status = (await self._reader.board()).by_target.get(target, Status(word=StatusWord.NO_DATA))
        headers = {"Cache-Control": _SHARED if public_name else "private, max-age=60"}
        if public_name is not None:
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return Response(badge(public_name or target, status), media_type="image/svg+xml", headers=headers)


def badge(name: str, status: Status) -> str:
    """A small SVG with a name and the word of its status."""
    split, word = _text_width(name), _text_width(f"{status.mark} {status.label}")
    return render(
        "badge.svg",
        Frame(title=name, generated_at=_UNDATED),
        name=name,
        label=status.label,
        mark=status.mark,
        colour=_COLOURS[status.word],
        split=split,
        width=split + word,
    )


_COLOURS = {
    StatusWord.OPERATIONAL: "#1a7f37",
    StatusWord.DELAYED: "#9a6700",
    StatusWord.DISRUPTED: "#cf222e",
    StatusWord.NO_DATA: "#6e7781",
}
"""White text on each has a contrast of at least 4.5:1."""
_UNDATED = datetime.min.replace(tzinfo=UTC)


def _text_width(text: str) -> int:
    """Pixels for a text with its margins: the browser stretches the text to fit, whatever its font is."""
    return 12 + 7 * min(len(text), _MAX_NAME)
