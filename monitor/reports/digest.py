"""The scheduled report: whether one is due, and how it gets into the outbox, once for all daemons.

1. A due time gives the report's name. Whether it is due depends on the newest one that was made, which is stored: a
   restart, or another daemon, sends nothing twice, and of those that were missed only the newest is sent.
2. The report is built in a transaction that only reads.
3. One more transaction claims the due time, puts the message into the outbox and stores what the report covered.
If a process dies before 3, nothing was claimed. Delivery is the outbox's: retries, suspended channels, dead letters.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, Engine, func, select

from monitor.config import Config
from monitor.database.engine import insert, reading, writing
from monitor.database.report_tables import digests
from monitor.notifications import outbox
from monitor.reports.build import build_report
from monitor.reports.changes import save_cursor


class DigestDecision(StrEnum):
    """What to do at a moment."""

    SEND = "send"
    BEGIN = "begin"
    """A schedule that is new to this database has missed nothing: the next due time is its first."""
    NOT_DUE = "not_due"


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestHistory:
    """What is stored of earlier due times, up to now."""

    any: bool
    """Whether any due time is stored, if only one that is ahead of the clock."""
    newest: datetime | None


def decide_digest(due: datetime | None, history: DigestHistory) -> DigestDecision:
    """Decides on the latest due time (None: there was none). Pure."""
    if due is None or (history.newest is not None and history.newest >= due):
        return DigestDecision.NOT_DUE
    return DigestDecision.SEND if history.any else DigestDecision.BEGIN


def enqueue_digest(engine: Engine, config: Config, *, now: datetime) -> tuple[str, ...]:
    """Puts the report into the outbox if it is due; returns the channels that it will be sent to, or none.

    Raises StoreError if the database can't be used.
    """
    settings = config.report
    if settings is None:
        return ()
    times = settings.due_times()
    due = times.latest_nominal(now)
    with reading(engine) as conn:
        decision = decide_digest(due, _history(conn, config.environment, now))
    if due is None or decision is DigestDecision.NOT_DUE:
        return ()
    key = times.run_key(due)
    if decision is DigestDecision.BEGIN:
        with writing(engine) as conn:
            _claim(conn, config.environment, due, run_key=key, channels=(), now=now)
        return ()
    from monitor.reports.report_message import as_message  # it loads the templates

    with reading(engine) as conn:
        overview, cursors = build_report(conn, config, target=None, since=settings.period, now=now)
    message = as_message(overview, public_url=config.web.public_url)
    with writing(engine) as conn:
        if not _claim(conn, config.environment, due, run_key=key, channels=settings.channels, now=now):
            return ()  # another daemon was faster
        outbox.enqueue_report(conn, message, channels=settings.channels, name=f"{config.environment} {due}", now=now)
        for name, cursor in cursors.items():
            save_cursor(conn, target=name, cursor=cursor)
    return settings.channels


def _history(conn: Connection, environment: str, now: datetime) -> DigestHistory:
    ours = digests.c.environment == environment
    newest = conn.execute(select(func.max(digests.c.due_at)).where(ours, digests.c.due_at <= now)).scalar()
    first = conn.execute(select(digests.c.due_at).where(ours).limit(1)).scalar()
    return DigestHistory(any=first is not None, newest=newest)


def _claim(
    conn: Connection, environment: str, due: datetime, *, run_key: str, channels: tuple[str, ...], now: datetime
) -> bool:
    """Whether this transaction is the first for a due time."""
    row = {"environment": environment, "due_at": due, "run_key": run_key, "created_at": now, "channels": list(channels)}
    claimed = insert(conn, digests).values(row).on_conflict_do_nothing(index_elements=["environment", "due_at"])
    return conn.execute(claimed, execution_options={"preserve_rowcount": True}).rowcount == 1
