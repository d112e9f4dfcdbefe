"""The report: its data, its text, JSON and CSV."""

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from reports.overviews import BOUNDS, DAY, HOUR, LAST, MINUTE, NOW, SAMPLE, facts, group, indexing, overview, row, times
from reports.samples import INCIDENT

from monitor.model import Cause, IncidentState, ItemState, RunStatus
from monitor.model.schedule import DueTimes
from monitor.reports.changes import IncidentChange, ItemChangeCount, RunCounts
from monitor.reports.indexing import GroupTimes
from monitor.reports.notification_queries import Undelivered
from monitor.reports.overview import Changes, Condition, IncidentChanges, Metric, condition, is_stale, trend
from monitor.reports.overview_json import COLUMNS, overview_csv, overview_json
from monitor.reports.overview_text import overview_text
from monitor.reports.trends import StageCount, StuckItem
from monitor.rollups.slowest import IndexedUpload
from monitor.runs.store import HISTORY_COLUMNS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/report.md"
LONG = "x" * 500


def lines(*targets, **fields):
    return overview_text(overview(*targets, **fields)).splitlines()


def ended(status, reason=None, error=None, ago=4 * MINUTE):
    at = NOW - ago
    return replace(LAST, status=status, abort_reason=reason, error=error, started_at=at - MINUTE, finished_at=at)


# --- the data ---------------------------------------------------------------------------------------------------------


def test_the_condition_says_how_far_the_last_run_got():
    assert condition(None) is Condition.NEVER_RAN
    for status in set(RunStatus) - {RunStatus.RUNNING}:
        assert condition(ended(status)).value == status.value


@pytest.mark.parametrize(
    ("ago", "due", "stale"),
    [
        (9 * MINUTE, DueTimes(every=5 * MINUTE), False),
        (16 * MINUTE, DueTimes(every=5 * MINUTE), True),
        (2 * HOUR, DueTimes(cron="0 * * * *"), False),
        (4 * HOUR, DueTimes(cron="0 * * * *"), True),
        (23 * HOUR, None, False),
        (25 * HOUR, None, True),
    ],
    ids=["soon-enough", "two-missed", "cron", "cron-missed", "unscheduled", "unscheduled-for-a-day"],
)
def test_the_last_run_is_stale_after_two_due_runs_or_a_day(ago, due, stale):
    assert is_stale(replace(LAST, started_at=NOW - ago), due, now=NOW) is stale


def test_a_target_that_never_ran_is_not_stale():
    assert is_stale(None, DueTimes(every=MINUTE), now=NOW) is False


def test_a_trend_has_a_line_per_metric_with_its_last_lowest_and_highest_value():
    samples = (None, row(failed=500, latency_p95_ms=None), row(failed=0, latency_p95_ms=None), None)
    found = {line.metric: line for line in trend(samples)}
    share = found[Metric.COMPLETED_SHARE]
    assert share.values == (None, 0.5, 1.0, None)
    assert (share.last, share.low, share.high) == (1.0, 0.5, 1.0)
    assert (found[Metric.FAILED].last, found[Metric.FAILED].high) == (0, 500)
    assert set(found) == set(Metric) - {Metric.LATENCY_P95_MS, Metric.TIME_TO_INDEXED_P95_S}


def test_an_empty_target_has_no_share_and_a_period_without_runs_no_trend():
    assert Metric.COMPLETED_SHARE not in {line.metric for line in trend((row(total=0),))}
    assert trend((None, None)) == ()


# --- text ------------------------------------------------------------------------------------------------------------


def test_the_document_shows_what_the_command_prints():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert "\n".join("    " + line if line else "" for line in overview_text(SAMPLE).splitlines()) in text
    for keys in (overview_json(SAMPLE), overview_json(SAMPLE)["targets"][0]):
        assert [key for key in keys if f"`{key}`" not in text] == []


def test_ascii_only_text_has_no_other_characters():
    text = overview_text(SAMPLE, ascii_only=True)
    assert text.isascii()
    assert len(text.splitlines()) == len(overview_text(SAMPLE).splitlines())


def test_a_healthy_target_takes_few_lines():
    assert lines() == [
        "Report on production, 2026-03-08 12:00 UTC, over the last 7 d",
        "",
        "gloo",
        "  Health: 1000 completed, 0 pending, 0 failed, 0 not found",
        "  Run 2016 completed 4 min ago.",
        "",
        "Changed since the last report, 1 d ago (2026-03-07 12:00:00 UTC)",
        "  gloo: no run",
        "",
        "No open incidents.",
    ]


def test_before_the_first_run_the_report_is_one_sentence_with_the_next_step():
    (blank, sentence) = lines(facts(last_run=None, snapshot=None), facts(target="b", last_run=None, snapshot=None))[1:]
    assert (blank, "`ingestion-monitor check`" in sentence) == ("", True)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"last_run": ended(RunStatus.PARTIAL, "deadline"), "snapshot": row(unknown=9)},
            ["Run 2016 ended 4 min ago", "by the deadline", "9 items left unknown"],
        ),
        (
            {"last_run": ended(RunStatus.PARTIAL, "interrupted"), "snapshot": row(unknown=1)},
            ["Run 2016 ended 4 min ago", "by a signal", "1 item left unknown"],
        ),
        (
            {"last_run": ended(RunStatus.ABORTED, "unauthorized"), "snapshot": row(unknown=1000)},
            ["Run 2016 stopped early 4 min ago", "1000 items left unknown", "the API rejects the credentials"],
        ),
        (
            {
                "last_run": ended(RunStatus.FAILED, error="sync log x has no table y"),
                "snapshot": row(7, NOW - DAY),
                "unreadable_since": NOW - 3 * HOUR,
            },
            ["2026-03-08 09:00:00 UTC, for 3 h: sync log x has no table y.", "from run 7, 23 h 59 min ago"],
        ),
        (
            {"last_run": ended(RunStatus.FAILED, error="it is gone"), "snapshot": None},
            ["2026-03-08 11:55:00 UTC, for 5 min: it is gone.", "no results yet"],
        ),
        (
            {"last_run": ended(RunStatus.CRASHED), "snapshot": row(7, NOW - HOUR)},
            ["Run 2016 crashed 4 min ago", "from run 7, 59 min ago"],
        ),
        (
            {"last_run": ended(RunStatus.COMPLETE, ago=3 * HOUR)},
            ["Run 2016 completed 3 h ago.", "too long ago: check that the daemon or the cron job is running"],
        ),
        ({"running_since": NOW - MINUTE}, ["A run has been in progress since 2026-03-08 11:59:00 UTC."]),
    ],
    ids=["deadline", "signal", "aborted", "failed", "never-read", "crashed", "stale", "in-progress"],
)
def test_the_report_says_how_the_last_run_ended(changes, parts):
    shown = " ".join(" ".join(lines(facts(**changes))).split())
    assert [part for part in parts if part not in shown] == []


def test_a_target_without_a_run_says_how_to_start_one():
    shown = lines(facts(), facts(target="b", last_run=None, snapshot=None))
    assert any("`ingestion-monitor check --target b`" in line for line in shown)
    assert [line for line in shown if line.startswith("  b:")] == []


def test_columns_of_zeros_are_omitted_and_further_groups_counted():
    groups = (group("g", completed=1, unknown=2), group(None, completed=4))
    shown = lines(facts(group_count=4, groups=groups))
    assert "  GROUP       ITEMS  COMPLETED  UNKNOWN" in shown
    assert "  (no group)      4       100%        0" in shown
    assert "  and 2 more groups" in shown


def test_a_target_without_groups_has_no_list_of_them():
    assert not any("GROUP" in line for line in lines(facts(group_count=1, groups=(group(None, completed=4),))))


def test_one_run_is_no_trend():
    gaps = (None,) * (len(BOUNDS) - 2)
    assert not any("TREND" in line for line in lines(facts(samples=(*gaps, row()))))


def test_a_trend_shows_metrics_that_were_not_zero_and_explains_gaps():
    samples = (None, row(), None, row(unknown=10), *(row() for _ in range(len(BOUNDS) - 5)))
    shown = lines(facts(samples=samples))
    names = [line.split("  ")[1] for line in shown if "█" in line or "▁" in line]
    assert names == ["completed", "failed", "unknown", "requests", "p95 latency"]
    assert any(line.startswith("  Gaps:") for line in shown)
    whole = lines(facts(samples=(None, *(row() for _ in range(len(BOUNDS) - 2)))))
    assert not any("Gaps" in line for line in whole)


def test_stages_are_shown_unless_everything_is_completed():
    done = StageCount(state=ItemState.COMPLETED, stage="COMPLETED", items=9)
    waiting = StageCount(state=ItemState.PENDING, stage=None, items=1)
    assert not any("By stage" in line for line in lines(facts(stages=(done,), stage_count=1)))
    shown = lines(facts(stages=(done, waiting), stage_count=3))
    assert "  By stage: 9 COMPLETED, 1 without a status, and 1 more stage" in shown


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (times({2: 1}), "1 upload, p50 2 min, p95 2 min, p99 2 min"),
        (times({}, waiting=2, failed=1), "3 uploads, 1 failed, 2 not indexed yet"),
        (times({}, not_observed=9), "9 uploads, 9 at an unknown time"),
    ],
    ids=["one", "none yet", "a backfill"],
)
def test_the_time_to_indexed_is_a_sentence(found, said):
    shown = lines(facts(indexing=indexing([GroupTimes(name=None, times=found)])))
    assert f"  Time to indexed: {said}" in shown
    assert not any(line.startswith(("  SLOW", "  p95 to indexed")) for line in shown)


def test_the_slowest_groups_are_shown_and_the_rest_counted():
    groups = [GroupTimes(name=f"g{n}", times=times({n: 9})) for n in (240, 120, 60, 30, 15, 10, 5, 2, 1)]
    shown = lines(facts(indexing=indexing([*groups, GroupTimes(name="none", times=times({}, waiting=1))])))
    start = next(n for n, line in enumerate(shown) if line.startswith("  SLOW GROUPS  UPLOADS"))
    assert " ".join(shown[start + 1].split()) == "g240 9 4 h 4 h 4 h"
    assert shown[start + 6] == "  and 5 more groups"


def test_stuck_items_beyond_the_first_are_counted():
    stuck = StuckItem(item_id="a", group=None, stage=None, pending_since=NOW - HOUR)
    shown = lines(facts(snapshot=row(pending=9, stuck=4), stuck=(stuck,)))
    assert "  a      1 h          -" in shown
    assert "  and 3 more: `ingestion-monitor items list --stuck`" in shown


def test_only_the_first_open_incidents_are_shown_and_the_others_counted():
    many = tuple(replace(INCIDENT, id=n, cause=Cause.ITEMS_STUCK, member_ids=("a",)) for n in range(12))
    shown = lines(incidents=many)
    assert len([line for line in shown if line.startswith("  #")]) == 10
    assert "  and 2 more: `ingestion-monitor incidents list`" in shown
    assert not any("such as" in line for line in shown)


def made(**by_status):
    counts = {RunStatus(status): count for status, count in by_status.items()}
    return RunCounts(by_status=counts, first_started_at=NOW, last_finished_at=NOW, last_run_id=9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runs": None}, "no run"),
        ({"runs": made(complete=1)}, "1 run; no item changed"),
        ({"runs": made(complete=2, failed=1, aborted=3)}, "6 runs (1 failed, 3 aborted); no item changed"),
        ({"runs": made(complete=1), "new": 2, "stuck": 1}, "1 run; 2 new; 1 became stuck"),
        (
            {"runs": made(complete=1), "items": (ItemChangeCount(to="failed", count=9, sample_ids=("a", "b", "c")),)},
            "1 run; 9 failed (a, b, c and 6 more)",
        ),
        (
            {
                "runs": made(complete=1),
                "items": tuple(
                    ItemChangeCount(to=change, count=1, sample_ids=("a",)) for change in ("returned", "removed")
                ),
            },
            "1 run; 1 removed from the sync log (a); 1 returned to the sync log",
        ),
    ],
    ids=["no-run", "one-run", "several", "new-and-stuck", "samples", "the-log"],
)
def test_changes_are_one_sentence_per_target(changes, said):
    shown = lines(facts(changes=Changes(since=NOW - DAY, first_report=False, **changes)))
    assert f"  gloo: {said}" in shown


def test_the_first_report_says_that_it_compares_with_the_beginning_of_the_period():
    first = Changes(since=NOW - 7 * DAY, first_report=True)
    assert "Changed in the last 7 d (this is the first report)" in lines(facts(changes=first))


def test_targets_reported_at_different_times_each_show_the_time():
    other = facts(target="b", changes=Changes(since=NOW - HOUR, first_report=False))
    shown = lines(facts(), other)
    assert "Changed since the last reports" in shown
    assert "  b, since the last report, 1 h ago (2026-03-08 11:00:00 UTC): no run" in shown


def test_incidents_of_no_target_are_shown_and_the_rest_counted():
    mail = IncidentChange(id=3, target="channel:mail", cause=Cause.CHANNEL_FAILING, state=IncidentState.RESOLVED,
                          happened=("opened", "resolved"))  # fmt: skip
    shown = lines(other_incidents=IncidentChanges(total=2, newest=(mail,)))
    assert "  #3 channel_failing on channel:mail opened and resolved" in shown
    assert "  and 1 more incident" in shown


def test_undelivered_messages_take_one_line():
    lost = (Undelivered(channel="a", dead=1, waiting=2), Undelivered(channel="b", dead=0, waiting=1))
    assert lines(undelivered=lost)[-1] == "Undelivered messages: 1 to a given up, 2 to a waiting, 1 to b waiting."


def test_on_a_terminal_only_ids_and_names_of_targets_make_a_line_too_long():
    counts = {state.value: 9_999_999 for state in ItemState}
    huge = row(total=9_999_999 * 6, stuck=9_999_999, requests=9_999_999,
               **dict.fromkeys(("pending", "failed", "not_found", "invalid", "unknown"), 9999999))  # fmt: skip
    slow = IndexedUpload(item_id=LONG, group=LONG, indexed_at=NOW, took_s=1e9)
    target = facts(
        target=LONG,
        snapshot=huge,
        samples=(huge,) * (len(BOUNDS) - 1),
        last_run=ended(RunStatus.FAILED, error=LONG),
        unreadable_since=NOW - 999 * DAY,
        groups=(group(LONG, stuck=9_999_999, **counts),),
        stages=(StageCount(state=ItemState.PENDING, stage=LONG, items=9_999_999),) * 9,
        indexing=indexing(
            [GroupTimes(name=LONG, times=times({9_999_999: 9_999_999}, failed=9_999_999))] * 2, slow, slow
        ),
        stuck=(StuckItem(item_id=LONG, group=LONG, stage=LONG, pending_since=NOW - timedelta(days=9999)),),
        changes=Changes(
            since=NOW - DAY,
            first_report=False,
            runs=made(complete=9_999_999),
            items=(ItemChangeCount(to="failed", count=9_999_999, sample_ids=(LONG, LONG)),),
        ),
    )
    incident = replace(INCIDENT, target=LONG, member_ids=(LONG, LONG), member_count=9_999_999)
    never = facts(target=LONG, last_run=None, snapshot=None)
    lost = (Undelivered(channel=LONG, dead=9, waiting=9),)
    report = overview(target, never, environment=LONG, incidents=(incident,), undelivered=lost)
    for ascii_only in (False, True):
        text = overview_text(report, ascii_only=ascii_only, width=80)
        too_long = [line.split()[0] for line in text.splitlines() if len(line) > 80 and LONG not in line]
        assert too_long == ["SLOWEST", "STUCK"], "the headings above long ids"
        assert text.count(LONG) >= 6, "ids and targets stay whole"


# --- JSON and CSV ----------------------------------------------------------------------------------------------------


def test_the_json_has_every_fact_of_the_text_with_times_in_iso_and_nulls():
    value = json.loads(json.dumps(overview_json(SAMPLE)))
    first, never = value["targets"]
    assert value["period"] == {"start": "2026-03-01T12:00:00+00:00", "end": "2026-03-08T12:00:00+00:00"}
    assert (first["condition"], first["stale"], first["last_run"]["run_id"]) == ("complete", False, 2016)
    assert (first["health"]["total"], first["health"]["stuck"]) == (1000, 2)
    assert [each["group"] for each in first["groups"]["groups"]] == ["sermons", None]
    assert first["groups"]["groups"][0] == {
        "group": "sermons", "total": 626, "completed": 612, "pending": 12, "failed": 2, "not_found": 0, "invalid": 0,
        "unknown": 0, "stuck": 2, "last_known": {},
    }  # fmt: skip
    assert len(first["trend"]) == len(BOUNDS) - 1
    assert (first["trend"][0]["snapshot"], first["trend"][-1]["snapshot"]) == (None, first["health"])
    indexed = first["time_to_indexed"]
    assert indexed["slowest"][1]["item_id"] == "sermons/2026/02/22/a-long-name-of-a-document.pdf"
    assert {name: indexed[name] for name in ("uploads", "indexed", "failed", "waiting", "not_observed")} == {
        "uploads": 138, "indexed": 124, "failed": 2, "waiting": 12, "not_observed": 0,
    }  # fmt: skip
    assert [each["group"] for each in indexed["groups"]["groups"]] == ["sermons", None]
    assert indexed["p50_s"] == 120
    assert first["stuck"][0]["pending_since"] == "2026-03-07T10:00:00+00:00"
    assert first["changes"]["runs"] == {"complete": 284, "partial": 4, "aborted": 0, "failed": 0, "crashed": 0}
    assert first["changes"]["items"][1] == {"to": "failed", "count": 2, "sample_ids": ["doc-1", "doc-2"]}
    assert first["changes"]["incidents"]["incidents"][0]["happened"] == ["opened"]
    assert [never[key] for key in ("condition", "last_run", "health", "time_to_indexed")] == [
        "never_ran",
        None,
        None,
        None,
    ]
    assert set(never) == set(first)
    assert value["open_incidents"][0]["id"] == 7
    assert value["undelivered"] == [{"channel": "mail", "dead": 1, "waiting": 0}]


def table(report):
    return list(csv.DictReader(io.StringIO(overview_csv(report))))


def test_the_csv_has_a_row_per_target_and_span_with_the_columns_of_the_history():
    rows = table(SAMPLE)
    times_of_uploads = ("uploads_indexed", *(f"time_to_indexed_p{n}_s" for n in (50, 95, 99)))
    assert (*HISTORY_COLUMNS, "span_started_at", "span_ended_at", *times_of_uploads) == COLUMNS
    assert len(rows) == 2 * (len(BOUNDS) - 1)
    assert {name: value for name, value in rows[0].items() if value} == {
        "target": "gloo",
        "span_started_at": "2026-03-01T12:00:00+00:00",
        "span_ended_at": "2026-03-01T18:00:00+00:00",
        "uploads_indexed": "0",
    }
    assert [rows[len(BOUNDS) - 2][name] for name in times_of_uploads[:2]] == ["124", "120.0"]
    last = rows[len(BOUNDS) - 2]
    assert (last["run_id"], last["status"], last["failed"], last["abort_reason"]) == ("2016", "complete", "2", "")
    assert last["started_at"] == "2026-03-08T11:55:00+00:00"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"], ids=repr)
def test_text_that_a_spreadsheet_would_run_as_a_formula_is_quoted(begin):
    name = f'{begin}HYPERLINK("x")'
    (first, *_) = table(overview(facts(target=name, samples=(row(target=name, run_key=name),) * (len(BOUNDS) - 1))))
    assert (first["target"], first["run_key"]) == (f"'{name}", f"'{name}")
    assert first["duration_s"] == "60.0"


@pytest.mark.parametrize("since", [None, BOUNDS[0], NOW - 2 * HOUR], ids=["no runs", "all of it", "hours of it"])
def test_a_period_with_little_history_says_when_that_begins(since):
    gaps = (None,) * (len(BOUNDS) - 2)
    said = [line for line in overview_text(overview(facts(samples=(*gaps, row())), history_since=since)).splitlines()
            if line.startswith("History begins")]  # fmt: skip
    short = since == NOW - 2 * HOUR
    assert said == (
        [f"History begins {since:%Y-%m-%d %H:%M} UTC: nothing is known of the time before."] if short else []
    )
    rolled_up = overview(facts(samples=(row(), *gaps)), history_since=since)
    assert "History begins" not in overview_text(rolled_up), "rollups may be older than the runs"
