"""The HTML pages about items: the list, and one item."""

from collections.abc import Mapping
from datetime import timedelta

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from monitor.config import Config
from monitor.database.text import UNPRINTABLE
from monitor.model import ItemState
from monitor.reports.formatting import plural
from monitor.reports.html.marks import item_path
from monitor.reports.html.pagination import Page, address
from monitor.reports.item_page import item_page
from monitor.reports.item_queries import IGNORED, REMOVED, ItemFilter
from monitor.reports.item_views import look_up, stuck_after
from monitor.reports.items_page import ItemsPage, Position, decode_position, items_page
from monitor.reports.names import is_known_target
from monitor.web.rendering import Link, choice, html_page, item_in_path, missing_page, number, text, unknown_target_page
from monitor.web.site import Site

_METHODS = ["GET", "HEAD"]
_PREFIX = b"/items/"
_STUCK = "stuck"
STATES = (*(state.value for state in ItemState), _STUCK, REMOVED, IGNORED)
"""States that can be chosen. The first ones are of tracked items."""
_ALL = Link(text="All items", href="/items")
_FILTERS = ("q", "target", "state", "group", "stage", "incident")


def add_item_pages(app: FastAPI, site: Site) -> None:
    """Adds the routes."""
    pages = _ItemPages(site)
    app.add_api_route("/items", pages.items, methods=_METHODS, response_model=None)
    # its path is taken apart here: a target and an id may hold slashes
    app.add_api_route("/items/{path:path}", pages.item, methods=_METHODS, response_model=None)


class _ItemPages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def items(self, request: Request) -> Response:
        if "id" in request.query_params:  # of a target or an item whose name no path can hold
            return await self._show(request, text(request, "target"), request.query_params["id"])
        site, config, now = self._site, self._site.config, self._site.now()
        chosen = {name: text(request, name) for name in _FILTERS} | {"state": _state(request)}
        target = chosen["target"]
        wanted = _filter(config, chosen, incident_id=number(request, "incident"))
        after, before = _position(request, "after"), _position(request, "before")
        known, page = await site.read(
            lambda conn: (
                not target or is_known_target(conn, config, target),
                items_page(conn, wanted, prefix=chosen["q"], after=after, before=before, now=now),
            )
        )
        if not known:
            return await unknown_target_page(site, request, target, instead=_ALL)
        return await html_page(
            site,
            request,
            "items.html",
            "Items",
            page=page,
            chosen=chosen,
            filtered=any(chosen.values()),
            states=STATES,
            targets=[each.name for each in config.targets],
            links=_list_pages(page, chosen),
        )

    async def item(self, request: Request) -> Response:
        target, item_id = item_in_path(request, _PREFIX)
        return await self._show(request, target, item_id)

    async def _show(self, request: Request, target: str, item_id: str) -> Response:
        site, config, now = self._site, self._site.config, self._site.now()
        if not target or not item_id or UNPRINTABLE.search(target + item_id):
            return await missing_page(
                site,
                request,
                title="Unknown item",
                sentence="This is the address of no item: it is /items/TARGET/ID, each percent-encoded.",
                links=[_ALL],
            )
        known, found, page = await site.read(
            lambda conn: (
                is_known_target(conn, config, target),
                lookup := look_up(conn, config, item_id, target=target, now=now),
                item_page(conn, lookup.items[0], now=now) if lookup.items else None,
            )
        )
        if page is not None:
            return await html_page(site, request, "item.html", item_id, page=page, item=page.view.item)
        if not known:
            return await unknown_target_page(site, request, target, instead=_ALL)
        hint = ""
        if found.waiting:
            hint = "It is in the built-in log, but no run has read it yet."
        elif found.similar:
            hint = "Did you mean one of these?"
        links = [Link(text=each, href=item_path(target, each)) for each in found.similar]
        return await missing_page(
            site,
            request,
            title="Unknown item",
            sentence=f"{target} has no item with the id {item_id}.",
            hint=hint,
            links=[*links, Link(text=f"All items of {target}", href=address("/items", {"target": target}))],
        )


def _state(request: Request) -> str:
    """The chosen state; other pages link with `stuck=1`."""
    if request.query_params.get("stuck") == "1":
        return _STUCK
    return choice(request, "state", STATES)


def _filter(config: Config, chosen: Mapping[str, str], *, incident_id: int | None) -> ItemFilter:
    state, target = chosen["state"], chosen["target"]
    patience: Mapping[str, timedelta] = stuck_after(config)
    if target:
        patience = {name: each for name, each in patience.items() if name == target}
    return ItemFilter(
        target=target or None,
        states=frozenset({state}) if state and state != _STUCK else frozenset(),
        stuck=state == _STUCK,
        incident_id=incident_id,
        group=chosen["group"] or None,
        stage=chosen["stage"] or None,
        stuck_after=patience,
    )


def _position(request: Request, name: str) -> Position | None:
    """The position in a query parameter. Raises HTTPException if it is none."""
    value = request.query_params.get(name)
    if value is None:
        return None
    found = decode_position(value)
    if found is None or UNPRINTABLE.search(found.target + found.item_id):
        raise HTTPException(400, f"{name} is no place in the list: begin at /items")
    return found


def _list_pages(page: ItemsPage, chosen: Mapping[str, str]) -> Page:
    """Links beside a page of the list."""
    total = f"{page.total} or more items" if page.total_is_minimum else plural(page.total, "item")

    def link(name: str, at: Position | None) -> str | None:
        return None if at is None else address("/items", {**chosen, name: at.encode()})

    return Page(
        text=f"{len(page.items)} of {total}", previous=link("before", page.before), next=link("after", page.after)
    )
