import shlex
from dataclasses import replace
from datetime import timedelta

from support.samples import NOW, message

from monitor.incidents.silences import parse_matchers
from monitor.model import ITEM_CAUSES, Cause, Severity
from monitor.notifications.batching import join_names, merge
from monitor.notifications.messages import MessageKind
from monitor.notifications.routing import matches
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
            "ingestion-monitor silences add --for 4h --match cause=unauthorized"
            + "".join(f" --match target=gloo-{number}" for number in (1, 2, 3)),
        ),
    )
    assert merged.parts == tuple(parts(3))


def test_many_targets_are_partly_named_and_counted():
    merged = merge(parts(200))
    facts = dict(merged.facts)
    assert facts["affected"].endswith("gloo-20 and 180 more")
    assert len(merged.facts) == 3 + 10
    assert merged.commands == (), "no line can hold two hundred numbers, and half a silence is another one"


def test_a_suggested_silence_matches_these_targets_and_groups_and_no_others():
    given = [replace(part, group=group) for part, group in zip(parts(2), ("a [1]", "b's *"), strict=True)]
    (_, command) = merge(given).commands[-1]
    options = shlex.split(command)
    matchers = parse_matchers([options[at + 1] for at, each in enumerate(options) if each == "--match"])
    for part in given:
        assert matches(matchers, {"cause": "unauthorized", "target": part.target, "group": part.group})
    for other in ({"target": "gloo-3"}, {"group": "a 1"}, {"group": "b's other"}, {"cause": "outage"}):
        assert not matches(matchers, {"cause": "unauthorized", "target": "gloo-1", "group": "a [1]", **other})


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
    assert merged.commands[-1][1].count("cause=") == 3


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
