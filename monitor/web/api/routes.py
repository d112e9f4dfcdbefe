"""The routes of the API. Each runs one view in one read transaction, and returns its JSON."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request

from monitor.config import Config
from monitor.database.text import UNPRINTABLE, escape_bidirectional
from monitor.errors import ConfigError
from monitor.model import Cause, IncidentState, Severity
from monitor.model.durations import bounded_duration
from monitor.providers.preset import find_preset
from monitor.reports.build import MAX_SINCE, MIN_SINCE, build_report
from monitor.reports.explain import explain_json, explain_view
from monitor.reports.fleet import NO_WORKERS, fleet_json, fleet_view_with_waits
from monitor.reports.formatting import cut_list
from monitor.reports.gate import gate_json, gate_view, gate_views
from monitor.reports.history import history_json, history_view
from monitor.reports.incident_views import (
    IncidentFilter,
    incident_view,
    incident_view_json,
    incidents_json,
    incidents_view,
)
from monitor.reports.item_queries import LISTED_STATES, ItemFilter, find
from monitor.reports.item_views import item_view, item_view_json, items_view, items_view_json, stuck_after
from monitor.reports.names import is_known_channel, is_known_target, no_such_target
from monitor.reports.notifications import notifications_json, notifications_view
from monitor.reports.overview_json import overview_json
from monitor.reports.providers import preset_json, provider_rows, providers_json
from monitor.reports.rule_queries import rule_rows
from monitor.reports.rules import rules_json
from monitor.reports.silences import silences_json, silences_view
from monitor.reports.slos import configured_slos, slos_json
from monitor.web.api.openapi import Answer, document, responses
from monitor.web.rendering import item_in_path, positive
from monitor.web.site import Site

PREFIX = "/api/v1"
MAX_ROWS = 1000
MAX_REPORTED = 100
"""Targets in one report: each costs some milliseconds."""
_TOO_MANY_TARGETS = (
    f"{{total}} targets are configured, and one report is about at most {MAX_REPORTED}: name one by target=, or read "
    f"them part by part by limit={MAX_REPORTED} and offset="
)
_MAX_QUOTED = 100
"""Of a parameter that is wrong."""
_MAX_ID = 2**63 - 1


def _listed_state(name: str) -> str:
    if name not in LISTED_STATES:
        raise PydanticCustomError("state", "must be one of {states}", {"states": ", ".join(LISTED_STATES)})
    return name


Json = dict[str, Any]
State = Annotated[str, AfterValidator(_listed_state), WithJsonSchema({"type": "string", "enum": [*LISTED_STATES]})]
Target = Annotated[str | None, Query(max_length=500, description="Only this target; for a channel `channel:NAME`.")]
Limit = Annotated[int, Query(ge=1, le=MAX_ROWS, description="Most rows; `total` says how many there are.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="Rows to leave out at the start.")]


def add_api(app: FastAPI, site: Site) -> None:
    """Adds the routes and their description, /api/openapi.json."""
    routes = _Routes(site)
    for path, handler, answer in (
        ("/report", routes.report, Answer("Health, trend and changes, as `report --json`.", "targets")),
        ("/targets", routes.targets, Answer("The configured targets, and whether bulk work may proceed.", "targets")),
        ("/gate/{target:path}", routes.gate, Answer("Whether bulk work may proceed, as `gate --json`.", found=True)),
        ("/history", routes.history, Answer("Snapshots of runs, as `history --json`.", "runs", counted=True)),
        ("/incidents", routes.incidents, Answer("Incidents, newest first.", "incidents", counted=True)),
        ("/incidents/{number}", routes.incident, Answer("One incident, as `incidents show --json`.", found=True)),
        (
            "/incidents/{number}/explain",
            routes.explain,
            Answer("Why, run by run, as `incidents explain --json`.", "timeline", found=True),
        ),
        ("/items", routes.items, Answer("Items, problems first, as `items list --json`.", "items", counted=True)),
        (
            "/items/{target}/{item_id:path}",
            routes.item,
            Answer("One item with its changes, as `items show --json`.", "events", found=True),
        ),
        ("/silences", routes.silences, Answer("Silences in force and to come.", "silences", counted=True)),
        ("/slos", routes.slos, Answer("Objectives, as `slo --json`.", "slos")),
        ("/notifications", routes.notifications, Answer("Messages to channels.", "notifications", counted=True)),
        ("/fleet", routes.fleet, Answer("Workers, their queue, and runs in shares.", "workers", found=True)),
        ("/rules", routes.rules, Answer("The rules in force, as `rules list --json`.", "rules")),
        ("/providers", routes.providers, Answer("The APIs that are described.", "providers")),
        ("/providers/{name}", routes.provider, Answer("What one API needs.", found=True)),
    ):
        options: Json = {"response_model": None, "responses": responses(answer), "summary": answer.summary}
        app.add_api_route(f"{PREFIX}{path}", handler, methods=["GET"], **options)
        app.add_api_route(f"{PREFIX}{path}", handler, methods=["HEAD"], include_in_schema=False, response_model=None)
    app.add_api_route("/api/openapi.json", _describe(app, site), methods=["GET", "HEAD"], include_in_schema=False)
    app.add_exception_handler(RequestValidationError, _invalid)


def _describe(app: FastAPI, site: Site) -> Callable[[], Response]:
    def openapi() -> Response:
        return JSONResponse(document(app, prefix=PREFIX, public_url=site.config.web.public_url))

    return openapi


async def _invalid(_: Request, error: Exception) -> Response:
    """The first problem of the parameters, as one sentence."""
    problem: Mapping[str, Any] = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    name = next(part for part in reversed(problem["loc"]) if isinstance(part, str))  # not the place in a list
    return JSONResponse({"error": f"{name}: {problem['msg']}"}, status_code=400)


class _Json(JSONResponse):
    """JSON in which no text shows what follows in another order, as the commands print it."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401  # of the base class
        found = msgspec.json.encode(content)
        return found if found.isascii() else escape_bidirectional(found.decode()).encode()


class _Routes:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def _read(
        self, query: Callable[[Connection, Config, datetime], Json | None], *, missing: str = ""
    ) -> Response:
        """The answer of a query. Raises HTTPException: 400 for a wrong parameter, 404 with `missing` for None.

        It is encoded in the thread, and not by FastAPI, which would look at every value in the loop.
        """
        config, now = self._site.config, self._site.now()

        def answer(conn: Connection) -> Response | None:
            found = query(conn, config, now)
            return None if found is None else _Json(found)

        try:
            found = await self._site.read(answer)
        except ConfigError as error:
            raise HTTPException(400, error.problems[0]) from error
        if found is None:
            raise HTTPException(404, missing)
        return found

    async def report(
        self,
        target: Target = None,
        since: Annotated[str, Query(description="How far back the trend goes: 1h to 3653d.")] = "7d",
        limit: Annotated[
            int | None,
            Query(ge=1, le=MAX_REPORTED, description="Most targets; with it, `targets_total` says how many there are."),
        ] = None,
        offset: Offset = 0,
    ) -> Response:
        period = _since(since)

        def query(conn: Connection, config: Config, now: datetime) -> Json:
            _require_target(conn, config, target)
            total = len(config.targets)
            if target is None and limit is None and total > MAX_REPORTED:
                raise ConfigError([_TOO_MANY_TARGETS.format(total=total)])
            part = None if target is not None or limit is None else slice(offset, offset + limit)
            overview, _ = build_report(conn, config, target=target, part=part, since=period, now=now)
            return overview_json(overview) | ({} if part is None else {"targets_total": total})

        return await self._read(query)

    async def targets(self) -> Response:
        def query(conn: Connection, config: Config, now: datetime) -> Json:
            due_times = {each.name: config.schedule_for(each).due_times(each.name) for each in config.targets}
            gates = gate_views(conn, due_times=due_times, now=now)
            rows = [
                {"name": each.name, "provider": each.provider, "gate": gate_json(gates[each.name])}
                for each in config.targets
            ]
            return cut_list("targets", rows)

        return await self._read(query)

    async def gate(self, target: str) -> Response:
        return await self._read(
            lambda conn, config, now: _gate(conn, config, target, now), missing=self._no_target(target)
        )

    async def history(self, target: Target = None, limit: Limit = 20) -> Response:
        def query(conn: Connection, config: Config, _: datetime) -> Json:
            _require_target(conn, config, target)
            return history_json(history_view(conn, target=target, limit=limit))

        return await self._read(query)

    async def incidents(  # the parameters of the route
        self,
        target: Target = None,
        state: Annotated[list[IncidentState], Query(description="May be repeated; default: any.")] = [],  # noqa: B006  # only read
        cause: Annotated[list[Cause], Query(description="May be repeated; default: any.")] = [],  # noqa: B006  # only read
        severity: Annotated[list[Severity], Query(description="May be repeated; default: any.")] = [],  # noqa: B006  # only read
        limit: Limit = 50,
        offset: Offset = 0,
    ) -> Response:
        wanted = IncidentFilter(
            target=target, states=frozenset(state), causes=frozenset(cause), severities=frozenset(severity)
        )

        def query(conn: Connection, config: Config, now: datetime) -> Json:
            _require_target(conn, config, target)
            return incidents_json(incidents_view(conn, wanted, limit=limit, offset=offset, now=now))

        return await self._read(query)

    async def incident(self, number: str, limit: Limit = MAX_ROWS, offset: Offset = 0) -> Response:
        incident_id = _number(number)

        def query(conn: Connection, _: Config, now: datetime) -> Json | None:
            view = incident_view(conn, incident_id, limit=limit, offset=offset, now=now)
            return None if view is None else incident_view_json(view)

        return await self._read(query, missing=f"there is no incident {incident_id}")

    async def explain(
        self,
        number: str,
        limit: Annotated[
            int,
            Query(ge=1, le=MAX_ROWS, description="Most runs, the newest ones; `runs_total` says how many there are."),
        ] = MAX_ROWS,
        before: Annotated[
            int | None, Query(ge=1, le=_MAX_ID, description="Only runs before this one: `older` of the part after it.")
        ] = None,
    ) -> Response:
        incident_id = _number(number)

        def query(conn: Connection, config: Config, now: datetime) -> Json | None:
            data = explain_view(conn, config.rules, incident_id, now=now, limit=limit, before=before)
            return None if data is None else explain_json(data)

        return await self._read(query, missing=f"there is no incident {incident_id}")

    async def items(  # the parameters of the route
        self,
        target: Target = None,
        state: Annotated[list[State], Query(description="May be repeated; default: all that are tracked.")] = [],  # noqa: B006  # only read
        stuck: Annotated[bool, Query(description="Only those pending for longer than stuck_after.")] = False,  # noqa: FBT002  # of the query
        incident: Annotated[int | None, Query(ge=1, le=_MAX_ID, description="Only items of this incident.")] = None,
        group: Annotated[str | None, Query(max_length=500)] = None,
        stage: Annotated[str | None, Query(max_length=500, description="The API's own status.")] = None,
        limit: Limit = 50,
    ) -> Response:
        def query(conn: Connection, config: Config, now: datetime) -> Json:
            _require_target(conn, config, target)
            wanted = ItemFilter(
                target=target,
                states=frozenset(state),
                incident_id=incident,
                stuck=stuck,
                group=_storable("group", group),
                stage=_storable("stage", stage),
                stuck_after=stuck_after(config),
            )
            return items_view_json(items_view(conn, wanted, limit=limit, now=now))

        return await self._read(query)

    async def item(self, request: Request, target: str, item_id: str) -> Response:
        # as it was sent: decoded, a slash in a name looks like the one between them
        target, item_id = item_in_path(request, f"{PREFIX}/items/".encode())

        def query(conn: Connection, config: Config, now: datetime) -> Json | None:
            if UNPRINTABLE.search(target + item_id):
                return None
            # programs ask again and again for what is not known yet: no search for ids like it, which reads all items
            found = find(conn, item_id, target=target, stuck_after=stuck_after(config), now=now)
            return item_view_json(item_view(conn, found[0], now=now)) if found else None

        return await self._read(query, missing=f"{target!a} has no tracked item {item_id!a}")

    async def fleet(self) -> Response:
        keys = {each.name: self._site.throttle_key(each.name) for each in self._site.config.targets}

        def query(conn: Connection, config: Config, _: datetime) -> Json | None:
            view = fleet_view_with_waits(conn, config, throttle_keys=keys)
            return None if view is None else fleet_json(view)

        return await self._read(query, missing=NO_WORKERS)

    async def silences(
        self,
        past: Annotated[bool, Query(description="Ended ones, too.")] = False,  # noqa: FBT002  # of the query
        limit: Limit = 50,
    ) -> Response:
        return await self._read(
            lambda conn, _, now: silences_json(silences_view(conn, show_all=past, limit=limit, now=now))
        )

    async def slos(self, target: Target = None) -> Response:
        def query(conn: Connection, config: Config, _: datetime) -> Json:
            names = [each.name for each in config.targets if target in {None, each.name}]
            if not names:
                raise ConfigError([no_such_target(config, target or "")])
            return slos_json(configured_slos(conn, config, targets=names))

        return await self._read(query)

    async def notifications(
        self,
        channel: Annotated[str | None, Query(max_length=500, description="Only this channel.")] = None,
        delivered: Annotated[bool, Query(description="Delivered and superseded ones, too.")] = False,  # noqa: FBT002  # of the query
        limit: Limit = 50,
    ) -> Response:
        statuses = None if delivered else ("due", "dead")

        def query(conn: Connection, config: Config, now: datetime) -> Json:
            if channel is not None and not is_known_channel(conn, config, channel):
                raise ConfigError([f"channel: there is no channel {channel!a}"])
            view = notifications_view(conn, statuses=statuses, channel=channel, limit=limit, now=now)
            return notifications_json(view)

        return await self._read(query)

    async def rules(self, target: Target = None) -> Response:
        config = self._site.config
        try:
            return await self._site.draw(lambda: _Json(rules_json(rule_rows(config, target))))
        except ConfigError as error:
            raise HTTPException(400, error.problems[0].removeprefix("--")) from error

    async def providers(self) -> Json:
        return providers_json(provider_rows())

    async def provider(self, name: str) -> Json:
        preset = find_preset(name)
        if preset is None:
            raise HTTPException(404, f"there is no description of {name!a}: {PREFIX}/providers lists them")
        return preset_json(preset)

    def _no_target(self, name: str) -> str:
        return no_such_target(self._site.config, name)


def _gate(conn: Connection, config: Config, name: str, now: datetime) -> Json | None:
    for target in config.targets:
        if target.name == name:
            due_times = config.schedule_for(target).due_times(name)
            return gate_json(gate_view(conn, target=name, due_times=due_times, now=now))
    return None


def _require_target(conn: Connection, config: Config, name: str | None) -> None:
    if name is not None and not is_known_target(conn, config, name):
        raise ConfigError([no_such_target(config, name)])


def _number(text: str) -> int:
    """The number of an incident, in a path. Raises HTTPException if no incident can have it."""
    number = positive(text)
    if number is None:
        raise HTTPException(404, f"there is no incident {text[:_MAX_QUOTED]!a}")
    return number


def _storable(name: str, text: str | None) -> str | None:
    if text is not None and UNPRINTABLE.search(text):
        raise ConfigError([f"{name}: {text[:_MAX_QUOTED]!a} holds a character that no stored text has"])
    return text


def _since(text: str) -> timedelta:
    given = text.strip()[:_MAX_QUOTED]
    try:
        return bounded_duration(given, minimum=MIN_SINCE, maximum=MAX_SINCE, examples='"24h", "7d" or "90d"')
    except ValueError as error:
        raise HTTPException(400, f"since: {error}") from None
