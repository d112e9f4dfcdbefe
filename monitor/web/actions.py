"""Actions on incidents from the page: acknowledge, silence, resolve. The same code as of the commands does the work.

The access check has verified session and CSRF token; here it is checked that actions are enabled.
"""

from collections.abc import Callable, Mapping
from functools import partial

import structlog
from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request

from monitor.database.text import to_single_line
from monitor.errors import ConfigError
from monitor.incidents.decide import OperatorAction
from monitor.incidents.silence_store import MAX_AUTHOR_LENGTH, MAX_COMMENT_LENGTH
from monitor.reports import actions
from monitor.web.access.middleware import form_of
from monitor.web.rendering import positive
from monitor.web.site import Site, Viewer, viewer_of

_Work = Callable[[Connection, int, OperatorAction], actions.Done | None]
"""Acts on an incident. None if there is no such incident; raises ConfigError if nothing is changed."""


def add_actions(app: FastAPI, site: Site) -> None:
    """Adds the routes."""
    routes = _Actions(site)
    for name, handler in (
        ("acknowledge", routes.acknowledge),
        ("resolve", routes.resolve),
        ("silence", routes.silence),
    ):
        app.add_api_route(f"/incidents/{{number}}/{name}", handler, methods=["POST"], response_model=None)


class _Actions:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def acknowledge(self, request: Request, number: str) -> Response:
        """POST `by`, `comment`."""
        return await self._act(request, number, partial(actions.acknowledge, now=self._site.now()))

    async def resolve(self, request: Request, number: str) -> Response:
        """POST `by`, `comment`."""
        return await self._act(request, number, partial(actions.resolve, now=self._site.now()))

    async def silence(self, request: Request, number: str) -> Response:
        """POST `duration`, `by`, `comment`."""
        try:
            lasting = actions.parse_silence_duration(form_of(request).get("duration", ""))
        except ConfigError as error:
            raise HTTPException(400, error.problems[0]) from error
        return await self._act(request, number, partial(actions.silence, lasting=lasting, now=self._site.now()))

    async def _act(self, request: Request, number: str, work: _Work) -> Response:
        """Returns to the incident. Raises HTTPException if nothing was changed."""
        viewer = viewer_of(request)
        if not viewer.can_act:
            raise HTTPException(403, "actions from the page are off: set web.actions = true")
        incident_id = positive(number)
        if incident_id is None:
            raise HTTPException(404)
        action = _action(viewer, form_of(request))
        try:
            found = await self._site.write(lambda conn: work(conn, incident_id, action))
        except ConfigError as error:
            raise HTTPException(409, error.problems[0]) from error
        if found is None:
            raise HTTPException(404, f"there is no incident {incident_id}")
        kind, before_by = request.url.path.rpartition("/")[2], found.done_before_by
        log = structlog.get_logger().bind(action=kind, incident=incident_id, by=action.by)
        if before_by is not None and before_by != action.by:
            log.info("operator_action_repeated", done_before_by=before_by)
            raise HTTPException(409, found.sentences[0])
        log.info("operator_action")
        return RedirectResponse(f"/incidents/{incident_id}", status_code=303)


def _action(viewer: Viewer, form: Mapping[str, str]) -> OperatorAction:
    """Who acts: the name of the login; else the one in the form; else where the request came from."""
    by = viewer.name or to_single_line(form.get("by", ""), MAX_AUTHOR_LENGTH) or viewer.source
    return OperatorAction(by=by, comment=to_single_line(form.get("comment", ""), MAX_COMMENT_LENGTH))
