"""The tables of runs that workers share: which runs, their shares, and who uses which limits now. Unused on SQLite."""

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, String, Table

from monitor.database.report_tables import metadata as metadata  # noqa: PLC0414  # for `sync_tables`, where it is complete
from monitor.database.tables import Key, UtcDateTime, partial_index

SHARED_RUN_IS_OPEN = "state = 'open'"
"""Exactly the condition of the index of open shared runs."""

shared_runs = Table(
    "shared_runs",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("target", String(200), nullable=False),
    Column("epoch", Integer, nullable=False),  # of the lease, which the planner passed on to the shares
    Column("state", String(20), nullable=False),  # open, closed
    Column("planned_at", UtcDateTime, nullable=False),  # this and all times of shares: by the clock of leases
    Column("deadline_at", UtcDateTime, nullable=False),
    Column("sync", JSON, nullable=False),  # what the planner's sync found
    Column("plan", JSON, nullable=False),  # what is needed to close the run
    Column("checked", JSON, nullable=False),  # the planner's own report: probe and first items
    Column("stopped_by", String(40)),  # the Cause that stopped the target, or interrupted: shares end at once
    Column("closed_at", UtcDateTime),
    partial_index("ix_shared_runs_open", "target", where=SHARED_RUN_IS_OPEN),
)
"""The runs whose items were asked about in shares."""

run_shares = Table(
    "run_shares",
    metadata,
    Column("run_id", Key, ForeignKey("shared_runs.run_id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1, in the order of ids
    Column("target", String(200), nullable=False),
    Column("first_id", String(512), nullable=False),  # items from this id on, as the database orders text
    Column("before_id", String(512)),  # and before this one; null: to the end
    Column("items", Integer, nullable=False),  # as planned
    Column("recheck_ids", JSON, nullable=False),  # its completed items that are checked again
    Column("priority", Integer, nullable=False),  # higher ones begin first
    Column("state", String(20), nullable=False),  # waiting, running, done
    Column("attempt", Integer, nullable=False, server_default="0"),  # grows with each begin: a fencing token
    Column("worker", String(200)),  # host:pid of the attempt
    Column("begun_at", UtcDateTime),
    Column("seen_at", UtcDateTime),  # when the attempt last showed that it goes on
    Column("ended_at", UtcDateTime),
    Column("checked", JSON(none_as_null=True)),  # the report so far, written with the outcomes; null again at the end
)
"""The shares of these runs: ranges of the work list. Rows go with their run."""

throttle_claims = Table(
    "throttle_claims",
    metadata,
    Column("key", String(64), primary_key=True),  # of the row of `throttles`
    Column("holder", String(200), primary_key=True),  # host:pid of a process
    Column("weight", Integer, nullable=False),  # runs and shares that use these limits there; 0: it has ended
    Column("part", Float, nullable=False),  # what it takes of them now: at most 1
    Column("opened_at", UtcDateTime),  # when its breaker opened; null: it is closed
    Column("cut_at", UtcDateTime),  # of the refusal that its learned rate follows; null: none
    Column("cut", JSON(none_as_null=True)),  # what that taught: see `RateCut`
    Column("seen_at", UtcDateTime, nullable=False),  # by the clock of leases: a dead process is left out
    Column("accepted", Key, nullable=False, server_default="0"),  # its requests so far that were answered,
    Column("refused", Key, nullable=False, server_default="0"),  # and those that a 503 without a hint refused
)
"""The processes among which the limits of one credential are divided."""
