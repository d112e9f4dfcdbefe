"""A failing channel in the output of commands: its incident is shown like one of a target."""

import json

import pytest
from support.receiver import Receiver

CHANNEL = '[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{}"\n'


@pytest.fixture
def failing(here, small_world):
    """One failed item, and the only channel refuses its notification."""
    with Receiver((401, {}, b"")) as receiver:
        small_world.configure(more=CHANNEL.format(receiver.url))
        small_world.track(1, "FAILED")
        checked = here(small_world, "check", "--quiet")
        assert checked.returncode == 4, "no channel could be reached"
        assert receiver.url not in checked.stdout + checked.stderr
        yield small_world


def test_incidents_list_and_show_name_the_channel_and_its_last_error(here, failing):
    listed = here(failing, "incidents", "list", "--target", "channel:oncall").stdout.splitlines()
    assert len(listed) == 2
    number, state, severity, target, cause, *_ = listed[1].split()
    assert (state, severity, target, cause) == ("open", "warning", "channel:oncall", "channel_failing")
    shown = here(failing, "incidents", "show", number).stdout
    assert shown.startswith(f"Incident {number}: channel oncall: ")
    assert "notified   log" in shown
    assert "opened: " in shown
    assert "HTTP 401\n" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    as_json = json.loads(here(failing, "incidents", "show", number, "--json").stdout)
    assert (as_json["target"], as_json["cause"], as_json["breakdown"]) == ("channel:oncall", "channel_failing", {})


def test_an_unknown_channel_is_a_usage_error(here, failing):
    refused = here(failing, "incidents", "list", "--target", "channel:oncal")
    assert refused.returncode == 2
    assert "there is no target 'channel:oncal'" in refused.stderr


def test_a_removed_channel_with_incidents_is_accepted(here, failing):
    failing.configure()
    known = here(failing, "incidents", "list", "--target", "channel:oncall", "--all")
    assert (known.returncode, "channel_failing" in known.stdout) == (0, True)
    assert here(failing, "history", "--target", "channel:oncall").returncode == 0
