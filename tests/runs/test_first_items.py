"""Which items come before the others are shared."""

from support.samples import NOW

from monitor.model.items import TrackedItem
from monitor.runs.check import MAX_FIRST_MEMBERS, FirstItems


def batch(*names, member=False):
    return [TrackedItem(item_id=name, first_seen_at=NOW, in_incident=member) for name in names]


def numbered(count, prefix="i", **fields):
    return batch(*(f"{prefix}{n:04}" for n in range(count)), **fields)


def divided(*batches, count=5):
    """Ids of the first items, and of the others."""
    first = FirstItems(iter(batches), count=count)
    return tuple(
        [item.item_id for part in parts for item in part] for parts in (list(first.begin()), list(first.rest()))
    )


def test_the_first_are_spread_over_a_batch_and_the_rest_follows():
    first, rest = divided(numbered(100), batch("x"))
    assert first == ["i0000", "i0020", "i0040", "i0060", "i0080"]
    assert len(rest) == 96
    assert rest[-1] == "x"


def test_rechecks_that_come_first_count():
    first, rest = divided(batch("a", "b"), numbered(9))
    assert first == ["a", "b", "i0000", "i0003", "i0006"]
    assert len(rest) == 6


def test_all_members_of_incidents_of_a_batch_come_with_them():
    first, rest = divided(batch("a", "b"), numbered(30, "m", member=True), numbered(9))
    assert len(first) == 2 + 30 + 3
    assert len(rest) == 6


def test_a_batch_of_too_many_members_is_like_any_other():
    first, rest = divided(numbered(MAX_FIRST_MEMBERS + 1, "m", member=True), count=5)
    assert (len(first), len(rest)) == (5, MAX_FIRST_MEMBERS - 4)


def test_of_few_items_all_come_first():
    assert divided(batch("a"), batch("b", "c")) == (["a", "b", "c"], [])
    assert divided() == ([], [])
    assert divided(batch(*"abcde"), batch("f")) == (list("abcde"), ["f"])
