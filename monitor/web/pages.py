"""The HTML pages about targets, and the files that pages load."""

import gzip
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError

from fastapi import FastAPI, Request
from fastapi.responses import Response
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from monitor.database.text import UNPRINTABLE
from monitor.reports.fleet import NO_WORKERS, fleet_verdict, fleet_view_with_waits
from monitor.reports.html import StaticFile, plotly_script, static_file
from monitor.reports.html.charts import Chart, completed_chart, states_chart, target_charts
from monitor.reports.html.pagination import Page, address, numbered_page
from monitor.reports.overview_page import TARGETS_PER_PAGE, OverviewPage, overview_page
from monitor.reports.target_page import RunList, TargetPage, target_page
from monitor.reports.trends import first_run_at
from monitor.reports.triage import known_objectives
from monitor.threads import run_in_thread
from monitor.web.incident_pages import add_incident_pages
from monitor.web.item_pages import add_item_pages
from monitor.web.rendering import html_page, number
from monitor.web.site import Site

_METHODS = ["GET", "HEAD"]
_FILE_TIMEOUT_S = 5.0

PERIODS = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "365d": timedelta(days=365),
}
"""Periods that a page can show, by their name in the address."""
_NEW_PERIOD, _DEFAULT_PERIOD = "24h", "7d"
"""Without one in the address: the first while nothing older is stored."""


def add_pages(app: FastAPI, site: Site) -> None:
    """Adds the routes of the pages."""
    pages = _Pages(site)
    app.add_api_route("/", pages.overview, methods=_METHODS, response_model=None)
    app.add_api_route("/targets/{name:path}", pages.target, methods=_METHODS, response_model=None)
    add_incident_pages(app, site)
    add_item_pages(app, site)
    app.add_api_route("/workers", pages.workers, methods=_METHODS, response_model=None)
    app.add_api_route("/static/{name}", pages.static, methods=_METHODS, response_model=None)


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def overview(self, request: Request) -> Response:
        site, given = self._site, _period(request)
        page_number = number(request, "page") or 1
        config, now = site.config, site.now()
        wanted = request.query_params.get("target", "").strip()

        def read(conn: Connection) -> tuple[str, OverviewPage | None]:
            period = given or _default_period(first_run_at(conn), now=now)
            return period, overview_page(
                conn, config, since=PERIODS[period], now=now, number=page_number, wanted=wanted
            )

        period, page = await site.read(read)
        if page is None:
            raise HTTPException(404, f"there is no page {page_number} of the targets")
        return await html_page(
            site,
            request,
            "overview.html",
            "Overview",
            page=page,
            periods=_period_links(request),
            period=period,
            period_query="" if given is None else f"?since={given}",
            slos=known_objectives(page.overview.targets),
            slo_count=sum(len(target.facts.slos) for target in page.overview.targets),
            charts=lambda: _charts(page),
            target_pages=numbered_page(
                page_number,
                size=TARGETS_PER_PAGE,
                total=page.found_count,
                noun="target",
                path="/",
                query={"since": request.query_params.get("since", ""), "target": wanted},
            ),
            wanted=wanted,
        )

    async def target(self, request: Request, name: str) -> Response:
        site, given = self._site, _period(request)
        before, after = number(request, "before"), number(request, "after")
        if UNPRINTABLE.search(name):  # no target has such a name, and PostgreSQL refuses some of these characters
            raise HTTPException(404)
        config, now, key = site.config, site.now(), site.throttle_key(name)

        def read(conn: Connection) -> tuple[str, TargetPage | None]:
            period = given or _default_period(first_run_at(conn, target=name), now=now)
            since = PERIODS[period]
            return period, target_page(
                conn, config, name=name, since=since, now=now, before=before, after=after, throttle_key=key
            )

        period, page = await site.read(read)
        if page is None:
            raise HTTPException(404, f"no target is called {name}: the overview lists them")
        return await html_page(
            site,
            request,
            "target.html",
            name,
            page=page,
            periods=_period_links(request),
            period=period,
            period_query="" if given is None else f"?since={given}",
            charts=lambda: target_charts(page.target, page.overview.bounds, now=now),
            run_pages=_run_pages(request, page.runs),
        )

    async def workers(self, request: Request) -> Response:
        site = self._site
        config, keys = site.config, {each.name: site.throttle_key(each.name) for each in site.config.targets}
        view = await site.read(lambda conn: fleet_view_with_waits(conn, config, throttle_keys=keys))
        if view is None:
            raise HTTPException(404, NO_WORKERS)
        return await html_page(site, request, "workers.html", "Workers", view=view, verdict=fleet_verdict(view))

    async def static(self, request: Request, name: str) -> Response:
        zipped = "gzip" in request.headers.get("accept-encoding", "")
        file = await run_in_thread(lambda: _served(name, zipped=zipped), timeout_s=_FILE_TIMEOUT_S)
        if file is None:
            raise HTTPException(404)
        headers = {
            "Content-Type": file.media_type,
            "ETag": file.etag,
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
        }
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return Response(file.content, headers=headers)


@cache
def _served(name: str, *, zipped: bool) -> StaticFile | None:
    """A file, compressed once for all viewers."""
    try:
        file = plotly_script() if name == "plotly.min.js" else static_file(name)
    except PackageNotFoundError:
        return None
    if file is None or not zipped:
        return file
    return StaticFile(
        name=file.name,
        content=gzip.compress(file.content, mtime=0),
        media_type=file.media_type,
        etag=f'{file.etag[:-1]}-gzip"',
    )


def _charts(page: OverviewPage) -> list[Chart]:
    bounds = page.overview.bounds
    found = completed_chart(page.samples, bounds), states_chart(page.samples, bounds)
    return [chart for chart in found if chart is not None]


def _period(request: Request) -> str | None:
    """The period of the address. Raises HTTPException for one that is not offered."""
    name = request.query_params.get("since")
    if name is not None and name not in PERIODS:
        raise HTTPException(400, f"since must be one of {', '.join(PERIODS)}, such as ?since=30d")
    return name


def _default_period(first_run_at: datetime | None, *, now: datetime) -> str:
    """The period of an address without one, by the oldest run."""
    is_new = first_run_at is not None and now - first_run_at <= PERIODS[_NEW_PERIOD]
    return _NEW_PERIOD if is_new else _DEFAULT_PERIOD


def _period_links(request: Request) -> list[tuple[str, str]]:
    """Links to the same page with other periods; a page of a list is kept."""
    kept = {name: request.query_params.get(name) for name in ("target", "page")}
    return [(name, address("", {"since": name, **kept})) for name in PERIODS]


def _run_pages(request: Request, found: RunList) -> Page:
    """Links beside a page of runs; each leads back to the list."""
    if not found.rows:
        return Page(text="")
    since = request.query_params.get("since")

    def link(**bound: str) -> str:
        return address("", {"since": since, **bound}) + "#runs"

    return Page(
        text=f"runs {found.rows[0].run_id} to {found.rows[-1].run_id}",
        previous=None if found.newer is None else link(after=str(found.newer)),
        next=None if found.older is None else link(before=str(found.older)),
    )
