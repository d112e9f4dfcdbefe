"""Which slots make up a period: the sums of every choice are those of the single uploads."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from monitor.rollups.bounds import KEPT, SLOTS, kept_since_s, start_s
from monitor.rollups.cover import WHOLE, WIDTHS_S, Kept, Slots, aligned, cover, parts_of_spans

NOW = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def kept(*widths):
    """What is kept now, but no slots of these widths."""
    return Kept(tuple(None if n in widths else kept_since_s(NOW, n) for n in range(len(KEPT))))


def sums(uploads_s, kept):
    """The slots that are stored, with their uploads."""
    found = Counter()
    for number, width_s in enumerate(WIDTHS_S):
        since_s = 0 if width_s == WIDTHS_S[-1] else kept.since_s[number]
        for at_s in uploads_s if since_s is not None else ():
            if at_s >= since_s:
                found[width_s, start_s(at_s, width_s)] += 1
    return found


def read(stored, slots):
    assert (slots.end_s - slots.start_s) % slots.width_s == 0
    return sum(stored[slots.width_s, at_s] for at_s in range(slots.start_s, slots.end_s, slots.width_s))


AGES_S = st.lists(st.integers(0, 200 * DAY), max_size=40)
EDGES_S = st.lists(st.integers(0, 150 * DAY), min_size=2, max_size=8, unique=True)


@given(AGES_S, EDGES_S, st.sampled_from([(), (0,), (0, 1), (0, 1, 2)]))
def test_the_parts_of_spans_add_up_to_their_uploads(ages_s, edges_s, missing):
    slots = kept(*missing)
    stored = sums([NOW_S - age_s for age_s in ages_s], slots)
    edges = [aligned(NOW - timedelta(seconds=age_s), slots) for age_s in sorted(edges_s, reverse=True)]
    found = Counter()
    for part in parts_of_spans(edges, slots):
        for span, sign in part.signs:
            found[span] += sign * read(stored, part.slots)
    wanted = {
        span: sum(start <= NOW_S - age_s < end for age_s in ages_s)
        for span, (start, end) in enumerate([*pairwise(edges), (edges[0], edges[-1])])
    }
    wanted[WHOLE] = wanted.pop(len(edges) - 1)
    assert {span: found[span] for span in wanted} == wanted


def test_a_long_period_is_read_in_wide_slots():
    end_s = start_s(NOW_S, 5 * MINUTE)
    since_s = start_s(NOW_S - 3 * DAY, HOUR)
    assert [each.width_s for each in cover(since_s, end_s, kept())] == [HOUR, DAY, HOUR, 5 * MINUTE]
    year_s = sum((each.end_s - each.start_s) // each.width_s for each in cover(start_s(0, 7 * DAY), end_s, kept()))
    assert year_s < 52 * 57 + 60


def test_spans_of_hours_need_few_slots_of_minutes():
    """Both sides of an edge would need twelve of them."""
    edges = [aligned(NOW - n * timedelta(hours=6), kept()) for n in range(12, -1, -1)]
    parts = parts_of_spans(edges, kept())
    minutes = sum((part.slots.end_s - part.slots.start_s) // WIDTHS_S[0] for part in parts if part.slots.width_s == 300)
    assert minutes <= 6 * len(edges)
    assert parts_of_spans(edges[:1] * 2, kept()) == []


def test_times_are_rounded_to_the_narrowest_slot_that_is_kept():
    old, recent = NOW - timedelta(days=50), NOW - timedelta(minutes=1)
    day = start_s(int(old.timestamp()), DAY)
    assert (aligned(old, kept(), up=False), aligned(old, kept())) == (day, day + DAY)
    assert aligned(datetime.fromtimestamp(day, UTC), kept()) == day
    assert aligned(recent, kept()) - int(recent.timestamp()) <= 5 * MINUTE
    assert aligned(recent, kept(0, 1, 2), up=False) == start_s(NOW_S, 7 * DAY)


def test_what_is_kept_begins_with_the_wider_slot_of_the_oldest_one():
    oldest = [NOW - timedelta(hours=1), NOW - timedelta(days=9), None]
    found = Kept.of(oldest)
    assert found.since_s == (start_s(NOW_S - HOUR, HOUR), start_s(NOW_S - 9 * DAY, DAY), None)
    assert [found.narrowest(NOW_S - age_s) for age_s in (0, 2 * HOUR, 30 * DAY)] == [0, 1, len(SLOTS) - 1]
    assert list(cover(0, 0, found)) == []
    assert next(iter(cover(start_s(NOW_S, HOUR), start_s(NOW_S, HOUR) + 300, found))) == Slots(
        300, start_s(NOW_S, HOUR), start_s(NOW_S, HOUR) + 300
    )
