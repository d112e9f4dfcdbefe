"""The silence that a merged message suggests, run as a command: it matches exactly the merged incidents."""

import json
import shlex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.samples import NOW, incident, message

from monitor.database.engine import reading, writing
from monitor.database.tables import incidents, silences
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.silences import matching_silence
from monitor.model import OBSERVED_CAUSES, Cause
from monitor.notifications.batching import merge
from monitor.notifications.texts import channel_target

TARGETS = ("gloo", "gloo-eu", "gloo-us", "a.b_c", "x" * 100)
GROUPS = ("faq", "f*q", "a [1]", 'b\'s "*"', "songs, old", " spaced ", "@all", "ñ\tö", "=x", "--for", "?", "g" * 200)
CAUSES = (Cause.ITEMS_FAILED, Cause.ITEMS_MISSING, Cause.SLO_BURN)
ALL = [(cause, target, group) for cause in CAUSES for target in TARGETS for group in GROUPS]


def opened(engine, keys):
    """Stores an incident for each; returns those with their ids."""
    found = [
        incident(cause=cause, target=target, group=group, opened_at=NOW, groups=(), member_count=0, evidence=None)
        for cause, target, group in keys
    ]
    with writing(engine) as conn:
        conn.execute(silences.delete())
        conn.execute(incidents.delete())
        ids = [incident_store.open_incident(conn, each, evidence_id=None) for each in found]
    return dict(zip(ids, keys, strict=True))


def silenced(here, world, merged):
    """Runs the suggested command; which incidents are silenced then."""
    command = shlex.split(dict(merged.commands)["silence"])
    done = here(world, *command[1:], "--json")
    assert (done.returncode, done.stderr) == (0, "")
    added = json.loads(done.stdout)
    assert added.get("silences") or added["matchers"]
    with reading(world.app.engine) as conn:
        in_force = silence_store.list_silences(conn)
        stored = incident_store.list_incidents(conn, limit=1000)
    return {each.id for each in stored if matching_silence(each, in_force) is not None}


def parts(by_id, ids):
    return [
        message(number, cause=by_id[number][0], target=by_id[number][1], group=by_id[number][2])
        for number in sorted(ids)
    ]


@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_suggested_silence_matches_these_incidents_and_no_others(here, small_world, data):
    """Of one cause, as messages are merged, or of one target, as a first look is."""
    by_id = opened(small_world.app.engine, ALL)
    first = data.draw(st.sampled_from(sorted(by_id)))
    alike = data.draw(st.sampled_from((0, 1)))
    choices = sorted(each for each, key in by_id.items() if key[alike] == by_id[first][alike])
    chosen = data.draw(st.sets(st.sampled_from(choices), min_size=2, max_size=10))
    assert silenced(here, small_world, merge(parts(by_id, chosen))) == chosen


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        ([f"target-{number}" for number in range(60)], Cause.UNAUTHORIZED),
        ([f"{'long-' * 18}{number}" for number in range(60)], Cause.OUTAGE),
        *((["gloo", "gloo-eu"], cause) for cause in OBSERVED_CAUSES),
        ([channel_target("oncall"), channel_target("audit")], Cause.CHANNEL_FAILING),
    ],
    ids=lambda value: f"{len(value)} targets" if isinstance(value, list) else value.value,
)
def test_one_cause_on_many_targets_is_silenced_for_these_targets_alone(here, small_world, names, cause):
    others = [(cause, "other", ""), (Cause.SPENDING_LIMIT, names[0], "")]
    by_id = opened(small_world.app.engine, [*((cause, name, "") for name in names), *others])
    chosen = {number for number, key in by_id.items() if key not in others}
    assert silenced(here, small_world, merge(parts(by_id, chosen))) == chosen


def test_half_a_command_silences_nothing(here, small_world):
    by_id = opened(small_world.app.engine, [(Cause.OUTAGE, f"target-{number}", "") for number in range(12)])
    whole = dict(merge(parts(by_id, by_id)).commands)["silence"]
    for length in (len(whole) - 1, len(whole) - 3, len(whole) - 9, len(whole) // 2):
        done = here(small_world, *shlex.split(whole[:length])[1:])
        assert done.returncode == 2
    with reading(small_world.app.engine) as conn:
        assert silence_store.list_silences(conn) == []


@pytest.mark.parametrize("numbers", ["", "x", "9-7", "1-5000", "7,,8"])
def test_numbers_that_are_none_are_refused(here, small_world, numbers):
    done = here(small_world, "silences", "add", "--incident", numbers, "--for", "1h")
    assert (done.returncode, done.stdout) == (2, "")
    assert "write 7, or 7,9,12-15" in done.stderr
