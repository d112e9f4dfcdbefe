"""The daily pruning of the daemon: once a day among all daemons, and logged."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from database.test_retention import AGES, DAY, events_left, fill
from sqlalchemy import update
from structlog.testing import capture_logs
from support.samples import NOW

from monitor.config.schema import RetentionConfig
from monitor.daemon.periodic import prune
from monitor.database.engine import writing
from monitor.database.tables import runs


def kept_for_a_while(world):
    """An App with ages and its own clock."""
    ages = RetentionConfig(snapshots=AGES.snapshots, item_events=AGES.item_events, notifications=AGES.notifications)
    config = world.app.config.model_copy(update={"retention": ages})
    return replace(world.app, config=config, clock=lambda: NOW)


def test_the_daemon_prunes_once_a_day_and_logs_what_it_deleted(world):
    app = kept_for_a_while(world)
    fill(app.engine, events=700)
    with capture_logs() as logged:
        asyncio.run(prune(app, stop=lambda: False))
        asyncio.run(prune(app, stop=lambda: False))
    summary = [(each["event"], each["outcome"], each["item_events"]) for each in logged]
    assert summary == [("pruned", "done", 700)]
    assert events_left(app.engine) == 0


def test_a_signal_ends_the_pruning(world):
    app = kept_for_a_while(world)
    fill(app.engine, events=10)
    with capture_logs() as logged:
        asyncio.run(prune(app, stop=lambda: True))
    assert [(each["event"], each["outcome"]) for each in logged] == [("pruned", "interrupted")]
    assert events_left(app.engine) == 10


def test_an_implausible_clock_is_a_warning(world):
    app = kept_for_a_while(world)
    fill(app.engine, events=10)
    with writing(app.engine) as conn:
        conn.execute(update(runs).values(started_at=NOW - 9 * DAY - timedelta(minutes=1)))
    with capture_logs() as logged:
        asyncio.run(prune(app, stop=lambda: False))
    assert [(each["event"], each["log_level"]) for each in logged] == [("pruning_refused", "warning")]
    assert "no run started about a day ago" in logged[0]["reason"]


def test_without_ages_nothing_is_pruned_or_logged(world):
    fill(world.app.engine, events=10)
    with capture_logs() as logged:
        asyncio.run(prune(world.app, stop=lambda: False))
    assert logged == []
    assert events_left(world.app.engine) == 10
