from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW, message

from monitor.model import Cause
from monitor.notifications.batching import Pending, batch_key, make_batches
from monitor.notifications.messages import MessageKind

KINDS = [kind for kind in MessageKind if kind is not MessageKind.TEST]


@st.composite
def queues(draw):
    """Undelivered notifications of some incidents on two channels; some were sent together before."""
    made, number = [], 0
    for incident_id in range(draw(st.integers(1, 8))):
        cause = draw(st.sampled_from([Cause.OUTAGE, Cause.UNAUTHORIZED]))
        channel = draw(st.sampled_from(["plain", "filed"]))
        thread = draw(st.sampled_from([None, "t1", "t2"]))
        queue = []
        for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)):
            number += 1
            queued = message(incident_id, kind=kind, cause=cause, subject="s", at=NOW + timedelta(minutes=number))
            batch = draw(st.sampled_from([None, None, f"k{number}", "elsewhere"]))
            queue.append(
                Pending(id=number, key=f"k{number}", channel=channel, message=queued, thread=thread, batch=batch)
            )
        made.append(queue)
    return made


def batches_of(made):
    return make_batches(made, threaded={"filed"})


@given(queues())
def test_each_queue_is_in_exactly_one_batch_of_its_channel(made):
    batches = batches_of(made)
    owner = {each.id: (at, each.channel) for at, queue in enumerate(made) for each in queue}
    entries = [(owner[entry.id][0], batch.channel) for batch in batches for entry in batch.entries]
    assert sorted(entries) == [(at, queue[0].channel) for at, queue in enumerate(made)]
    handled = Counter(each for batch in batches for entry in batch.entries for each in (entry.id, *entry.superseded))
    assert max(handled.values()) == 1


@given(queues())
def test_a_batch_has_one_cause_kind_and_environment(made):
    for batch in batches_of(made):
        messages = [entry.message for entry in batch.entries]
        assert len({(each.cause, each.kind, each.environment) for each in messages}) == 1
        if batch.channel == "filed":
            assert len({entry.thread for entry in batch.entries}) == 1
        assert [entry.id for entry in batch.entries] == sorted(entry.id for entry in batch.entries)


@given(queues())
def test_keys_are_unique_and_do_not_depend_on_the_order(made):
    batches = batches_of(made)
    assert len({batch.key for batch in batches}) == len(batches)
    assert {batch.key for batch in batches_of(list(reversed(made)))} == {batch.key for batch in batches}


def resent(entry, previous, **fields):
    return Pending(
        id=entry.id, key=entry.key, channel=previous.channel, message=entry.message, thread=entry.thread, **fields
    )


@given(queues())
def test_a_batch_that_may_have_arrived_is_sent_again_unchanged(made):
    first = batches_of(made)
    sent = {entry.id: batch.key for batch in first for entry in batch.entries}
    by_id = {each.id: each for queue in made for each in queue}
    left = [[resent(entry, batch, batch=sent[entry.id])] for batch in first for entry in batch.entries]
    new = Pending(id=999, key="k999", channel="plain", message=by_id[made[0][0].id].message)
    assert {batch.key for batch in batches_of([*left, [new]])} == {batch.key for batch in first} | {"k999"}


def test_a_batch_has_at_most_500_notifications():
    many = [
        [Pending(id=at, key=f"k{at}", channel="plain", message=message(at, target=f"t{at}"))] for at in range(1, 1203)
    ]
    assert [len(batch.entries) for batch in batches_of(many)] == [500, 500, 202]


def test_a_single_notification_keeps_its_key():
    assert batch_key(["k1"]) == "k1"
    assert batch_key(["k1", "k2"]) == batch_key(["k2", "k1"]) != batch_key(["k1", "k3"])


def test_a_batch_whose_members_changed_is_made_anew():
    sent = batch_key(["k1", "k2"])
    left, new = (
        Pending(id=at, key=f"k{at}", channel="plain", message=message(at, target=f"t{at}"), batch=batch)
        for at, batch in ((1, sent), (3, None))
    )
    (batch,) = batches_of([[left], [new]])
    assert [entry.id for entry in batch.entries] == [1, 3]
    assert batch.key == batch_key(["k1", "k3"])
