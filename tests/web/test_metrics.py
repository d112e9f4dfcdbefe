"""/metrics: both formats, read by their own parsers; correct values; bounded labels."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain
from web.metrics_sample import NOW, PROBE, daemon_state

from monitor.errors import LeaseHeldError, StoreError
from monitor.fleet.state import FleetState, QueueAccess, QueueState
from monitor.reports.fleet import FleetView
from monitor.waits.rules import WaitResult
from monitor.web.database_probe import ProbeResult
from monitor.web.metric_definitions import METRIC_DEFINITIONS, PREFIX, MetricKind, ValueSource
from monitor.web.metrics import OPENMETRICS, PLAIN, negotiate_content_type, render
from monitor.web.readiness import SchemaState
from monitor.web.state import StateTracker


@pytest.fixture
def daemon(tmp_path):
    state = daemon_state(tmp_path)
    return SimpleNamespace(state=state, tracker=StateTracker(state, utcnow=lambda: NOW))


def values(text, read=read_plain):
    return {
        (sample.name.removeprefix(PREFIX), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in read(text.decode())
        for sample in family.samples
    }


@pytest.fixture
def shown(daemon):
    daemon.tracker.remember_keys({"gloo": "k"})
    return values(render(daemon.tracker.snapshot(), PROBE, PLAIN))


def test_the_runs_of_all_processes_are_counted(shown):
    assert {state: shown["runs_total", state, "gloo"] for state in ("complete", "partial", "aborted", "failed")} == {
        "complete": 1,
        "partial": 0,
        "aborted": 0,
        "failed": 0,
    }
    classes = {name: shown["requests_total", name, "gloo"] for name in ("2xx", "3xx", "4xx", "5xx", "none")}
    assert classes == {"2xx": 7, "3xx": 0, "4xx": 0, "5xx": 2, "none": 1}
    assert shown["retries_total", "gloo"] == 2
    durations = {bound: shown["run_duration_seconds_bucket", bound, "gloo"] for bound in ("1.0", "2.5", "+Inf")}
    assert durations == {"1.0": 0, "2.5": 1, "+Inf": 1}
    assert (shown["run_duration_seconds_count", "gloo"], shown["run_duration_seconds_sum", "gloo"]) == (1, 2.0)
    assert shown["run_crashes_total", "gloo"] == 0


def test_a_target_that_never_ran_has_counters_at_zero(daemon):
    shown = values(render(daemon.tracker.snapshot(), ProbeResult(stored=replace(PROBE.stored, totals={})), PLAIN))
    assert (shown["runs_total", "partial", "gloo"], shown["run_crashes_total", "gloo"]) == (0, 0)
    assert shown["run_duration_seconds_bucket", "+Inf", "gloo"] == 0


def test_gauges_show_the_stored_state(shown):
    states = ("completed", "pending", "failed", "not_found", "invalid", "unknown")
    assert [shown["items", state, "gloo"] for state in states] == [7, 2, 0, 3, 0, 0]
    assert shown["items_stuck", "gloo"] == 1
    assert shown["last_run_timestamp_seconds", "gloo"] == (NOW - timedelta(minutes=1)).timestamp()
    assert shown["last_success_timestamp_seconds", "gloo"] == (NOW - timedelta(minutes=6)).timestamp()
    assert shown["run_overdue_timestamp_seconds", "gloo"] == (NOW + timedelta(minutes=10)).timestamp()
    assert (shown["breaker_open", "gloo"], shown["allowed_requests_per_second", "gloo"]) == (1, 7.5)
    assert shown["allowed_concurrency", "gloo"] == 3
    assert (shown["canary_success", "gloo"], shown["canary_leftovers", "gloo"]) == (0, 2)
    assert shown["canary_last_timestamp_seconds", "gloo"] == NOW.timestamp()
    assert shown["canary_last_success_timestamp_seconds", "gloo"] == (NOW - timedelta(hours=1)).timestamp()
    assert {key[1]: shown[key] for key in shown if key[0] == "canary_step_duration_seconds"} == {
        "upload": 0.5,
        "index": 360.0,
    }
    assert shown["database_up",] == 1
    assert shown["schedule_interval_seconds", "gloo"] == 300


def test_times_to_indexed_are_a_stored_histogram_with_exact_counts(shown):
    name = "time_to_indexed_seconds"
    counts = {bound: shown[f"{name}_bucket", bound, "gloo"] for bound in ("5.0", "10.0", "1800.0", "3600.0", "+Inf")}
    assert counts == {"5.0": 2, "10.0": 4, "1800.0": 4, "3600.0": 6, "+Inf": 6}
    assert (shown[f"{name}_count", "gloo"], shown[f"{name}_sum", "gloo"]) == (6, 7224.0)
    assert shown["time_to_indexed_unknown_total", "gloo"] == 4


def test_objectives_are_shown_with_their_budget_and_burn_rates(shown):
    slo = {key: value for key, value in shown.items() if key[0].startswith("slo_")}
    labels = ("in time", "gloo")
    assert slo == {
        ("slo_objective_ratio", *labels): 0.95,
        ("slo_window_seconds", *labels): 28 * 86400,
        ("slo_uploads", *labels): 200,
        ("slo_good_uploads", *labels): 190,
        ("slo_error_budget_remaining_ratio", *labels): 0.0,
        ("slo_burn_rate", *labels, "6h"): 1.0,
        ("slo_burn_rate", *labels, "3d"): 1.0,
    }


def test_waits_are_counted_by_result_and_duration(shown):
    counted = {key[1]: value for key, value in shown.items() if key[0] == "waits_total"}
    assert counted == {**dict.fromkeys(map(str, WaitResult), 0), "completed": 3, "timed_out": 2}
    buckets = {
        bound: shown["wait_duration_seconds_bucket", bound, "gloo"] for bound in ("5.0", "300.0", "600.0", "7200.0")
    }
    assert buckets == {"5.0": 3, "300.0": 3, "600.0": 4, "7200.0": 4}
    assert shown["wait_duration_seconds_bucket", "+Inf", "gloo"] == shown["wait_duration_seconds_count", "gloo"] == 5
    assert shown["wait_duration_seconds_sum", "gloo"] == 9609.0


def test_workers_and_their_queue_are_shown_and_shares_of_configured_targets(shown):
    fleet = {key: value for key, value in shown.items() if key[0].startswith("fleet_")}
    jobs = {("plan", "waiting"): 2, ("share", "waiting"): 5, ("share", "running"): 3}
    every = [(status, task) for status in ("waiting", "running") for task in ("plan", "share", "close")]
    assert fleet == {
        ("fleet_workers",): 1,
        **{("fleet_queue_jobs", status, task): jobs.get((task, status), 0) for status, task in every},
        ("fleet_failed_jobs",): 1,
        ("fleet_queue_oldest_age_seconds", "plan"): 75,
        ("fleet_queue_oldest_age_seconds", "share"): 0,
        ("fleet_queue_oldest_age_seconds", "close"): 0,
        ("fleet_shares", "waiting", "gloo"): 5,
        ("fleet_shares", "running", "gloo"): 3,
        ("fleet_shares", "done", "gloo"): 2,
        ("fleet_share_oldest_age_seconds",): 120,
    }


@pytest.mark.parametrize("fleet", ["none", "unreadable"])
def test_without_workers_or_their_queue_there_are_no_figures_about_them(daemon, fleet):
    unreadable = FleetView(
        state=FleetState(now=NOW, queue=QueueState(access=QueueAccess.FORBIDDEN)), stalled_after=timedelta(seconds=30)
    )
    probe = ProbeResult(stored=replace(PROBE.stored, fleet=None if fleet == "none" else unreadable))
    shown = values(render(daemon.tracker.snapshot(), probe, PLAIN))
    found = {key[0] for key in shown if key[0].startswith("fleet_")}
    assert found == (set() if fleet == "none" else {"fleet_share_oldest_age_seconds"})


def test_only_incidents_and_messages_of_configured_targets_and_channels_are_reported(shown):
    assert {key[1:] for key in shown if key[0] == "incidents_open"} == {
        ("outage", "critical", "gloo"),
        ("channel_failing", "warning", "channel:hook"),
    }
    assert {key[1] for key in shown if key[0] == "notifications_due"} == {"hook", "log"}
    assert (shown["notifications_due", "hook"], shown["notifications_oldest_due_age_seconds", "hook"]) == (2, 90)
    assert (shown["notifications_dead", "hook"], shown["channel_suspended", "hook"]) == (1, 1)
    assert (shown["notifications_oldest_due_age_seconds", "log"], shown["channel_suspended", "log"]) == (0, 0)


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (LeaseHeldError(target="gloo", holder="other:1", since=NOW, expires_in=timedelta(0)), "runs_skipped_total"),
        (StoreError("down"), "run_errors_total"),
        (ZeroDivisionError(), "run_errors_total"),
    ],
    ids=["another process runs it", "the database is down", "a defect"],
)
def test_a_run_without_a_report_is_counted_by_reason(daemon, error, counted):
    with pytest.raises(type(error)), daemon.tracker.count_failure("gloo"):
        raise error
    shown = values(render(daemon.tracker.snapshot(), PROBE, PLAIN))
    assert {name: shown[name, "gloo"] for name in ("runs_skipped_total", "run_errors_total")} == {
        "runs_skipped_total": 0,
        "run_errors_total": 0,
        counted: 1,
    }


@pytest.mark.parametrize(
    ("probe", "up"),
    [(ProbeResult(error="it is down"), 0), (ProbeResult(schema=SchemaState.NEWER), 0)],
    ids=["no database", "a newer schema"],
)
def test_without_a_database_the_metrics_of_the_process_are_reported(daemon, probe, up):
    daemon.tracker.skip("gloo")
    shown = values(render(daemon.tracker.snapshot(), probe, PLAIN))
    assert (shown["database_up",], shown["runs_skipped_total", "gloo"]) == (up, 1)
    stored = {family.name for family in METRIC_DEFINITIONS if family.source is ValueSource.STORED}
    assert {key[0] for key in shown} & (stored | {"run_overdue_timestamp_seconds"}) == set()


def test_a_target_removed_by_a_reload_disappears_and_the_others_stay(daemon):
    daemon.tracker.skip("gloo")
    before = daemon.state.config
    other = before.targets[0].model_copy(update={"name": "b"})
    daemon.state.config = before.model_copy(update={"targets": (*before.targets, other)})
    assert values(render(daemon.tracker.snapshot(), ProbeResult(error="x"), PLAIN))["runs_skipped_total", "gloo"] == 1
    daemon.state.config = before.model_copy(update={"targets": (other,)})
    daemon.tracker.skip("gloo")
    text = render(daemon.tracker.snapshot(), ProbeResult(error="x"), PLAIN).decode()
    assert ('target="gloo"' in text, 'target="b"' in text) == (False, True)


def test_both_formats_have_the_same_values(daemon):
    daemon.tracker.remember_keys({"gloo": "k"})
    snapshot = daemon.tracker.snapshot()
    plain = values(render(snapshot, PROBE, PLAIN))
    opened = values(render(snapshot, PROBE, OPENMETRICS), read_openmetrics)
    ours = [key for key in plain if not key[0].startswith("process_")]
    assert {key: opened[key] for key in ours} == {key: plain[key] for key in ours}
    assert render(snapshot, PROBE, OPENMETRICS).endswith(b"# EOF\n")


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "é" * 50, "{}"])
@pytest.mark.parametrize(
    ("kind", "read"), [(PLAIN, read_plain), (OPENMETRICS, read_openmetrics)], ids=["plain", "open"]
)
def test_no_name_breaks_the_format(daemon, kind, read, name):
    before = daemon.state.config
    odd = before.targets[0].model_copy(update={"name": name})
    daemon.state.config = before.model_copy(update={"targets": (odd,)})
    probe = ProbeResult(stored=replace(PROBE.stored, targets={name: PROBE.stored.targets["gloo"]}))
    shown = values(render(daemon.tracker.snapshot(), probe, kind), read)
    assert shown["items", "completed", name] == 7


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html, text/plain;version=0.0.4;q=0.5", PLAIN),
        ("application/openmetrics-text;version=1.0.0;q=0.8, text/plain;version=0.0.4;q=0.5, */*;q=0.1", OPENMETRICS),
        ("Application/OpenMetrics-Text", OPENMETRICS),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=0.0, */*", PLAIN),
        ("application/openmetrics-text;version=a\tb;escaping=;;=", OPENMETRICS),
        (",;,;=,", PLAIN),
    ],
)
def test_the_format_follows_the_accept_header(accept, expected):
    assert negotiate_content_type(accept) == expected


def test_names_follow_the_rules_of_prometheus():
    names = [family.full_name for family in METRIC_DEFINITIONS]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"ingestion_monitor_[a-z_]+[a-z]", name)] == []
    assert [f.name for f in METRIC_DEFINITIONS if (f.kind is MetricKind.COUNTER) != f.name.endswith("_total")] == []
    assert {label for family in METRIC_DEFINITIONS for label in family.labels} == {
        "target", "state", "status", "status_class", "result", "cause", "severity", "channel", "version",
        "slo", "window", "step", "task",
    }  # fmt: skip


def test_the_document_has_a_row_for_every_metric():
    document = (Path(__file__).resolve().parents[2] / "docs/health-endpoints.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(ingestion_monitor_\w+)` \| (\w+) \| ([^|]*?) \| ([^|]*) \|$", document, re.MULTILINE)
    expected = [
        (
            f.full_name,
            f.kind.value,
            ", ".join(f.labels) or "–",
            f"{f.description}{'; stored' * (f.source is ValueSource.STORED)}",
        )
        for f in METRIC_DEFINITIONS
    ]
    assert rows == expected
