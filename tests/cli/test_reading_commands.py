"""`history`, `incidents`, `notify`, `config check` and `db`: commands that send nothing to the API."""

import json
import sqlite3

import pytest
from database.older import revisions
from support.observed import events
from support.receiver import Receiver

from monitor import __version__
from monitor.cli import db, main
from monitor.database.schema import SchemaVersion
from monitor.database.tables import metadata

NEWER = "UPDATE ingestion_monitor_version SET version_num = '9999'"


def sql(world, statement):
    with world.app.engine.begin() as conn:
        conn.exec_driver_sql(statement)


def test_the_history_is_printed_newest_first_as_text_and_as_json(here, troubled):
    text = here(troubled, "history").stdout.splitlines()
    assert [line.split()[0] for line in text] == ["RUN", "3", "2", "1"]
    assert "aborted (unauthorized)" in text[1]
    listed = json.loads(here(troubled, "history", "--json", "--limit", "2", "--target", "gloo").stdout)
    assert [(row["run_id"], row["status"], row["unknown"]) for row in listed["runs"]] == [
        (3, "aborted", 4),
        (2, "aborted", 4),
    ]
    assert (listed["total"], listed["shown"]) == (3, 2)


def test_a_target_without_configuration_and_history_is_refused(here, troubled):
    slip = here(troubled, "history", "--target", "glo")
    assert (slip.returncode, slip.stderr) == (2, "error: --target: there is no target 'glo'; choose from gloo\n")
    assert here(troubled, "incidents", "list", "--target", "\udcff").returncode == 2
    troubled.config_path.write_text(troubled.config_path.read_text().replace('name = "gloo"', 'name = "renamed"'))
    assert here(troubled, "history", "--target", "gloo").stdout.count("\n") == 4
    assert "No history yet" in here(troubled, "history", "--target", "renamed").stdout


def test_open_incidents_are_listed_and_resolved_ones_with_all(here, troubled):
    listed = here(troubled, "incidents", "list").stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["2", "open"], ["1", "open"]]
    found = json.loads(here(troubled, "incidents", "list", "--json", "--limit", "1").stdout)
    assert [(each["id"], each["cause"], each["items"]) for each in found["incidents"]] == [(2, "unauthorized", 0)]
    assert (found["total"], found["shown"]) == (2, 1)
    sql(troubled, "UPDATE incidents SET state = 'resolved', resolved_at = opened_at")
    assert here(troubled, "incidents", "list").stdout == "No open incidents.\n"
    assert here(troubled, "incidents", "list", "--all", "--target", "gloo").stdout.count("resolved") == 2


def test_an_incident_is_shown_with_its_items_and_what_to_check(here, troubled):
    shown = here(troubled, "incidents", "show", "1").stdout
    (failed,) = (row["item_id"] for row in troubled.rows("SELECT item_id FROM items WHERE incident_id = 1"))
    (line,) = (line for line in shown.splitlines() if line.startswith(f"  {failed}  "))
    assert line.split()[1:5] == ["unknown", "failed", "FAILED", f"{troubled.clock():%Y-%m-%d}"]
    assert "What to check:" in shown
    assert "opened: one run with evidence is enough (run 1)" in shown
    value = json.loads(here(troubled, "incidents", "show", "2", "--json").stdout)
    assert (value["cause"], value["members"], value["breakdown"]) == ("unauthorized", [], value["breakdown"])
    assert value["events"][0]["kind"] == "opened"
    assert "key rotation" in value["what_to_check"][0]


def test_an_unknown_incident_is_code_2_with_a_remedy(here, small_world):
    done = here(small_world, "incidents", "show", "99")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no incident 99; `ingestion-monitor incidents list --all` has all\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["incidents", "show", "9" * 30],
        ["incidents", "show", "0"],
        ["incidents", "show", "one"],
        ["incidents", "show"],
        ["history", "--limit", "0"],
        ["history", "--limit", "many"],
        ["sandbox", "--port", "70000"],
        ["db"],
        ["frobnicate"],
        ["check", "--colour"],
    ],
    ids=" ".join,
)
def test_a_usage_error_is_code_2(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "Usage: ingestion-monitor" in out + err


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


COMMANDS = [
    ["demo"], ["init"], ["doctor"], ["check"], ["daemon"], ["notify"], ["report"], ["history"], ["sandbox"],
    ["config", "check"], ["config", "show"], ["config", "schema"], ["db", "upgrade"], ["db", "current"],
    ["items", "import"], ["items", "list"], ["items", "show"], ["items", "remove"], ["items", "ignore"],
    ["incidents", "list"], ["incidents", "show"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_text_has_an_example_and_no_colours(command, capsys):
    assert main([*command, "--help"]) == 0
    help_text = capsys.readouterr().out
    assert f"Example: ingestion-monitor {' '.join(command)}" in " ".join(help_text.split())
    assert "\x1b" not in help_text


def test_help_respects_no_color(small_world):
    done = small_world.cli("--help", config=False, env={"NO_COLOR": "1", "FORCE_COLOR": "1"})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert [
        name for name in ("demo", "check", "daemon", "notify", "history", "sandbox") if name not in done.stdout
    ] == []


def test_notify_delivers_what_is_due_once(here, troubled):
    with Receiver((500, {}, b""), (200, {}, b"")) as receiver:
        troubled.configure(more=f'[[channels]]\nname = "log"\ntype = "webhook"\nurl = "{receiver.url}"\n')
        failed = here(troubled, "notify")
        assert failed.returncode == 4
        assert "1 deferred" in failed.stdout or "2 deferred" in failed.stdout
        sql(troubled, "UPDATE channels SET blocked_until = NULL")
        sql(troubled, "UPDATE notifications SET next_attempt_at = created_at")
        done = here(troubled, "notify")
        assert (done.returncode, done.stdout) == (0, "Messages: 2 sent\n")
        assert here(troubled, "notify").stdout == "Nothing is due.\n"
        keys = {headers["idempotency-key"] for _, headers, _ in receiver.got}
    assert len(keys) == 2


def test_without_a_channel_a_message_goes_to_the_log(here, troubled):
    done = here(troubled, "notify", "--log-level", "warning")
    assert done.returncode == 0
    assert {event["cause"] for event in events(done.stderr, "incident_message")} == {"items_failed", "unauthorized"}


def test_a_valid_configuration_is_described_without_any_request(here, small_world, monkeypatch):
    monkeypatch.setenv("MONITOR_SERVICE_PORT", "80")
    monkeypatch.setenv("MONITOR_ENVIROMENT", "production")
    done = here(small_world, "config", "check")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{small_world.config_path}: no problems found",
        "  targets:  gloo",
        "  channels: none: messages go to the log",
    ]
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("warning: MONITOR_ENVIROMENT")
    assert small_world.sandbox.requests() == 0


def test_each_configuration_problem_is_printed_on_its_own_line(here, small_world):
    small_world.configure(check='concurrency = "many"\ndeadline = "yesterday"', more='[[channels]]\nname = "x"\n')
    for command in (["config", "check"], ["check"], ["daemon"]):
        done = here(small_world, *command)
        lines = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, "")
        assert len(lines) >= 3
        assert [line for line in lines if not line.startswith("error: ")] == []
        for key in ("concurrency", "deadline", "channels"):
            assert len([line for line in lines if key in line]) == 1, key


@pytest.mark.parametrize("name", ["absent.toml", "."], ids=["missing", "folder"])
def test_an_unreadable_configuration_is_code_2(here, small_world, name):
    small_world.config_path = small_world.folder / name
    done = here(small_world, "check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_db_commands_on_an_empty_database(here, small_world):
    path = small_world.folder / "new.db"
    small_world.configure(database=f"sqlite:///{path}")
    empty = here(small_world, "db", "current")
    assert empty.returncode == 3
    assert empty.stdout.startswith("The database is empty; this program needs ")
    assert not path.exists()
    first, second = here(small_world, "db", "upgrade"), here(small_world, "db", "upgrade")
    assert first.stdout == f"The database is at this program's schema (upgraded: {', '.join(revisions())}).\n"
    assert second.stdout == "The database is at this program's schema (nothing to do).\n"
    current = here(small_world, "db", "current")
    assert (current.returncode, current.stdout) == (
        0,
        f"The database is at schema {revisions()[-1]}, which is this program's.\n",
    )
    with sqlite3.connect(path) as made:
        tables = {name for (name,) in made.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    made.close()
    assert set(metadata.tables) <= tables


def test_an_empty_server_database_is_upgraded_only_on_request(here, small_world, new_postgres):
    small_world.configure(database=new_postgres())
    for command in (["check"], ["history"]):
        done = here(small_world, *command)
        assert done.returncode == 3
        assert "is empty; run `ingestion-monitor db upgrade`" in done.stderr
    assert here(small_world, "db", "current").returncode == 3
    assert here(small_world, "db", "upgrade").returncode == 0
    assert here(small_world, "db", "current").returncode == 0
    small_world.track(1)
    assert here(small_world, "check").returncode == 0


def test_a_newer_schema_is_reported_and_unchanged(here, world):
    world.track(1)
    sql(world, NEWER)
    current = here(world, "db", "current")
    assert current.returncode == 3
    assert "9999" in current.stdout + current.stderr
    assert "newer" in current.stdout + current.stderr
    assert "db upgrade" not in current.stdout + current.stderr
    upgrade = here(world, "db", "upgrade")
    assert (upgrade.returncode, upgrade.stdout) == (3, "")
    assert "newer than this program's" in upgrade.stderr


def test_an_older_schema_is_printed_with_the_command_to_run():
    assert db.version_text(SchemaVersion(current="0001", head="0002")) == (
        "The database is at schema 0001; this program needs 0002: run `ingestion-monitor db upgrade`."
    )


def test_a_database_with_foreign_tables_is_refused(here, small_world):
    sql(small_world, "DELETE FROM ingestion_monitor_version")
    done = here(small_world, "db", "upgrade")
    assert done.returncode == 3
    assert "already has" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_causes_no_traceback(troubled):
    reading = troubled.start("history", "--json")
    reading.stdout.close()
    err = reading.stderr.read()
    reading.stderr.close()
    assert reading.wait(timeout=120) == 0, "a reader that leaves wanted no more; 1 is what --fail-on says"
    assert "Traceback" not in err
