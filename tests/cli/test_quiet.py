"""`check --quiet` from cron: it prints news, and nothing on either stream while a known incident goes on."""

import pytest
from support.receiver import Receiver

CHANNEL = '[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{}"\n'


def quiet(small_world, *arguments):
    done = small_world.cli("check", "--quiet", *arguments)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def failing(small_world):
    item_id, *_ = small_world.track(3)
    small_world.sandbox.set_status(item_id, "FAILED")
    small_world.item_id = item_id
    return small_world


def test_an_incident_is_printed_when_it_opens_and_when_it_ends_and_not_in_between(failing):
    code, out, err = quiet(failing)
    assert (code, err) == (0, "")
    assert "#1 items_failed opened" in out
    assert "check: " in out
    assert quiet(failing) == (0, "", "")
    assert quiet(failing, "--fail-on", "incident") == (1, "", "")
    failing.sandbox.set_status(failing.item_id, "COMPLETED")
    code, out, err = quiet(failing)
    assert (code, err) == (0, "")
    assert "#1 items_failed resolved" in out
    assert quiet(failing) == (0, "", "")


def test_a_silenced_opening_and_an_acknowledged_end_are_no_news(here, failing):
    assert here(failing, "silences", "add", "--match", "cause=items_failed", "--for", "1h").returncode == 0
    assert quiet(failing) == (0, "", "")
    assert here(failing, "silences", "expire", "1").returncode == 0
    assert here(failing, "incidents", "ack", "1").returncode == 0
    failing.sandbox.set_status(failing.item_id, "COMPLETED")
    assert quiet(failing) == (0, "", "")


def test_an_aborted_run_is_news_until_its_incident_is_known(small_world):
    small_world.track(3)
    assert quiet(small_world) == (0, "", "")
    small_world.sandbox.revoke_client()
    code, out, err = quiet(small_world)
    assert (code, out.splitlines()[0]) == (4, "gloo: run 2, aborted (unauthorized)")
    assert err.startswith("error: target gloo: the run stopped early")
    code, out, err = quiet(small_world)
    assert (code, "unauthorized opened" in out) == (4, True)
    assert err.startswith("error: ")
    assert quiet(small_world) == (4, "", "")


def test_a_sync_log_that_stays_unreadable_is_told_once(small_world):
    small_world.track(1)
    assert quiet(small_world) == (0, "", "")
    small_world.log("DROP TABLE sync_log")
    told = [quiet(small_world) for _ in range(4)]
    assert [code for code, *_ in told] == [3] * 4
    assert [bool(out + err) for _, out, err in told] == [True, True, False, False]


def test_an_error_is_always_printed(small_world):
    small_world.configure(database="sqlite:////no/such/folder/monitor.db")
    for _ in range(2):
        code, out, err = quiet(small_world)
        assert (code, out, err.startswith("error: ")) == (3, "", True)


def test_a_channel_that_fails_is_news_once(failing):
    with Receiver((401, {}, b"")) as receiver:
        failing.configure(more=CHANNEL.format(receiver.url))
        code, out, err = quiet(failing)
        assert (code, err) == (4, "")
        assert "channel_failing on channel:oncall opened" in out
        assert receiver.url not in out
        code, out, err = quiet(failing)
        assert (out, err) == ("", "")


def test_warnings_about_the_configuration_are_for_other_commands(small_world):
    small_world.track(1)
    done = small_world.cli("check", "--quiet", env={"MONITOR_NO_SUCH_SETTING": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "MONITOR_NO_SUCH_SETTING" in small_world.cli("history", env={"MONITOR_NO_SUCH_SETTING": "1"}).stderr
