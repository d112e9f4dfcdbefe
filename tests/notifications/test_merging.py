import shlex
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW, message

from monitor.incidents.silences import parse_matchers
from monitor.model import ITEM_CAUSES, Cause, Severity
from monitor.notifications.batching import format_numbers, join_names, merge, parse_numbers
from monitor.notifications.messages import MessageKind
from monitor.notifications.texts import channel_target, describe_first_look


def parts(count, **fields):
    defaults = {
        "subject": "x", "facts": (("since", "2026-03-01 11:55:00 UTC"), ("code", "invalid_client"), ("run 1", "…")),
    }  # fmt: skip
    return [
        message(
            number, target=f"gloo-{number}", commands=(("acknowledge", f"ingestion-monitor incidents ack {number}"),),
            **{**defaults, **fields},
        )
        for number in range(1, count + 1)
    ]  # fmt: skip


def test_a_single_message_is_unchanged():
    (only,) = parts(1)
    assert merge([only]) is only


def test_the_content_of_a_merged_opening():
    merged = merge(parts(3))
    assert merged.title == merged.subject == "3 targets: the API rejects the credentials"
    assert merged.target == "gloo-1, gloo-2, gloo-3"
    assert merged.what_to_check == parts(1)[0].what_to_check
    assert merged.facts == (
        ("affected", "gloo-1, gloo-2, gloo-3"),
        ("incidents", "1, 2, 3"),
        ("gloo-1", "since 2026-03-01 11:55:00 UTC; code invalid_client"),
        ("gloo-2", "since 2026-03-01 11:55:00 UTC; code invalid_client"),
        ("gloo-3", "since 2026-03-01 11:55:00 UTC; code invalid_client"),
        ("details", "ingestion-monitor incidents list"),
    )
    assert merged.commands == (
        ("acknowledge", "ingestion-monitor incidents ack 1 2 3"),
        (
            "silence",
            "ingestion-monitor silences add --match cause=unauthorized"
            + "".join(f" --match target=gloo-{number}" for number in (1, 2, 3))
            + " --for 4h",
        ),
    )
    assert merged.parts == tuple(parts(3))


def test_many_targets_are_partly_named_and_counted():
    merged = merge(parts(200))
    facts = dict(merged.facts)
    assert facts["affected"].endswith("gloo-20 and 180 more")
    assert len(merged.facts) == 3 + 10
    assert merged.commands == (("silence", "ingestion-monitor silences add --incident 1-200 --for 4h"),)


def test_more_scattered_incidents_than_a_command_can_name_have_none():
    given = [message(1_000_000 + 2 * number, target=f"gloo-{number}") for number in range(400)]
    assert merge(given).commands == (), "half a silence is another one"


def silenced(command):
    """The matchers that the command would store, read by the product's own parsers."""
    options = shlex.split(command)
    given = [options[at + 1] for at, each in enumerate(options) if each == "--match"]
    return parse_matchers(given)


def test_a_silence_by_name_matches_every_combination_and_is_suggested_only_if_these_are_the_incidents():
    grid = [(target, group) for target in ("gloo-1", "gloo-2") for group in ("faq", "news")]
    all_four = [message(n, target=target, group=group) for n, (target, group) in enumerate(grid, 1)]
    (command,) = [text for label, text in merge(all_four).commands if label == "silence"]
    assert silenced(command) == {
        "cause": ("unauthorized",), "target": ("gloo-1", "gloo-2"), "group": ("faq", "news"),
    }  # fmt: skip
    three = dict(merge(all_four[:3]).commands)["silence"]
    assert three == "ingestion-monitor silences add --incident 1-3 --for 4h"


@pytest.mark.parametrize("group", ["a [1]", "b's *", "songs, old", " faq ", "@all", "ñ", "=x", "-x y", "a\nb"])
def test_a_name_that_a_shell_or_a_channel_could_change_is_silenced_by_number(group):
    given = [message(number, target=f"gloo-{number}", group=group) for number in (4, 8)]
    assert dict(merge(given).commands)["silence"] == "ingestion-monitor silences add --incident 4,8 --for 4h"


def test_sixty_targets_with_long_names_are_silenced_by_their_numbers():
    given = [message(3 * number, target=f"{'long-' * 18}{number}") for number in range(1, 61)]
    command = dict(merge(given).commands)["silence"]
    assert parse_numbers(command.split()[4], at_most=100) == [3 * number for number in range(1, 61)]
    assert len(command) < 1500


def test_a_command_that_was_cut_has_no_duration():
    for merged_ones in (parts(60), [message(number, target="gloo", group=f"a {number}") for number in (1, 2)]):
        assert dict(merge(merged_ones).commands)["silence"].endswith(" --for 4h")


@given(st.sets(st.integers(1, 10**9), min_size=1, max_size=60) | st.sets(st.integers(1, 50), min_size=1))
def test_numbers_are_read_as_they_are_written(numbers):
    assert parse_numbers(format_numbers(numbers), at_most=60) == sorted(numbers)


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "5-3", "7,", "a", "1-1000000", "7 8", "\N{FULLWIDTH DIGIT ONE}", "9" * 30]
)
def test_other_numbers_are_refused(text):
    with pytest.raises(ValueError, match="range"):
        parse_numbers(text, at_most=100)


def look(number, cause, items, **fields):
    return message(number, cause=cause, items=items, first_look=True, target="gloo", commands=(), **fields)


FOUND = (
    look(1, Cause.ITEMS_FAILED, 57), look(2, Cause.ITEMS_MISSING, 10, group="a"),
    look(3, Cause.ITEMS_MISSING, 2, group="b"), look(4, Cause.ITEMS_STUCK, 43),
)  # fmt: skip


def test_a_first_look_is_one_message_with_the_numbers_of_each_cause():
    merged = merge(FOUND)
    assert merged.title == "gloo: first look: 57 failed, 12 missing, 43 stuck"
    assert dict(merged.facts)["incidents"] == "1, 2, 3, 4"
    assert dict(merged.facts)["affected"] == "items_failed, items_missing (a), items_missing (b), items_stuck"
    assert merged.commands[-1][1] == "ingestion-monitor silences add --incident 1-4 --for 4h"


def test_every_incident_has_a_word_in_a_first_look():
    for cause in ITEM_CAUSES:
        assert describe_first_look({cause: 3}).startswith("first look: 3 ")


def test_a_merged_message_has_the_highest_severity_and_the_outer_times():
    early, late = parts(2)
    early = replace(early, severity=Severity.WARNING, opened_at=NOW - timedelta(hours=1), what_to_check=("a",))
    late = replace(late, severity=Severity.CRITICAL, at=NOW + timedelta(hours=1), what_to_check=("a", "b"))
    merged = merge([early, late])
    assert (merged.severity, merged.opened_at, merged.at) == (Severity.CRITICAL, early.opened_at, late.at)
    assert merged.what_to_check == ("a", "b")


def test_merged_resolutions_have_no_commands():
    over = [replace(each, kind=MessageKind.RESOLVED, resolved_at=NOW, what_to_check=()) for each in parts(2)]
    merged = merge(over)
    assert (merged.title, merged.commands) == ("2 targets: the API rejects the credentials: resolved", ())
    assert merged.resolved_at == NOW


def test_acknowledged_incidents_have_no_acknowledge_command_when_merged():
    assert [label for label, _ in merge([replace(each, commands=()) for each in parts(2)]).commands] == ["silence"]


def test_groups_of_one_target_are_counted_as_groups():
    groups = [
        replace(each, target="gloo", group=f"g{at}", cause=Cause.ITEMS_FAILED, facts=())
        for at, each in enumerate(parts(2))
    ]
    merged = merge(groups)
    assert merged.title == "gloo (2 groups): documents failed to ingest"
    assert merged.group == "g0, g1"
    assert merged.facts[0] == ("affected", "gloo (g0), gloo (g1)")
    assert len(merged.facts) == 3, "no line without a word"


def test_channels_are_not_counted_as_targets():
    channels = [replace(each, target=channel_target(f"c{at}")) for at, each in enumerate(parts(2))]
    assert merge(channels).title == "2 parts: the API rejects the credentials"


def test_names_beyond_the_limit_are_counted():
    assert join_names(["a", "b"], limit=2) == "a, b"
    assert join_names(["a", "b", "c"], limit=1) == "a and 2 more"


def test_merging_keeps_comments_and_undelivered_history():
    unheard = ("not delivered until now", "opened 11:00, resolved 12:00 UTC")
    over = [
        replace(each, kind=MessageKind.RESOLVED, opened_at=NOW - timedelta(hours=1), resolved_at=NOW, facts=(unheard,))
        for each in parts(2)
    ]
    assert merge(over).title == "2 targets: the API rejects the credentials: opened 11:00, resolved 12:00"
    long_ago = [replace(each, opened_at=NOW - timedelta(days=1)) for each in over]
    assert merge(long_ago).title.endswith(": opened 2026-02-28 12:00, resolved 2026-03-01 12:00")
    said = (("resolved by", "ana"), ("comment", "false alarm"))
    by_hand = [replace(each, kind=MessageKind.RESOLVED, resolved_at=None, facts=said) for each in parts(2)]
    assert dict(merge(by_hand).facts)["gloo-1"] == "resolved by ana; comment false alarm"
