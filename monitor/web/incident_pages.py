"""The HTML pages about incidents: the list, and one incident."""

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from monitor.model import Cause, IncidentState, Severity
from monitor.reports.formatting import COUNTED_ROWS, plural
from monitor.reports.html.charts import Chart
from monitor.reports.html.incident_charts import evidence_chart
from monitor.reports.html.pagination import Page, address
from monitor.reports.incident_page import ITEMS_PER_PAGE, IncidentPage, incident_page
from monitor.reports.incident_views import IncidentFilter, IncidentsView, open_first_view
from monitor.reports.names import is_known_target, target_names
from monitor.web.rendering import Link, choice, html_page, missing_page, number, positive, text, unknown_target_page
from monitor.web.site import Site

_METHODS = ["GET", "HEAD"]
INCIDENTS_PER_PAGE = 50
MAX_PAGE = 1_000
"""The last page of the list of incidents that is offered."""
_ALL = Link(text="All incidents", href="/incidents")
_FILTERS = ("state", "target", "cause", "severity")


def add_incident_pages(app: FastAPI, site: Site) -> None:
    """Adds the routes."""
    pages = _IncidentPages(site)
    app.add_api_route("/incidents", pages.incidents, methods=_METHODS, response_model=None)
    app.add_api_route("/incidents/{incident_id}", pages.incident, methods=_METHODS, response_model=None)


class _IncidentPages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def incidents(self, request: Request) -> Response:
        site, config, now = self._site, self._site.config, self._site.now()
        state = choice(request, "state", IncidentState)
        cause = choice(request, "cause", Cause)
        severity = choice(request, "severity", Severity)
        target, page = text(request, "target"), number(request, "page") or 1
        if page > MAX_PAGE:
            raise HTTPException(400, f"page must be at most {MAX_PAGE}: use the filters")
        wanted = IncidentFilter(
            target=target or None,
            states=frozenset({IncidentState(state)}) if state else frozenset(),
            causes=frozenset({Cause(cause)}) if cause else frozenset(),
            severities=frozenset({Severity(severity)}) if severity else frozenset(),
        )
        offset = (page - 1) * INCIDENTS_PER_PAGE
        known, view = await site.read(
            lambda conn: (
                not target or is_known_target(conn, config, target),
                open_first_view(conn, wanted, limit=INCIDENTS_PER_PAGE, offset=offset, now=now),
            )
        )
        if not known:
            return await unknown_target_page(site, request, target, instead=_ALL)
        if not view.incidents and page > 1:
            raise HTTPException(404, f"There is no page {page} of these incidents.")
        chosen = {name: request.query_params.get(name, "") for name in _FILTERS}
        return await html_page(
            site,
            request,
            "incidents.html",
            "Incidents",
            view=view,
            chosen=chosen,
            filtered=any(chosen.values()),
            states=[*IncidentState],
            targets=target_names(config),
            causes=[*Cause],
            severities=[*reversed(Severity)],
            links=_list_pages(view, page, chosen),
        )

    async def incident(self, request: Request, incident_id: str) -> Response:
        site, config, now = self._site, self._site.config, self._site.now()
        found, item_page = positive(incident_id), number(request, "items") or 1
        page = None
        if found is not None:
            page = await site.read(
                lambda conn: incident_page(conn, config, found, item_page=min(item_page, 10**9), now=now)
            )
        if page is None:
            return await missing_page(
                site, request, title="Unknown incident", sentence=f"There is no incident {incident_id}.", links=[_ALL]
            )
        incident = page.incident
        if item_page > 1 and not page.view.members:
            raise HTTPException(404, f"There is no page {item_page} of the items of incident {incident.id}.")
        return await html_page(
            site,
            request,
            "incident.html",
            f"Incident {incident.id}",
            page=page,
            incident=incident,
            charts=lambda: _charts(page),
            item_pages=_item_pages(page),
        )


def _charts(page: IncidentPage) -> list[Chart]:
    chart = evidence_chart(page.explained.history, drawn=page.drawn)
    return [] if chart is None else [chart]


def _item_pages(page: IncidentPage) -> Page:
    """Links beside a page of an incident's items; each leads back to the list."""
    first = (page.item_page - 1) * ITEMS_PER_PAGE + 1
    last = first + len(page.view.members) - 1

    def link(to: int) -> str:
        return address(f"/incidents/{page.incident.id}", {"items": str(to) if to > 1 else ""}) + "#items"

    return Page(
        text=f"{first}–{last} of {plural(page.incident.member_count, 'item')}",
        previous=link(page.item_page - 1) if page.item_page > 1 else None,
        next=link(page.item_page + 1) if page.incident.member_count > last else None,
    )


def _list_pages(view: IncidentsView, page: int, chosen: dict[str, str]) -> Page:
    """Links beside a page of the list; of many incidents only the first ones are counted."""
    first = (page - 1) * INCIDENTS_PER_PAGE + 1
    last = first + len(view.incidents) - 1
    many = view.total > last and view.total >= COUNTED_ROWS
    total = f"{view.total} or more incidents" if many else plural(view.total, "incident")

    def link(to: int) -> str:
        return address("/incidents", {**chosen, "page": str(to) if to > 1 else ""})

    return Page(
        text=f"{first}–{last} of {total}",
        previous=link(page - 1) if page > 1 else None,
        next=link(page + 1) if view.total > last and page < MAX_PAGE else None,
    )
