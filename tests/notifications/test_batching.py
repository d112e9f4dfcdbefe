from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW, message

from monitor.model import Cause
from monitor.notifications.batching import Waiting, key_of, pack
from monitor.notifications.messages import MessageKind

KINDS = [kind for kind in MessageKind if kind is not MessageKind.TEST]


@st.composite
def chains(draw):
    """Undelivered notifications of some incidents on two channels; some were sent together before."""
    made, number = [], 0
    for incident_id in range(draw(st.integers(1, 8))):
        cause = draw(st.sampled_from([Cause.OUTAGE, Cause.UNAUTHORIZED]))
        channel = draw(st.sampled_from(["plain", "filed"]))
        thread = draw(st.sampled_from([None, "t1", "t2"]))
        chain = []
        for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)):
            number += 1
            told = message(incident_id, kind=kind, cause=cause, subject="s", at=NOW + timedelta(minutes=number))
            batch = draw(st.sampled_from([None, None, f"k{number}", "elsewhere"]))
            chain.append(
                Waiting(id=number, key=f"k{number}", channel=channel, message=told, thread=thread, batch=batch)
            )
        made.append(chain)
    return made


def packed(made):
    return pack(made, threaded={"filed"})


@given(chains())
def test_each_chain_is_in_one_parcel_of_its_channel_and_none_is_lost(made):
    parcels = packed(made)
    owner = {each.id: (at, each.channel) for at, chain in enumerate(made) for each in chain}
    heads = [(owner[head.id][0], parcel.channel) for parcel in parcels for head in parcel.heads]
    assert sorted(heads) == [(at, chain[0].channel) for at, chain in enumerate(made)]
    handled = Counter(each for parcel in parcels for head in parcel.heads for each in (head.id, *head.superseded))
    assert max(handled.values()) == 1


@given(chains())
def test_what_goes_together_is_alike(made):
    for parcel in packed(made):
        messages = [head.message for head in parcel.heads]
        assert len({(each.cause, each.kind, each.environment) for each in messages}) == 1
        if parcel.channel == "filed":
            assert len({head.thread for head in parcel.heads}) == 1
        assert [head.id for head in parcel.heads] == sorted(head.id for head in parcel.heads)


@given(chains())
def test_keys_tell_parcels_apart_and_depend_on_nothing_but_what_is_in_them(made):
    parcels = packed(made)
    assert len({parcel.key for parcel in parcels}) == len(parcels)
    assert {parcel.key for parcel in packed(list(reversed(made)))} == {parcel.key for parcel in parcels}


def again(head, parcel, **fields):
    return Waiting(id=head.id, key=head.key, channel=parcel.channel, message=head.message, thread=head.thread, **fields)


@given(chains())
def test_what_may_have_arrived_goes_as_it_went_before_and_with_nothing_new(made):
    first = packed(made)
    sent = {head.id: parcel.key for parcel in first for head in parcel.heads}
    by_id = {each.id: each for chain in made for each in chain}
    left = [[again(head, parcel, batch=sent[head.id])] for parcel in first for head in parcel.heads]
    new = Waiting(id=999, key="k999", channel="plain", message=by_id[made[0][0].id].message)
    assert {parcel.key for parcel in packed([*left, [new]])} == {parcel.key for parcel in first} | {"k999"}


def test_no_parcel_is_larger_than_a_receiver_can_take():
    many = [
        [Waiting(id=at, key=f"k{at}", channel="plain", message=message(at, target=f"t{at}"))] for at in range(1, 1203)
    ]
    assert [len(parcel.heads) for parcel in packed(many)] == [500, 500, 202]


def test_a_single_one_keeps_its_own_key():
    assert key_of(["k1"]) == "k1"
    assert key_of(["k1", "k2"]) == key_of(["k2", "k1"]) != key_of(["k1", "k3"])
