from datetime import timedelta

import pytest
from support.receiver import Receiver
from support.samples import NOW, incident

from monitor.cli.doctor import delivery
from monitor.cli.doctor.findings import Level
from monitor.model import ChannelState
from monitor.reports.notification_queries import Undelivered

HOUR = timedelta(hours=1)


def judged(*undelivered, **states):
    made = {name: ChannelState(name=name, **fields) for name, fields in states.items()}
    return [
        (each.part, each.level, each.message, each.command)
        for each in delivery.check_notifications(made, undelivered, now=NOW)
    ]


@pytest.mark.parametrize("fields", [{}, {"failures": 0, "last_error": None}], ids=["never failed", "well again"])
def test_channels_that_are_well_are_not_told(fields):
    assert judged(oncall=fields) == []


def test_a_parked_channel_is_a_problem_with_the_command_that_opens_it():
    waiting = Undelivered(channel="oncall", dead=0, waiting=3)
    assert judged(waiting, oncall={"suspended_at": NOW - HOUR, "last_error": "HTTP 404"}) == [
        (
            "oncall", Level.PROBLEM,
            "it is suspended since 2026-03-01 11:00:00 UTC (HTTP 404); waiting: 3 messages.",
            "ingestion-monitor notifications retry --channel oncall",
        )
    ]  # fmt: skip


def test_a_channel_out_of_reach_and_dead_letters_are_warnings():
    dead = Undelivered(channel="mail", dead=1, waiting=0)
    assert judged(dead, oncall={"failing_since": NOW - HOUR, "last_error": "HTTP 503", "failures": 4}) == [
        (
            "mail", Level.WARNING,
            "1 message of the last week given up: `ingestion-monitor notifications dead` has them.",
            "ingestion-monitor notifications retry --dead --channel mail",
        ),
        (
            "oncall", Level.WARNING,
            "nothing gets through since 2026-03-01 11:00:00 UTC (HTTP 503); it is tried again.", "",
        ),
    ]  # fmt: skip


def test_doctor_tells_of_a_parked_channel(small_world, here):
    with Receiver((404, {}, b"")) as receiver:
        small_world.configure(more=f'[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{receiver.url}"\n')
        small_world.track(1, "FAILED")
        small_world.cli("check")
        told = here(small_world, "doctor")
    assert told.returncode == 3
    assert "it is suspended since" in told.stdout
    assert "ingestion-monitor notifications retry --channel oncall" in told.stdout


def test_an_open_incident_of_a_target_that_is_gone_is_a_warning_with_the_command_that_ends_it():
    gone, known, channel = (
        incident(id=3, target="old"),
        incident(id=4, target="gloo"),
        incident(id=5, target="channel:x"),
    )
    (found,) = delivery.check_orphaned_incidents([gone, known, channel], {"gloo"})
    assert (found.part, found.level, found.command) == ("old", Level.WARNING, "ingestion-monitor incidents resolve 3")
