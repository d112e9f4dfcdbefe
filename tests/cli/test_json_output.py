"""`--json`: one JSON object on stdout from every command, and lists that say how much they show."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from monitor.cli.app import command_tree
from monitor.reports import formatting

LONG_RUNNING = {"daemon", "worker", "sandbox", "demo"}
"""They have no single result."""
ALREADY_JSON = {"config schema"}


def commands(command=None, path=()):
    command = command or command_tree()
    if hasattr(command, "commands"):  # a group
        for name, each in command.commands.items():
            yield from commands(each, (*path, name))
    else:
        yield " ".join(path), command


@pytest.mark.parametrize("name", [name for name, _ in commands() if name not in LONG_RUNNING | ALREADY_JSON])
def test_every_command_with_a_result_has_the_option(name):
    command = dict(commands())[name]
    assert "--json" in [option for parameter in command.params for option in parameter.opts]


@pytest.fixture
def troubled(small_world):
    """A run with three failed items, and then one whose key is revoked."""
    small_world.clock.now = datetime.now(UTC) - timedelta(minutes=5)
    for item_id in small_world.track(8)[:3]:
        small_world.sandbox.set_status(item_id, "FAILED")
    small_world.run()
    small_world.sandbox.revoke_client()
    small_world.run()
    small_world.run()
    return small_world


LISTS = {
    "history": (["history"], "runs", 3),
    "items": (["items", "list"], "items", 8),
    "incidents": (["incidents", "list"], "incidents", 2),
    "silences": (["silences", "list"], "silences", 1),
    "notifications": (["notifications", "list", "--all"], "notifications", 2),
}


@pytest.mark.parametrize(("arguments", "name", "total"), LISTS.values(), ids=LISTS)
def test_a_list_is_an_object_that_says_how_much_of_it_is_shown(here, troubled, arguments, name, total):
    assert here(troubled, "silences", "add", "--match", "cause=outage", "--for", "1h").returncode == 0
    whole = json.loads(here(troubled, *arguments, "--json").stdout)
    assert (whole["total"], whole["shown"], len(whole[name])) == (total, total, total)
    cut = json.loads(here(troubled, *arguments, "--json", "--limit", "1").stdout)
    assert (cut["total"], cut["shown"], cut[name]) == (total, 1, whole[name][:1])
    if total > 1:
        assert f"--limit {total} shows all" in here(troubled, *arguments, "--limit", "1").stdout


@pytest.mark.parametrize(
    ("arguments", "total"), [(["history"], 3), (["incidents", "list"], 2), (["notifications", "list", "--all"], 2)]
)
def test_a_list_that_grows_is_counted_up_to_a_limit(here, troubled, monkeypatch, arguments, total):
    monkeypatch.setattr(formatting, "COUNTED_ROWS", total - 1)
    counted = json.loads(here(troubled, *arguments, "--json", "--limit", "1").stdout)
    assert (counted["total"], counted["total_is_minimum"]) == (2, True)
    assert here(troubled, *arguments, "--limit", "1").stdout.splitlines()[-1] == "and 1 or more: --limit N shows N"
    whole = json.loads(here(troubled, *arguments, "--json", "--limit", str(total)).stdout)
    assert (whole["total"], whole["total_is_minimum"]) == (total, False)


OBJECTS = {
    "report": ["report", "--json", "--peek"],
    "rules": ["rules", "list", "--json"],
    "config check": ["config", "check", "--json"],
    "slo": ["slo", "--json"],
    "db current": ["db", "current", "--json"],
    "db upgrade": ["db", "upgrade", "--json"],
    "notify": ["notify", "--json"],
    "retry": ["notifications", "retry", "--json"],
    "ack": ["incidents", "ack", "1", "--json"],
    "resolve": ["incidents", "resolve", "2", "--json"],
}


@pytest.mark.parametrize("arguments", OBJECTS.values(), ids=OBJECTS)
def test_other_results_are_objects_too(here, troubled, arguments):
    assert isinstance(json.loads(here(troubled, *arguments).stdout), dict)


def test_a_configuration_with_problems_is_an_object_too(here, small_world):
    small_world.config_path.write_text("nonsense = 1\n")
    done = here(small_world, "config", "check", "--json")
    value = json.loads(done.stdout)
    assert (done.returncode, value["ok"]) == (2, False)
    assert any("nonsense" in problem for problem in value["problems"])


def test_json_contradicts_another_format(here, small_world):
    done = here(small_world, "report", "--json", "--format", "csv")
    assert (done.returncode, done.stdout) == (2, "")


def test_an_incident_is_shown_with_all_its_items(here, troubled):
    value = json.loads(here(troubled, "incidents", "show", "1", "--json").stdout)
    assert (value["total"], value["shown"], len(value["members"])) == (3, 3, 3)
    cut = json.loads(here(troubled, "incidents", "show", "1", "--json", "--limit", "2").stdout)
    assert (cut["total"], cut["shown"], cut["members"]) == (3, 2, value["members"][:2])
    text = here(troubled, "incidents", "show", "1", "--limit", "2").stdout
    assert "and 1 more: --limit 3 shows all" in text
    listed = json.loads(here(troubled, "items", "list", "--incident", "1", "--json").stdout)
    assert sorted(each["item_id"] for each in listed["items"]) == sorted(value["members"])


def test_what_is_unknown_now_is_found_by_what_was_last_known(here, troubled):
    hidden = here(troubled, "items", "list", "--state", "failed").stdout
    assert "3 items unknown now" in hidden
    assert "--known-state failed" in hidden
    assert "--known-state pending" not in here(troubled, "items", "list", "--stuck").stdout
    found = here(troubled, "items", "list", "--known-state", "failed")
    assert found.stdout.splitlines()[0].split()[:4] == ["ITEM", "STATE", "LAST", "KNOWN"]
    assert found.stdout.splitlines()[-1] == "3 shown"
    shown = here(troubled, "report", "--peek").stdout
    assert "Last known of the unknown: 5 completed, 3 failed." in shown
    assert "By last known stage: 5 COMPLETED, 3 FAILED" in shown


def test_an_unknown_state_or_incident_is_a_usage_error(here, small_world):
    wrong = here(small_world, "items", "list", "--known-state", "unknown")
    assert (wrong.returncode, "--known-state" in wrong.stderr) == (2, True)
    missing = here(small_world, "items", "list", "--incident", "9")
    assert (missing.returncode, "there is no incident 9" in missing.stderr) == (2, True)
