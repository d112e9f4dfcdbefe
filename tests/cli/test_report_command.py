"""`report`: over real runs, in this process."""

import csv
import io
import json
import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.mailserver import MailServer
from support.receiver import Receiver

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
        "error: --format: 'yaml' is none of text, json, csv, markdown, html\n"
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


# --- files, Markdown and HTML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ("markdown", "| `gloo` |"),
        ("html", "<!doctype html>"),
        ("text", "Report on test"),
        ("json", "{"),
        ("csv", "run_id,"),
    ],
)
def test_a_format_is_written_to_a_file_that_only_its_owner_reads(here, watching, tmp_path, form, part):
    file = tmp_path / "report.out"
    file.write_text("of last week")
    done = here(watching, "report", "--peek", "--format", form, "--output", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert part in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".report")] == []


def test_html_on_stdout_is_the_same_file(here, watching):
    text = here(watching, "report", "--peek", "--format", "html").stdout
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert watching.stuck in text


def test_a_file_that_can_t_be_written_is_refused_before_anything_is_read(here, small_world, tmp_path):
    for path, why in (
        (tmp_path, "is a folder: name a file in it"),
        (tmp_path / "none" / "report.html", "there is no folder"),
        (Path(os.devnull), "is no regular file"),
        (tmp_path / ("a" * 300), "can't be used (File name too long): name another file"),
    ):
        done = here(small_world, "report", "--output", str(path))
        assert (done.returncode, done.stdout) == (2, "")
        assert why in done.stderr


def test_a_file_may_have_the_longest_name_there_is(here, watching, tmp_path):
    path = tmp_path / ("a" * 250 + ".html")
    assert here(watching, "report", "--peek", "--format", "html", "--output", str(path)).returncode == 0
    assert [each.name for each in tmp_path.glob("*.html")] == [path.name]


# --- sending ----------------------------------------------------------------------------------------------------------


def channels(watching, *more, public_url=""):
    """Configures channels, and the page's address."""
    page = f'\n[web]\npublic_url = "{public_url}"\n' if public_url else ""
    watching.configure(more="".join(f"\n[[channels]]\n{each}\n" for each in more) + page)


def test_a_report_is_posted_to_slack_in_short_with_a_link(here, watching):
    with Receiver() as receiver:
        channels(watching, f'name = "team"\ntype = "slack"\nurl = "{receiver.url}"', public_url="https://m.example")
        done = here(watching, "report", "--send", "team")
        assert (done.returncode, done.stdout) == (0, "The report was sent to team: accepted.\n")
        ((_, _, body),) = receiver.got
    texts = json.dumps(body, ensure_ascii=False)
    for part in ("📊 Report over the last 7 d: 1 target, 2 open incidents", "3 completed, 1 pending", "completed ",
                 "<https://m.example/|Open the page>"):  # fmt: skip
        assert part in texts
    assert len(body["blocks"]) < 8
    assert changes(here, watching)["first_report"] is False, "it counts as the last report"


def test_a_webhook_gets_the_values_of_the_json_report(here, watching):
    with Receiver() as receiver:
        channels(watching, f'name = "hook"\ntype = "webhook"\nurl = "{receiver.url}"')
        done = here(watching, "report", "--send", "hook", "--peek", "--json")
        assert json.loads(done.stdout) == {"channel": "hook", "outcome": "delivered", "reason": "accepted"}
        ((_, headers, body),) = receiver.got
    assert (body["version"], body["kind"], body["key"]) == (1, "report", headers["idempotency-key"])
    (target,) = body["report"]["targets"]
    assert (target["target"], target["health"]["failed"], "trend" in target) == ("gloo", 1, False)
    assert {"incident_id", "cause", "severity", "url"} & set(body) == set()
    assert changes(here, watching)["first_report"] is True, "--peek"


def test_a_mail_has_the_text_a_short_form_and_the_file(here, watching):
    with MailServer() as server:
        channels(
            watching,
            f'name = "mail"\ntype = "email"\nhost = "127.0.0.1"\nport = {server.port}\nsecurity = "none"\n'
            'from = "monitor@example.com"\nto = ["team@example.com"]',
            public_url="https://m.example",
        )
        assert here(watching, "report", "--send", "mail", "--peek").returncode == 0
        mail = server.read()
    assert mail["Subject"] == "[test] Report over the last 7 d: 1 target, 2 open incidents"
    text, html, file = [part for part in mail.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in (text, html, file)] == ["text/plain", "text/html", "text/html"]
    assert watching.stuck in text.get_content()
    assert "Open the page: https://m.example/" in text.get_content()
    assert '<a href="https://m.example/">' in html.get_content()
    assert file.get_filename().startswith("report-20")
    assert file.get_content().startswith("<!doctype html>")


def test_a_report_that_is_refused_is_code_4_and_no_last_report(here, watching):
    with Receiver((404, {}, b"")) as receiver:
        channels(watching, f'name = "team"\ntype = "webhook"\nurl = "{receiver.url}"')
        done = here(watching, "report", "--send", "team")
    assert (done.returncode, done.stdout) == (4, "The report was not delivered to team: HTTP 404.\n")
    assert changes(here, watching)["first_report"] is True


def test_a_channel_that_is_unknown_or_raises_alerts_is_code_2(here, small_world):
    alerts = f'name = "pager"\ntype = "pagerduty"\nrouting_key = "{"a" * 32}"'
    channels(small_world, alerts, 'name = "team"\ntype = "log"')
    assert here(small_world, "report", "--send", "tam").stderr == (
        "error: --send: there is no channel 'tam'; those that take reports: log, team\n"
    )
    assert here(small_world, "report", "--send", "pager").stderr == (
        "error: --send: the channel pager raises alerts and takes no reports; those that do: log, team\n"
    )
    for contradiction in (["--format", "html"], ["--output", "report.html"]):
        assert here(small_world, "report", "--send", "team", *contradiction).returncode == 2
