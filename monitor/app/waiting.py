"""Builds waits and single looks for a target: items, limits, client, and where they are stored."""

import asyncio
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from monitor.app.app import App, holder
from monitor.app.clients import open_client
from monitor.client.limits import RetryBudget
from monitor.config import TargetConfig
from monitor.database import leases
from monitor.database.engine import reading
from monitor.database.text import UNPRINTABLE
from monitor.errors import ConfigError
from monitor.model import SyncLogEntry
from monitor.model.items import NO_PARAMS, TrackedItem
from monitor.providers import Provider, has_uuid_ids, is_list_only, request_for
from monitor.runs.canary import store as canary_store
from monitor.runs.looks import looks_for
from monitor.synclog.ids import canonical_uuid
from monitor.synclog.validation import validate_entries
from monitor.waits import store
from monitor.waits.recording import WaitRecorder
from monitor.waits.report import WaitReport
from monitor.waits.rules import WatchedItem
from monitor.waits.wait import Limits, Wait, WaitSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from monitor.client.client import Client

_MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The ids that the sync log has of a period."""

    entries: Sequence[SyncLogEntry]
    without_time: int
    """Usable rows that have no upload time, or none that can be read: whether they belong to the period is unknown."""


def uploads_since(app: App, target: TargetConfig, since: datetime, *, ends_s: float) -> Uploads:
    """The ids that were uploaded since then, each once, as the sync log has them; read until `ends_s` (monotonic).

    Documents of canaries, which a pipeline may record as any other upload, are left out, as in runs.

    Raises:
        ConfigError: the log has no upload times: no column for them, or none in any row.
        SyncLogError, StoreError: it can't be read.
    """
    if target.sync_log is not None and target.sync_log.submitted_at_column is None:
        where = f"targets.{target.name}.sync_log"
        remedy = "name their column in submitted_at_column, or give the ids"
        raise ConfigError([f"{where}: --since needs the upload times; {remedy}"])
    found: dict[str, SyncLogEntry] = {}
    with_time = without_time = 0
    now = app.clock()
    for batch in app.read_log(target, ends_s=ends_s):
        for entry in validate_entries(batch, now=now)[0]:
            if entry.submitted_at is None:
                without_time += 1
                continue
            with_time += 1
            if entry.submitted_at >= since and entry.item_id is not None:
                found.setdefault(entry.item_id, entry)
    if without_time and not with_time:
        column = "`items import --submitted-at-column`" if target.sync_log is None else "submitted_at_column"
        remedy = f"name their column in {column}, or give the ids"
        raise ConfigError([f"target {target.name}: --since needs the upload times, and no row has one; {remedy}"])
    with reading(app.engine) as conn:
        own = canary_store.own_ids(conn, target=target.name)
    entries = tuple(entry for item_id, entry in found.items() if item_id not in own)
    return Uploads(entries=entries, without_time=without_time)


def entries_of(
    provider: Provider, item_ids: Sequence[str], *, params: Mapping[str, str] | None = None
) -> list[SyncLogEntry]:
    """Ids that a person or a program gives, each once, in the form that runs have: surrounding blanks are dropped."""
    uuid_ids = has_uuid_ids(provider)
    stripped = (item_id.strip() for item_id in item_ids)
    unique = dict.fromkeys((canonical_uuid(each) or each) if uuid_ids else each for each in stripped if each)
    return [SyncLogEntry(item_id=item_id, params=dict(params) if params else None) for item_id in unique]


def watched_items(
    app: App, target: TargetConfig, provider: Provider, entries: Sequence[SyncLogEntry]
) -> list[WatchedItem]:
    """The items of a wait, with what runs have stored of them: whether the API had them, and their path parameters.

    Raises:
        ConfigError: a request can't be made, as a parameter of its path is not known.
        StoreError: the database can't be read.
    """
    given = (entry.item_id for entry in entries if entry.item_id is not None)
    ids = [each for each in given if UNPRINTABLE.search(each) is None]  # others are in no column, and break the query
    with reading(app.engine) as conn:
        known = store.known_items(conn, target=target.name, item_ids=ids)
    now = app.clock()
    watched = []
    for entry in entries:
        row = known.get(entry.item_id or "")
        params = {name: value for name, value in (entry.params or {}).items() if value is not None}
        item = TrackedItem(
            item_id=entry.item_id or "",
            first_seen_at=now,
            submitted_at=entry.submitted_at or (row.submitted_at if row else None),
            # a 404 is expected while it is on its way, and needs no event in the log
            known_missing=row is None or not row.seen,
            params=params or (row.params if row else NO_PARAMS),
        )
        watched.append(WatchedItem(item=item, seen=row is not None and row.seen))
    _require_requests(target, provider, watched)
    return watched


def _require_requests(target: TargetConfig, provider: Provider, watched: Sequence[WatchedItem]) -> None:
    """Raises ConfigError for items whose path parameters are not known, or can't be sent."""
    if target.sync_log is None or not target.sync_log.param_columns or is_list_only(provider):
        return
    needed = [name for name in target.sync_log.param_columns if name not in target.params]
    problems = list(_impossible_requests(provider, watched, needed))
    if problems:
        more = f" (and {len(problems) - _MAX_NAMED} more ids)" if len(problems) > _MAX_NAMED else ""
        named = f"{', '.join(problems[:_MAX_NAMED])}{more}"
        remedy = "use --since, or run `ingestion-monitor check` once after the upload"
        raise ConfigError(
            [f"target {target.name}: {named}; the sync log gives the path parameters of each id: {remedy}"]
        )


def _impossible_requests(provider: Provider, watched: Sequence[WatchedItem], needed: Sequence[str]) -> Iterator[str]:
    for each in watched:
        item_id, params = each.item.item_id, each.item.params
        if missing := [name for name in needed if name not in params]:
            yield f"id {item_id}: {', '.join(missing)} is not known"
            continue
        try:
            if provider.valid_id(item_id):
                request_for(provider, item_id, params)
        except ValueError as error:
            yield f"id {item_id}: {error}"


@asynccontextmanager
async def client_for(app: App, target: TargetConfig, provider: Provider) -> "AsyncIterator[Client]":
    """The resilient client of a target, with the limits that runs have learned."""
    throttle = app.throttles.throttle(target, app.config.targets, app.engine, utcnow=app.clock)
    async with open_client(target, provider, throttle) as client:
        yield client


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Waits for items of one target, with a client that is open."""

    app: App
    target: TargetConfig
    provider: Provider
    client: "Client"

    def wait(self, items: Sequence[WatchedItem], *, timeout: timedelta, interrupt: asyncio.Event) -> Wait:
        """A wait whose budget begins now."""
        return self._build(items, timeout=timeout, interrupt=interrupt, once=False)

    def look(self, items: Sequence[WatchedItem], *, timeout: timedelta, interrupt: asyncio.Event) -> Wait:
        """One look at each item, with the retries of a run."""
        return self._build(items, timeout=timeout, interrupt=interrupt, once=True)

    async def run(self, wait: Wait) -> WaitReport:
        """Runs a wait and stores it. Raises StoreError if the database can't be used."""
        app = self.app
        recorder = WaitRecorder(
            engine=app.engine,
            target=self.target.name,
            environment=app.config.environment,
            holder=holder(),
            utcnow=app.clock,
            lease_now=partial(leases.lease_now, utcnow=app.clock),
        )
        return await recorder.run(wait)

    def _build(self, items: Sequence[WatchedItem], *, timeout: timedelta, interrupt: asyncio.Event, once: bool) -> Wait:
        check, now_s = self.target.check, time.monotonic()
        attempts = check.max_attempts if once else 1
        # a budget of its own: what other calls used up is not its fault
        client = dataclasses.replace(self.client, max_attempts=attempts, budget=RetryBudget())
        spec = WaitSpec(
            target=self.target.name,
            items=items,
            started_s=now_s,
            deadline_s=now_s + timeout.total_seconds(),
            missing_after=check.missing_after,
            valid_id=self.provider.valid_id,
            once=once,
        )
        looks = looks_for(
            self.provider, client, deadline_s=spec.deadline_s, max_attempts=attempts, utcnow=self.app.clock
        )
        return Wait(spec, looks, _limits(client, check.concurrency), interrupt=interrupt, utcnow=self.app.clock)


def _limits(client: "Client", concurrency: int) -> Limits:
    throttle = client.throttle

    def rate_per_s() -> float | None:
        limiter = throttle.rate_limiter
        return min((rate for rate in (limiter.per_s, limiter.ceiling_per_s) if rate), default=None)

    return Limits(
        workers=concurrency,
        rate_per_s=rate_per_s,
        breaker_is_open=lambda: throttle.breaker.open,
        resume=throttle.start_run,
    )
