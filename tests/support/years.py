"""A long history, inserted by the database itself: runs, snapshots, evidence, incidents, messages, item events.

A million rows take some seconds, on both databases. Only what queries look at is realistic: which rows there are, how
they refer to each other, and when they were written.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

GROWING = (
    "runs", "snapshots", "evidence", "incidents", "incident_events", "notifications", "silences", "item_events",
    "history_hourly", "history_daily", "time_to_indexed", "slowest_uploads", "waits",
)  # fmt: skip
"""Tables that get longer as time goes by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Years:
    """`runs` of each target, `every_s` apart, the last one so long before `end`, and what they left behind."""

    targets: tuple[str, ...]
    runs: int
    end: datetime
    every_s: int = 60
    status: str = "complete"
    """Of all runs; only complete, partial and aborted ones get a snapshot."""
    events_per_run: int = 5
    items: int = 20
    """Items that the events are about, per target."""
    first_id: int = 1_000
    """Of all rows. An older stretch that is inserted later has lower ids."""
    message: str = "{}"
    """The JSON of all notifications."""
    runs_per_incident: int = 10
    """Every so many runs an incident opened, was notified twice, and resolved."""
    rollups: bool = True
    """A row per run in each table of rollups, as if no two runs shared a period; else none."""

    def fill(self, conn: Connection) -> None:
        """Inserts it. In a writing transaction."""
        self._targets(conn)
        for statement in (*_STATEMENTS, *(_ROLLUPS if self.rollups else ())):
            conn.execute(text(self._in_dialect(conn, statement)), self._values(statement))
        conn.execute(text("DROP TABLE year_targets"))
        if conn.dialect.name == "postgresql":
            for name in _NUMBERED:
                conn.execute(text(f"SELECT setval('{name}_id_seq', (SELECT max(id) FROM {name}))"))

    def _targets(self, conn: Connection) -> None:
        conn.execute(text("CREATE TEMPORARY TABLE year_targets (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"))
        rows = [{"number": number, "name": name} for number, name in enumerate(self.targets)]
        conn.execute(text("INSERT INTO year_targets VALUES (:number, :name)"), rows)

    def _in_dialect(self, conn: Connection, statement: str) -> str:
        if conn.dialect.name == "postgresql":
            numbers = "(SELECT generate_series(0, {} - 1) AS i)"
            ago = "(CAST(:end AS timestamptz) - ({}) * interval '1 second')"
        else:
            numbers = (
                "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {} - 1) SELECT i FROM n)"
            )
            ago = "strftime('%Y-%m-%d %H:%M:%f000', :end, '-' || ({}) || ' seconds')"
        for count in ("of_runs", "of_events", "of_incidents", "of_messages", "of_silences"):
            statement = statement.replace(f"[{count}]", numbers.format(f":{count}"))
        while "[ago " in statement:
            before, _, rest = statement.partition("[ago ")
            inner, _, after = rest.partition("]")
            statement = before + ago.format(inner) + after
        for name in ("empty", "message"):
            as_json = f"CAST(:{name} AS JSON)" if conn.dialect.name == "postgresql" else f":{name}"
            statement = statement.replace(f"[{name}]", as_json)
        return statement

    def _values(self, statement: str) -> dict[str, object]:
        total, count = self.runs * len(self.targets), len(self.targets)
        incidents = max(1, total // self.runs_per_incident)
        values: dict[str, object] = {
            "first": self.first_id, "total": total, "targets": count, "items": self.items, "status": self.status,
            "runs": self.runs, "every": self.every_s, "end": self.end.strftime("%Y-%m-%d %H:%M:%S"), "of_runs": total,
            "per_run": self.events_per_run, "of_events": total * self.events_per_run,
            "per_incident": self.runs_per_incident, "of_incidents": incidents, "of_messages": 2 * incidents,
            "of_silences": incidents, "empty": "{}", "message": self.message, "buckets": '{"60000":1}',
        }  # fmt: skip
        used = statement.replace("[ago ", ":end ")
        return {name: value for name, value in values.items() if re.search(rf":{name}\b|\[{name}\]", used)}


_NUMBERED = ("runs", "evidence", "incidents", "incident_events", "notifications", "silences", "item_events", "waits")
_AGE = "(:runs - n.i / :targets) * :every"
"""Of run i in seconds: targets take turns."""
_INCIDENT_AGE = "(:runs - n.i * :per_incident / :targets) * :every"
_MESSAGE_AGE = "(:runs - n.i / 2 * :per_incident / :targets) * :every"
_STATEMENTS = (
    f"""INSERT INTO runs (id, target, environment, epoch, status, due, answered, started_at, finished_at)
    SELECT :first + n.i, t.name, 'test', 0, :status, 20, 20, [ago {_AGE}], [ago {_AGE} - 5]
    FROM [of_runs] n JOIN year_targets t ON t.number = n.i % :targets""",
    """INSERT INTO snapshots (run_id, total, checked, completed, pending, failed, not_found, invalid, unknown, stuck,
    requests, retries, latency_p50_ms, latency_p95_ms, duration_s)
    SELECT id, 20, 20, 20, 0, 0, 0, 0, 0, 0, 20, 0, 1, 1, 1 FROM runs
    WHERE id >= :first AND id < :first + :total AND status IN ('complete', 'partial', 'aborted')""",
    """INSERT INTO evidence (id, run_id, target, cause, at, count, breakdown, sample_ids, request_ids)
    SELECT :first + n.i, r.id, r.target, 'outage', r.finished_at, 1, [empty], [empty], [empty]
    FROM [of_incidents] n JOIN runs r ON r.id = :first + n.i * :per_incident""",
    f"""INSERT INTO incidents (id, target, environment, cause, state, severity, team, opened_at, first_evidence_at,
    last_evidence_at, resolved_at, channels, evidence_id)
    SELECT :first + n.i, t.name, 'test', 'outage', 'resolved', 'critical', 'operations', [ago {_INCIDENT_AGE}],
    [ago {_INCIDENT_AGE}], [ago {_INCIDENT_AGE}], [ago {_INCIDENT_AGE} - 30], [empty], :first + n.i
    FROM [of_incidents] n JOIN year_targets t ON t.number = n.i * :per_incident % :targets""",
    f"""INSERT INTO incident_events (id, incident_id, run_id, at, kind, reason, data)
    SELECT :first + n.i, :first + n.i / 2, NULL, [ago {_MESSAGE_AGE} - n.i % 2 * 30],
    CASE n.i % 2 WHEN 0 THEN 'opened' ELSE 'resolved' END, '', [empty] FROM [of_messages] n""",
    f"""INSERT INTO notifications (id, key, incident_id, channel, kind, message, status, created_at, next_attempt_at,
    sent_at, cause, batch, thread)
    SELECT :first + n.i, 'year-' || (:first + n.i), :first + n.i / 2, 'oncall', 'opened', [message], 'sent',
    [ago {_MESSAGE_AGE}], [ago {_MESSAGE_AGE}], [ago {_MESSAGE_AGE}], 'outage', 'year-' || (:first + n.i),
    'thread-' || (:first + n.i / 2) FROM [of_messages] n""",
    f"""INSERT INTO silences (id, matchers, starts_at, ends_at, comment, author, created_at)
    SELECT :first + n.i, [empty], [ago {_INCIDENT_AGE}], [ago {_INCIDENT_AGE} - 1], '', '', [ago {_INCIDENT_AGE}]
    FROM [of_silences] n""",
    f"""INSERT INTO waits (id, target, environment, holder, started_at, finished_at, alive_until, timeout_s, duration_s,
    result, asked, completed)
    SELECT :first + n.i, t.name, 'test', 'h:1', [ago {_INCIDENT_AGE}], [ago {_INCIDENT_AGE} - 5],
    [ago {_INCIDENT_AGE} - 60], 600, 5, 'completed', 1, 1
    FROM [of_incidents] n JOIN year_targets t ON t.number = n.i * :per_incident % :targets""",
    """INSERT INTO item_events (target, item_id, run_id, at, kind, old, new)
    SELECT r.target, 'item-' || (n.i * 7 % :items), r.id, r.finished_at, 'state', 'pending', 'completed'
    FROM [of_events] n JOIN runs r ON r.id = :first + n.i / :per_run""",
)  # fmt: skip
_ROLLUPS = (
    *(
        f"""INSERT INTO {table} (target, starts_at, runs_complete, runs_partial, runs_aborted, runs_failed,
        runs_crashed, total_sum, unknown_sum, requests_sum, retries_sum, duration_sum_s)
        SELECT target, started_at, 1, 0, 0, 0, 0, 20, 0, 20, 0, 1 FROM runs
        WHERE id >= :first AND id < :first + :total"""
        for table in ("history_hourly", "history_daily")
    ),
    """INSERT INTO time_to_indexed (target, slot_s, starts_at, group_name, buckets, indexed, sum_s)
    SELECT target, 86400, started_at, '', :buckets, 1, 60 FROM runs WHERE id >= :first AND id < :first + :total""",
    """INSERT INTO slowest_uploads (target, starts_at, item_id, took_s, indexed_at)
    SELECT target, started_at, 'item-1', 60, started_at FROM runs WHERE id >= :first AND id < :first + :total""",
)  # fmt: skip
