"""Whether a daemon is alive and ready: tables of inputs and reasons."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model.schedule import DueTimes
from monitor.web.readiness import (
    ChannelInput,
    Component,
    DatabaseInput,
    Liveness,
    LogLoss,
    ReadinessInputs,
    ReadinessStatus,
    SchemaState,
    TargetInput,
    WorkersInput,
    liveness,
    overdue_from,
    readiness,
    schema_problem,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIVE = DueTimes(every=timedelta(minutes=5))
TARGET = TargetInput(
    name="gloo",
    due_times=FIVE,
    deadline=timedelta(minutes=4),
    watched_since=NOW - timedelta(days=1),
    last_run_at=NOW - timedelta(minutes=1),
)


def ago(**span):
    return NOW - timedelta(**span)


def target(**changes):
    return replace(TARGET, **changes)


@pytest.mark.parametrize(
    ("age_s", "expected"), [(0, Liveness.OK), (59.9, Liveness.OK), (60, Liveness.STALLED), (1e6, Liveness.STALLED)]
)
def test_the_daemon_is_alive_while_its_event_loop_runs(age_s, expected):
    assert liveness(heartbeat_age_s=age_s) is expected


@pytest.mark.parametrize(
    ("inputs", "part", "said", "remedy"),
    [
        pytest.param(
            ReadinessInputs(heartbeat_age_s=61), Component.DAEMON, "not run for 61 s", "restart", id="scheduler"
        ),
        pytest.param(
            ReadinessInputs(database=DatabaseInput(error="it is down")),
            Component.DATABASE,
            "it is down",
            "retries by itself",
            id="no database",
        ),
        pytest.param(
            ReadinessInputs(database=DatabaseInput(schema=SchemaState.NEWER)),
            Component.SCHEMA,
            "newer",
            "install the newer",
            id="newer",
        ),
        pytest.param(
            ReadinessInputs(database=DatabaseInput(schema=SchemaState.OLDER)),
            Component.SCHEMA,
            "older",
            "db upgrade",
            id="older",
        ),
        pytest.param(
            ReadinessInputs(database=DatabaseInput(schema=SchemaState.MISSING)),
            Component.SCHEMA,
            "empty",
            "db upgrade",
            id="empty",
        ),
        pytest.param(
            ReadinessInputs(targets=[target(last_run_at=ago(minutes=10))]),
            Component.RUNS,
            "overdue since 2026-03-01 12:00:00 UTC; the last run ended at 2026-03-01 11:50:00 UTC",
            "run_error",
            id="an old run",
        ),
        pytest.param(
            ReadinessInputs(targets=[target(last_run_at=None)]),
            Component.RUNS,
            "no run has ended yet",
            "run_skipped",
            id="no run at all",
        ),
        pytest.param(
            ReadinessInputs(targets=[target(crashes=3, last_run_at=None)]),
            Component.RUNS,
            "end by an error that nobody foresaw",
            "run_crashed",
            id="crashing",
        ),
        pytest.param(
            ReadinessInputs(workers=[WorkersInput(reason="no worker", remedy="start one", serious=True)]),
            Component.WORKERS,
            "no worker",
            "start one",
            id="no workers",
        ),
    ],
)
def test_every_reason_for_not_ready_has_a_remedy(inputs, part, said, remedy):
    found = readiness(inputs, NOW)
    (reason,) = found.reasons
    assert (found.status, reason.part) == (ReadinessStatus.NOT_READY, part)
    assert said in reason.reason
    assert remedy in reason.remedy
    assert reason.target == ("gloo" if part is Component.RUNS else None)


@pytest.mark.parametrize(
    ("inputs", "part", "said", "channel"),
    [
        pytest.param(
            ReadinessInputs(reload_refused=True), Component.CONFIGURATION, "refused", None, id="a refused reload"
        ),
        pytest.param(
            ReadinessInputs(channels=[ChannelInput(name="hook", suspended=True, oldest_due_at=ago(days=1))]),
            Component.DELIVERY,
            "suspended",
            "hook",
            id="a suspended channel",
        ),
        pytest.param(
            ReadinessInputs(channels=[ChannelInput(name="hook", oldest_due_at=ago(minutes=15))]),
            Component.DELIVERY,
            "not been delivered since 2026-03-01 11:45:00 UTC",
            "hook",
            id="an old message",
        ),
        pytest.param(
            ReadinessInputs(log_loss=LogLoss(lines=12, reason="No space left on device", last_at=ago(minutes=59))),
            Component.LOG,
            "12 log lines were lost, the last at 2026-03-01 11:01:00 UTC: No space left on device",
            None,
            id="a log that can't be written",
        ),
        pytest.param(
            ReadinessInputs(workers=[WorkersInput(reason="3 jobs wait", remedy="start more", serious=False)]),
            Component.WORKERS,
            "3 jobs wait",
            None,
            id="an old queue",
        ),
    ],
)
def test_a_problem_that_stops_no_run_is_a_warning(inputs, part, said, channel):
    found = readiness(inputs, NOW)
    (warning,) = found.warnings
    assert (found.status, found.reasons, warning.part, warning.channel) == (ReadinessStatus.READY, (), part, channel)
    assert said in warning.reason


def test_log_lines_that_were_lost_long_ago_are_no_warning():
    loss = LogLoss(lines=12, reason="No space left on device", last_at=ago(minutes=61))
    assert readiness(ReadinessInputs(log_loss=loss), NOW).warnings == ()


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(ReadinessInputs(), id="nothing to watch yet"),
        pytest.param(ReadinessInputs(targets=[TARGET]), id="a recent run"),
        pytest.param(
            ReadinessInputs(targets=[target(last_run_at=ago(minutes=9, seconds=59))]), id="a run that is not late yet"
        ),
        pytest.param(
            ReadinessInputs(targets=[target(last_run_at=NOW + timedelta(hours=1))]), id="a clock that was set back"
        ),
        pytest.param(
            ReadinessInputs(targets=[target(last_run_at=None, watched_since=ago(minutes=9))]),
            id="no run yet, but just begun",
        ),
        pytest.param(
            ReadinessInputs(targets=[target(last_run_at=ago(days=2), watched_since=ago(minutes=9))]),
            id="an old run, before this process began",
        ),
        pytest.param(
            ReadinessInputs(channels=[ChannelInput(name="a", oldest_due_at=ago(minutes=14))]), id="a message waits"
        ),
        pytest.param(ReadinessInputs(channels=[ChannelInput(name="a")]), id="a channel that is well"),
    ],
)
def test_the_daemon_is_ready_without_warnings(inputs):
    found = readiness(inputs, NOW)
    assert (found.status, found.reasons, found.warnings) == (ReadinessStatus.READY, (), ())


def test_a_daemon_that_is_stopping_gives_no_other_reason():
    found = readiness(ReadinessInputs(stopping=True, database=DatabaseInput(error="down"), reload_refused=True), NOW)
    assert found.status is ReadinessStatus.STOPPING
    assert [reason.part for reason in found.reasons] == [Component.DAEMON]
    assert [warning.part for warning in found.warnings] == [Component.CONFIGURATION]


def test_overdue_targets_are_not_reported_while_the_database_is_down():
    inputs = ReadinessInputs(database=DatabaseInput(error="down"), targets=[target(last_run_at=None)])
    assert [reason.part for reason in readiness(inputs, NOW).reasons] == [Component.DATABASE]


@pytest.mark.parametrize(
    ("due_times", "deadline", "after"),
    [
        pytest.param(FIVE, timedelta(minutes=4), timedelta(minutes=10), id="two intervals, as the gate has it"),
        pytest.param(FIVE, timedelta(minutes=30), timedelta(minutes=36), id="a deadline beyond the interval"),
        pytest.param(DueTimes(cron="0 * * * *"), timedelta(minutes=4), timedelta(hours=2), id="two hours"),
        pytest.param(
            DueTimes(cron="30 4 * * *", zone=ZoneInfo("Europe/Paris")),
            timedelta(minutes=4),
            timedelta(hours=39, minutes=30),
            id="the second morning in another zone",
        ),
    ],
)
def test_a_target_is_overdue_after_two_intervals(due_times, deadline, after):
    assert overdue_from(target(due_times=due_times, deadline=deadline, last_run_at=NOW)) == NOW + after


def test_the_first_run_has_an_interval_and_its_whole_deadline():
    assert overdue_from(target(last_run_at=None, watched_since=NOW)) == NOW + timedelta(minutes=10)


@pytest.mark.parametrize("last_run_at", [None, NOW], ids=["no run yet", "one run"])
def test_a_target_that_is_never_due_is_never_overdue(last_run_at):
    never = target(due_times=DueTimes(cron="0 0 */29 2 MON#5"), last_run_at=last_run_at)
    assert overdue_from(never) is None
    assert readiness(ReadinessInputs(targets=[never]), NOW).status is ReadinessStatus.READY


@given(last=st.integers(0, 10_000), since=st.integers(0, 10_000), every=st.integers(1, 5_000))
def test_a_later_run_never_makes_a_target_overdue_sooner(last, since, every):
    due = DueTimes(every=timedelta(seconds=every))
    earlier, later = (
        overdue_from(target(due_times=due, last_run_at=ago(seconds=age), watched_since=ago(seconds=since)))
        for age in (last + 1, last)
    )
    assert earlier <= later
    assert later >= due.overdue_at(ago(seconds=last))


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        (SchemaState.MISSING, "run `ingestion-monitor db upgrade`"),
        (SchemaState.OLDER, "run `ingestion-monitor db upgrade`"),
        (SchemaState.NEWER, "install the newer ingestion-monitor"),
        (SchemaState.FOREIGN, "give the monitor a database of its own"),
    ],
)
def test_a_schema_of_another_version_is_a_sentence_with_its_remedy(state, remedy):
    problem = schema_problem(state)
    assert problem.startswith("the database can't be used: ")
    assert remedy in problem
