"""`notifications list|dead|retry`, with a receiver that refuses, recovers or is unreachable."""

import json
from datetime import UTC, datetime

import pytest
from support.receiver import Receiver

from monitor.database.engine import writing
from monitor.notifications import outbox
from monitor.notifications.messages import ReportContent, report_message

HOOK = '[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{}"\n'


@pytest.fixture
def suspended(small_world):
    """A world with an opening that its receiver refuses with 404; and the receiver."""
    with Receiver((404, {}, b"")) as receiver:
        small_world.configure(more=HOOK.format(receiver.url))
        small_world.track(1, "FAILED")
        small_world.cli("check")
        yield small_world, receiver


def test_pending_notifications_are_listed_with_reason_and_remedy(suspended, here):
    world, _ = suspended
    out = here(world, "notifications", "list").stdout
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["ID", "CREATED", "(UTC)", "CHANNEL"]
    assert "oncall" in lines[1]
    assert "suspended" in lines[1]
    assert "oncall" in lines[-1]
    assert "suspended since " in lines[-1]
    assert "(HTTP 404)" in lines[-1]
    assert "`ingestion-monitor notifications retry`" in lines[-1]


def test_retry_delivers_when_the_receiver_accepts_again(suspended, here):
    world, receiver = suspended
    still = here(world, "notifications", "retry")
    assert (still.returncode, still.stdout) == (4, "Messages: 1 deferred\n")
    receiver.answers = [(200, {}, b"")]
    left_alone = here(world, "notify").stdout
    assert left_alone == "Messages: 1 not sent yet (`ingestion-monitor notifications list` says why)\n"
    fixed = here(world, "notifications", "retry")
    assert fixed.returncode == 0, "the message, and to the log that the channel has recovered"
    assert fixed.stdout.startswith("Messages: 1 sent, 1 written to the log only")
    assert here(world, "notifications", "list").stdout == "No message waits to be delivered, and none was given up.\n"
    whole = here(world, "notifications", "list", "--all", "--channel", "oncall").stdout
    assert "sent 20" in whole


def test_a_dead_letter_can_be_retried_by_its_number(suspended, here):
    world, receiver = suspended
    receiver.answers = [(400, {}, b"")]
    here(world, "notifications", "retry")
    (letter,) = json.loads(here(world, "notifications", "dead", "--json").stdout)["notifications"]
    assert (letter["status"], letter["last_error"], letter["kind"]) == ("dead", "HTTP 400", "opened")
    assert letter["message"]["facts"]["items"] == "1 (peak 1)"
    assert "given up" in here(world, "notifications", "dead").stdout
    receiver.answers = [(200, {}, b"")]
    assert here(world, "notifications", "retry").stdout == "No message waits to be delivered.\n"
    assert here(world, "notifications", "retry", str(letter["id"])).stdout.startswith(
        "Messages: 1 sent, 1 written to the log only"
    )
    assert here(world, "notifications", "dead").stdout == "No dead letters.\n"


def test_all_dead_letters_can_be_retried_at_once(suspended, here):
    world, receiver = suspended
    receiver.answers = [(400, {}, b"")]
    here(world, "notifications", "retry")
    receiver.answers = [(200, {}, b"")]
    assert here(world, "notifications", "retry", "--dead").stdout.startswith(
        "Messages: 1 sent, 1 written to the log only"
    )


def test_the_number_of_no_undelivered_message_is_an_error(suspended, here):
    world, _ = suspended
    ended = here(world, "notifications", "retry", "77")
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: there is nothing to deliver under 77: it was sent, is being sent, or does not exist; "
        "`ingestion-monitor notifications list --all` has all\n"
    )


def test_an_unknown_channel_is_an_error(suspended, here):
    world, _ = suspended
    ended = here(world, "notifications", "list", "--channel", "oncal")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: --channel: there is no channel 'oncal'; choose from oncall, log\n"


def test_a_changed_address_resumes_a_suspended_channel(suspended, here):
    world, _ = suspended
    with Receiver() as moved:
        world.configure(more=HOOK.format(moved.url))
        assert here(world, "notify").stdout.startswith("Messages: ")
        assert moved.got[0][2]["kind"] == "opened"


def test_a_failing_channel_shows_its_next_attempt(suspended, here):
    world, receiver = suspended
    receiver.answers = [(503, {}, b"")]
    here(world, "notifications", "retry")
    lines = here(world, "notifications", "list").stdout.splitlines()
    assert "due in " in lines[1]
    assert lines[1].endswith("last: HTTP 503")
    assert "next attempt in " in lines[-1]


def test_a_report_is_listed_without_an_incident(small_world, here):
    content = ReportContent(lines=(("gloo", "2 completed"),), text="long", html="longer", data={})
    report = report_message("Report over the last 7 d", content, environment="test", at=datetime.now(UTC))
    with writing(small_world.app.engine) as conn:
        outbox.enqueue_report(conn, report, channels=["log"], name="weekly", now=datetime.now(UTC))
    (line,) = [line for line in here(small_world, "notifications", "list").stdout.splitlines() if "report" in line]
    assert line.split()[3:8] == ["log", "report", "-", "-", "-"]
    (listed,) = json.loads(here(small_world, "notifications", "list", "--json").stdout)["notifications"]
    assert (listed["kind"], listed["message"]["report"]) == ("report", None)
    assert listed["message"]["title"] == "Report over the last 7 d"
