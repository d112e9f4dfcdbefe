from datetime import timedelta

import pytest
from support.receiver import Receiver
from support.samples import NOW, incident

from monitor.cli.doctor import delivery
from monitor.cli.doctor.findings import Level
from monitor.model import ChannelState
from monitor.reports.notification_queries import Undelivered

HOUR = timedelta(hours=1)


def findings(*undelivered, **states):
    made = {name: ChannelState(name=name, **fields) for name, fields in states.items()}
    return [
        (each.part, each.level, each.message, each.command)
        for each in delivery.check_notifications(made, undelivered, now=NOW)
    ]


@pytest.mark.parametrize("fields", [{}, {"failures": 0, "last_error": None}], ids=["never failed", "well again"])
def test_healthy_channels_have_no_finding(fields):
    assert findings(oncall=fields) == []


def test_a_suspended_channel_is_a_problem_with_the_command_to_resume_it():
    waiting = Undelivered(channel="oncall", dead=0, waiting=3)
    assert findings(waiting, oncall={"suspended_at": NOW - HOUR, "last_error": "HTTP 404"}) == [
        (
            "oncall", Level.PROBLEM,
            "suspended since 2026-03-01 11:00:00 UTC (HTTP 404); 3 messages waiting.",
            "ingestion-monitor notifications retry --channel oncall",
        )
    ]  # fmt: skip


def test_failing_channels_and_dead_letters_are_warnings():
    dead = Undelivered(channel="mail", dead=1, waiting=0)
    assert findings(dead, oncall={"failing_since": NOW - HOUR, "last_error": "HTTP 503", "failures": 4}) == [
        (
            "mail", Level.WARNING,
            "1 message of the last week given up: see `ingestion-monitor notifications dead`.",
            "ingestion-monitor notifications retry --dead --channel mail",
        ),
        (
            "oncall", Level.WARNING,
            "failing since 2026-03-01 11:00:00 UTC (HTTP 503); it is tried again.", "",
        ),
    ]  # fmt: skip


def test_doctor_reports_a_suspended_channel(small_world, here):
    with Receiver((404, {}, b"")) as receiver:
        small_world.configure(more=f'[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{receiver.url}"\n')
        small_world.track(1, "FAILED")
        small_world.cli("check")
        done = here(small_world, "doctor")
    assert done.returncode == 3
    assert "suspended since" in done.stdout
    assert "ingestion-monitor notifications retry --channel oncall" in done.stdout


def test_an_open_incident_of_a_removed_target_is_a_warning_with_the_command_to_resolve_it():
    gone, known, channel = (
        incident(id=3, target="old"),
        incident(id=4, target="gloo"),
        incident(id=5, target="channel:x"),
    )
    (found,) = delivery.check_orphaned_incidents([gone, known, channel], {"gloo"})
    assert (found.part, found.level, found.command) == ("old", Level.WARNING, "ingestion-monitor incidents resolve 3")
