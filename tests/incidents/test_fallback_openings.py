"""Openings that only the fallback log took are sent once there is a channel; what a first run finds is one message."""

import asyncio

import pytest
from support.receiver import Receiver

HOOK = '[[channels]]\nname = "{name}"\ntype = "webhook"\nurl = "{url}"\n'


@pytest.fixture
def receiver():
    with Receiver() as made:
        yield made


def hook(receiver, name="hook"):
    return HOOK.format(name=name, url=receiver.url)


def deliver(world):
    return asyncio.run(world.app.sender().deliver())


def run(world):
    report = world.run()
    deliver(world)
    return report


def configured_check(world, receiver):
    world.configure(more=hook(receiver))
    return world.cli("check").stdout


def complete(world, made):
    for item_id in made:
        world.sandbox.set_status(item_id, "COMPLETED")


def heard(receiver):
    return [(body["kind"], body["cause"]) for _, _, body in receiver.got]


def test_what_was_open_before_there_was_a_channel_is_opened_there_at_the_next_run(world, receiver):
    made = world.track(2, status="FAILED")
    run(world)
    world.configure(more=hook(receiver))
    run(world)
    run(world)
    assert heard(receiver) == [("opened", "items_failed")]
    assert [row["channels"] for row in world.rows("SELECT channels FROM incidents")] in (
        ['["log", "hook"]'], [["log", "hook"]],
    )  # fmt: skip
    complete(world, made)
    run(world)
    assert heard(receiver) == [("opened", "items_failed"), ("resolved", "items_failed")]


def test_the_one_shot_commands_do_it_as_well(small_world, receiver):
    small_world.track(1, status="FAILED")
    assert small_world.cli("check").stdout.endswith("Messages: 1 written to the log only\n"), "nobody was notified"
    assert "Messages: 1 sent" in configured_check(small_world, receiver)
    assert "until now no channel" in small_world.cli("incidents", "explain", "1").stdout
    assert small_world.cli("notify").stdout == "Nothing is due.\n"
    assert heard(receiver) == [("opened", "items_failed")]


def test_a_route_to_the_log_alone_is_not_a_fallback_of_other_channels(small_world, receiver):
    route = '[[routes]]\nmatch = {{ cause = "{}" }}\nchannels = ["{}"]\n'
    more = hook(receiver) + route.format("items_*", "log")
    small_world.track(1, status="FAILED")
    small_world.configure(more=more)
    run(small_world)
    run(small_world)
    assert heard(receiver) == []
    small_world.configure(more=hook(receiver) + route.format("items_*", "hook"))
    run(small_world)
    assert heard(receiver) == [("opened", "items_failed")]


def test_a_silenced_incident_is_opened_there_after_its_silence(small_world, receiver):
    small_world.track(1, status="FAILED")
    run(small_world)
    small_world.cli("silences", "add", "--match", "cause=items_failed", "--for", "4h")
    assert small_world.cli("silences", "list").stdout.count("items_failed") == 1
    small_world.configure(more=hook(receiver))
    small_world.cli("check")
    assert heard(receiver) == []
    small_world.cli("silences", "expire", "1")
    small_world.cli("check")
    assert heard(receiver) == [("opened", "items_failed")]


def test_what_has_ended_is_not_opened_any_more(small_world, receiver):
    made = small_world.track(1, status="FAILED")
    run(small_world)
    complete(small_world, made)
    run(small_world)
    small_world.configure(more=hook(receiver))
    run(small_world)
    assert heard(receiver) == []


def test_the_first_run_of_a_target_sends_one_message_about_all_its_items(world, receiver):
    world.configure(more=hook(receiver))
    world.track(3, status="FAILED")
    world.record("no-uuid", "neither")
    run(world)
    ((_, _, body),) = receiver.got
    assert body["title"] == "gloo: first look: 3 failed, 2 with an invalid id"
    assert sorted(part["cause"] for part in body["parts"]) == ["items_failed", "items_invalid"]
    world.track(1, status="FAILED")
    world.record("a-third")
    run(world)
    assert len(receiver.got) == 1, "new members are an update, which comes later"


def test_what_a_first_run_found_without_a_channel_is_one_message_later(small_world, receiver):
    small_world.track(3, status="FAILED")
    small_world.record("no-uuid", "neither")
    run(small_world)
    assert "Messages: 1 sent" in configured_check(small_world, receiver)
    ((_, _, body),) = receiver.got
    assert body["title"] == "gloo: first look: 3 failed, 2 with an invalid id"


def test_a_first_run_that_finds_one_cause_sends_its_ordinary_message(small_world, receiver):
    small_world.configure(more=hook(receiver))
    small_world.track(3, status="FAILED")
    run(small_world)
    ((_, _, body),) = receiver.got
    assert body["title"] == "gloo: 3 documents failed to ingest"


def test_causes_of_a_later_run_are_messages_of_their_own(small_world, receiver):
    small_world.configure(more=hook(receiver))
    small_world.track(1)
    run(small_world)
    small_world.track(3, status="FAILED")
    small_world.record("no-uuid")
    run(small_world)
    assert [body["title"] for _, _, body in receiver.got] == [
        "gloo: 3 documents failed to ingest",
        "gloo: 1 id is not valid for the API",
    ]
