"""The tables `[fleet]` and `[daemon]`: whether workers share the runs, and how many runs the daemon has at a time."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from monitor.config.fields import require, secret_validator
from monitor.config.secret import Secret
from monitor.config.section import Section
from monitor.config.urls import validate_postgres_url
from monitor.model.durations import DurationRange

_QUEUE = re.compile(r"[A-Za-z0-9._-]{1,40}")
"""PostgreSQL's names of channels have at most 63 characters, and 23 are Procrastinate's."""


class FleetConfig(Section):
    """Workers that share the runs: `ingestion-monitor worker` in any number of processes, on PostgreSQL."""

    workers: bool = Field(
        default=False,
        description="Whether workers execute the runs. The daemon then only plans them, and one `ingestion-monitor "
        "worker` at least must run. The monitor's database must be PostgreSQL.",
    )
    share: int = Field(
        default=20_000,
        ge=100,
        le=1_000_000,
        description="Items of one share. A run with more due items than this is cut into shares, which any worker "
        "checks; a smaller one is executed by one worker.",
        examples=[20_000],
    )
    share_concurrency: int = Field(
        default=64, ge=1, le=1024, description="Requests in flight of one share, at most.", examples=[64]
    )
    queue: Annotated[
        str,
        AfterValidator(require(_QUEUE.fullmatch, "must be 1 to 40 letters, digits, dots, underscores and hyphens")),
        Field(json_schema_extra={"pattern": f"^{_QUEUE.pattern}$"}),
    ] = Field(
        default="ingestion-monitor",
        description="The queue's name. Two monitors in one PostgreSQL database need different names.",
    )
    stalled_after: Annotated[timedelta, DurationRange("5s", "10m")] = Field(
        default=timedelta(seconds=30),
        description="A worker that was not heard of for this long counts as dead, and others take over its work.",
        examples=["30s"],
    )
    listen_url: Annotated[Secret, AfterValidator(secret_validator(validate_postgres_url))] | None = Field(
        default=None,
        description="The URL of the same database without PgBouncer, where `database` goes through it: a worker hears "
        "of new jobs (LISTEN) only on a connection of its own. Without it, workers behind PgBouncer look for jobs once "
        "a second.",
        examples=["postgresql://user:password@host:5432/name"],
    )


class DaemonConfig(Section):
    """The daemon: how many runs it has at a time."""

    parallel_runs: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="Runs in progress at a time, at most. Without it 8 per processor, from 16 to 64, and 16 on SQLite; "
        "then a run that lasts longer than two seconds no longer counts.",
        examples=[32],
    )
