"""`report`: over real runs, in this process."""

import csv
import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from monitor.cli import main
from monitor.config.targets import CheckConfig
from monitor.database.engine import reading, writing
from monitor.incidents import store as incidents
from monitor.reports.build import build_report, report_targets
from monitor.reports.changes import save_cursor
from monitor.reports.overview_text import overview_text

DAY = timedelta(days=1)


@pytest.fixture
def watching(small_world):
    """A target with a day of runs: one item failed after the second run, one is stuck, one completed in between."""
    world = small_world
    world.clock.now = datetime.now(UTC) - timedelta(hours=9)
    failing, *_ = world.track(3)
    stuck, slow = world.track(2, status="CHUNKING", uploaded_at=world.clock() - timedelta(hours=1))
    for n in range(4):
        if n == 2:
            world.sandbox.set_status(failing, "FAILED")
            world.sandbox.set_status(slow, "COMPLETED")
        world.run()
        world.clock.advance(hours=2)
    world.failing, world.stuck, world.slow = failing, stuck, slow
    return world


def changes(here, world, *arguments):
    """The target's changes in a JSON report."""
    done = here(world, "report", "--format", "json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    (target,) = json.loads(done.stdout)["targets"]
    return target["changes"]


def test_the_report_has_state_trend_changes_and_open_incidents(here, watching):
    done = here(watching, "report")
    text = done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "Report on test, ",
        "  Health: 3 completed, 1 pending (1 stuck), 1 failed, 0 not found",
        "  Run 4 completed ",
        "  By stage: 3 COMPLETED, 1 FAILED, 1 CHUNKING",
        "  Time to indexed: 5 uploads, p50 5",
        f"  {watching.slow}  5 h ",
        f"  {watching.stuck}  ",
        "Changed in the last 7 d (this is the first report)",
        "  gloo: 4 runs; 5 new; 3 completed; 1 failed",
        f"({watching.failing})",
        "#2 items_failed",
        f"     such as {watching.failing}",
    ):
        assert part in text, part
    (line,) = (line for line in text.splitlines() if line.startswith("  failed  "))
    assert set("▁█") <= set(line)


def test_a_second_report_has_the_changes_since_the_first(here, watching):
    first = changes(here, watching)
    assert (first["first_report"], first["runs"]["complete"], first["new"], first["became_stuck"]) == (True, 4, 5, 1)
    again = changes(here, watching)
    assert (again["first_report"], again["runs"]["complete"], again["items"], again["new"]) == (False, 0, [], 0)
    watching.sandbox.set_status(watching.stuck, "COMPLETED")
    watching.track(2)
    watching.log("DELETE FROM sync_log WHERE item_id = :i", [{"i": watching.failing}])
    watching.run()
    third = changes(here, watching)
    counts = {each["to"]: each["count"] for each in third["items"]}
    assert (counts, third["new"], third["runs"]["complete"]) == ({"completed": 3, "removed": 1}, 2, 1)
    happened = {each["cause"]: each["happened"] for each in third["incidents"]["incidents"]}
    assert happened == {"items_stuck": ["resolved"], "items_failed": ["resolved"]}


@pytest.mark.parametrize("arguments", [("--peek",), ("--format", "csv")], ids=" ".join)
def test_reports_with_no_advance_and_csv_reports_store_no_cursor(here, watching, arguments):
    assert here(watching, "report", *arguments).returncode == 0
    assert watching.rows("SELECT * FROM reports") == []
    assert changes(here, watching)["first_report"] is True
    assert {row["target"] for row in watching.rows("SELECT target FROM reports")} == {"", "gloo"}


def test_a_report_on_one_target_leaves_the_cursors_of_others(here, watching):
    config = watching.config_path.read_text()
    second = config[config.index("[[targets]]") :].replace('name = "gloo"', 'name = "other"')
    watching.config_path.write_text(config + second)
    watching.close()
    assert changes(here, watching, "--target", "gloo")["first_report"] is True
    assert {row["target"] for row in watching.rows("SELECT target FROM reports")} == {"gloo"}
    value = json.loads(here(watching, "report", "--format", "json").stdout)
    assert [(each["target"], each["condition"]) for each in value["targets"]] == [
        ("gloo", "complete"),
        ("other", "never_ran"),
    ]


def test_a_removed_target_can_be_reported_on(here, watching):
    watching.config_path.write_text(watching.config_path.read_text().replace('name = "gloo"', 'name = "renamed"'))
    watching.close()
    assert "No run yet" in here(watching, "report").stdout
    assert "4 runs" in here(watching, "report", "--target", "gloo").stdout
    (old,) = report_targets(watching.app.config, "gloo")
    assert (old.stuck_after, old.due) == (CheckConfig().stuck_after, None)


def test_with_an_explicit_schedule_an_old_run_is_reported_as_stale(here, watching):
    assert "too long ago" not in here(watching, "report", "--peek").stdout
    watching.configure(more='[schedule]\nevery = "5m"\n')
    assert "That is too long ago" in here(watching, "report", "--peek").stdout


def test_an_unreadable_log_is_reported_with_the_last_numbers(here, watching):
    watching.log("ALTER TABLE sync_log RENAME TO gone")
    watching.run()
    text = " ".join(here(watching, "report").stdout.split())
    assert "Health: 3 completed, 1 pending (1 stuck)" in text
    assert "The sync log has been unreadable since " in text
    assert "The results are from run 4, " in text


def test_before_the_first_run_it_says_what_to_do_and_stores_no_cursor(here, small_world):
    done = here(small_world, "report")
    assert done.returncode == 0
    assert done.stdout.splitlines()[2:] == ["No run yet: run `ingestion-monitor check` first."]
    assert small_world.rows("SELECT * FROM reports") == []


def test_the_trend_is_available_as_csv(here, watching):
    rows = list(csv.DictReader(io.StringIO(here(watching, "report", "--since", "1d", "--format", "csv").stdout)))
    assert len(rows) == 24
    assert [(row["run_id"], row["failed"]) for row in rows if row["run_id"]] == [
        ("1", "0"),
        ("2", "0"),
        ("3", "1"),
        ("4", "1"),
    ]


def test_an_ascii_stream_gets_an_ascii_trend(watching, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["report", "--peek", "--config", str(watching.config_path)]) == 0
    assert raw.getvalue().isascii()
    assert b"\\u" not in raw.getvalue()
    assert b"  failed  " in raw.getvalue()


@pytest.mark.parametrize("since", ["1y", "59m", "0s", "3654d", "yesterday", ""])
def test_a_wrong_period_is_code_2_with_a_remedy(here, small_world, since):
    done = here(small_world, "report", "--since", since)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: --since: {since!a} is no duration from 1h to 3653d")


def test_an_unknown_format_or_target_is_code_2(here, small_world):
    assert here(small_world, "report", "--format", "yaml").stderr == (
        "error: --format: 'yaml' is none of text, json, csv\n"
    )
    assert here(small_world, "report", "--target", "glo").returncode == 2


def test_the_help_has_an_example(capsys):
    assert main(["report", "--help"]) == 0
    assert "Example: ingestion-monitor report" in " ".join(capsys.readouterr().out.split())


def test_a_report_is_built_and_its_cursor_stored(world):
    uploaded_at = world.clock() - timedelta(hours=12)
    world.track(2, uploaded_at=uploaded_at)
    waiting = world.track(1, status="CHUNKING", uploaded_at=uploaded_at)
    world.run()
    world.sandbox.set_status(waiting[0], "COMPLETED")
    world.run()
    now = world.clock()

    def report():
        with reading(world.app.engine) as conn:
            return build_report(conn, world.app.config, target=None, since=DAY, now=now)

    overview, cursors = report()
    text = overview_text(overview)
    assert "Health: 3 completed, 0 pending, 0 failed, 0 not found" in text
    assert "gloo: 2 runs; 3 new; 3 completed" in text
    assert "Time to indexed: 3 uploads, p50 13 h, p95 13 h, p99 13 h, 2 at an unknown time" in text
    assert f"{waiting[0]}  12 h" in text
    with writing(world.app.engine) as conn:
        incidents.add_event(conn, incident_id=1, run_id=None, at=now, kind="resolved", reason="by hand")
        for name, cursor in cursors.items():
            save_cursor(conn, target=name, cursor=cursor)
    overview, _ = report()
    (target,) = overview.targets
    assert (target.facts.changes.runs, target.facts.changes.items) == (None, ())
    assert [sorted(each.happened) for each in target.facts.changes.incidents.newest] == [["resolved"]]
