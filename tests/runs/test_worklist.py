import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from support.fakes import FakeItemClient, FakeProvider, ok
from support.syncing import sync_worklist

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.tables import item_events, items
from monitor.model import Cause, ItemState, Outcome, Reason, SyncLogEntry
from monitor.model.http import ApiError
from monitor.model.items import transition
from monitor.runs import outcomes as outcome_store
from monitor.runs import worklist
from monitor.runs.first_items import CompletedItem, choose_first_items
from monitor.runs.item_check import ItemCheck
from monitor.runs.progress import NoProgress

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TARGET = "gloo"


@pytest.fixture
def listed(engine):
    """Adds ids to the work list."""
    with writing(engine) as conn:
        epoch = leases.acquire(conn, target=TARGET, holder="h:1", now=NOW, ttl=MINUTE)

    def put(*ids, target=TARGET):
        batch = [SyncLogEntry(item_id=item_id, submitted_at=NOW - 60 * MINUTE) for item_id in ids]
        sync_worklist(engine, target=target, epoch=epoch, run_id=1, batches=[batch], now=NOW)

    return put


def ids(batches):
    return [[item.item_id for item in batch] for batch in batches]


def due(engine, run_id=2, *, recheck=0, target=TARGET, **more):
    """The ids that a run asks about, in their batches."""
    with reading(engine) as conn:
        again = longest_unasked(conn, run_id, recheck, target=target)
    return ids(worklist.iter_due_items(engine, target=target, run_id=run_id, recheck=again, **more))


def outcomes(engine, run_id, states, at=NOW, target=TARGET, **more):
    with reading(engine) as conn:
        rows = conn.execute(select(*worklist._TRACKED).where(items.c.target == target)).all()
    known = {row.item_id: worklist._tracked(row) for row in rows}
    changes = [
        transition(known[item_id], Outcome(item_id=item_id, state=state, at=at, answered=True, **more))
        for item_id, state in states.items()
    ]
    with writing(engine) as conn:
        outcome_store.record(conn, target=target, run_id=run_id, changes=changes)


def longest_unasked(conn, run_id, limit, target=TARGET):
    again = worklist.longest_unasked(conn, target=target, run_id=run_id, limit=limit)
    return tuple(each.item_id for each in again)


def test_unverified_items_come_last_whatever_was_known_of_them(engine, listed):
    listed("done", "fresh", "poison-done", "poison-new")
    outcomes(engine, 1, {"done": ItemState.COMPLETED, "poison-done": ItemState.COMPLETED})
    with writing(engine) as conn:
        conn.execute(update(items).where(items.c.item_id.like("poison%")).values(unverified_runs=2, state="unknown"))
    with reading(engine) as conn:
        assert worklist.count_work(conn, target=TARGET).due == 3
        assert longest_unasked(conn, 2, 9) == ("done",)
        candidates = worklist.probe_candidates(conn, target=TARGET, run_id=2, item_ids=("done",))
    assert {item_id for item_id, _ in candidates}.isdisjoint({"poison-done", "poison-new"})
    first = due(engine, recheck=10)
    assert [item_id for batch in first for item_id in batch] == ["fresh", "done"]
    last = [each for batch in worklist.iter_unverified(engine, target=TARGET, run_id=2, batch=1) for each in batch]
    assert [(each.item_id, each.unverified_runs) for each in last] == [("poison-done", 2), ("poison-new", 2)]


def test_a_run_counts_for_the_items_that_its_causes_left_unknown(engine, listed):
    listed("a", "b", "c")
    outcomes(engine, 4, {"a": ItemState.UNKNOWN}, reason=Cause.OUTAGE)
    outcomes(engine, 4, {"b": ItemState.UNKNOWN}, reason=Cause.FORBIDDEN)
    outcomes(engine, 3, {"c": ItemState.UNKNOWN}, reason=Cause.OUTAGE)
    with writing(engine) as conn:
        for _ in range(2):
            worklist.count_unverified_run(conn, target=TARGET, run_id=4, causes={Cause.OUTAGE})
        worklist.count_unverified_run(conn, target=TARGET, run_id=4, causes=set())
    assert [row(engine, each).unverified_runs for each in "abc"] == [2, 0, 0]
    outcomes(engine, 5, {"a": ItemState.UNKNOWN}, reason=Cause.OUTAGE)
    assert row(engine, "a").unverified_runs == 2
    outcomes(engine, 6, {"a": ItemState.NOT_FOUND}, error=ApiError(status=404))
    assert row(engine, "a").unverified_runs == 0


def row(engine, item_id):
    with reading(engine) as conn:
        return conn.execute(select(items).where(items.c.item_id == item_id)).one()


def events(engine):
    with reading(engine) as conn:
        query = select(item_events.c.item_id, item_events.c.kind, item_events.c.old, item_events.c.new)
        return [tuple(row) for row in conn.execute(query.order_by(item_events.c.id))]


@pytest.mark.parametrize("state", ["pending", "completed"])
async def test_runs_that_are_cut_short_ask_about_every_item_in_turn(engine, listed, state):
    """24 items, 8 answers per run: all of them in three runs, and once more in the next three."""
    every_id = [f"i{n:02}" for n in range(24)]
    listed(*every_id)
    asked = []
    for run_id in range(2, 8):
        interrupt, end = asyncio.Event(), len(asked) + 8

        async def answer(_, interrupt=interrupt, end=end):
            if len(asked) >= end:
                interrupt.set()
                await asyncio.sleep(0.001)  # no request begins after it was noticed

        with reading(engine) as conn:
            again = longest_unasked(conn, run_id, 200)
        client = FakeItemClient(default=ok(state), before=answer, asked=asked)
        await _cut_short(engine, run_id, again, client, interrupt)
    assert sorted(asked[:24]) == sorted(asked[24:]) == every_id


async def _cut_short(engine, run_id, recheck, client, interrupt):
    def record(changes):
        with writing(engine) as conn:
            outcome_store.record(conn, target=TARGET, run_id=run_id, changes=changes)

    check = ItemCheck(
        provider=FakeProvider(),
        client=client,
        record=record,
        concurrency=1,
        deadline_s=time.monotonic() + 60,
        interrupt=interrupt,
        progress=NoProgress(),
        utcnow=lambda: NOW,
        shuffle=random.shuffle,
    )
    await check.run(worklist.iter_due_items(engine, target=TARGET, run_id=run_id, recheck=recheck))


def test_all_new_items_are_due_by_id_in_batches(engine, listed):
    listed("d", "a", "c", "b", "e")
    assert due(engine, recheck=0, batch=2) == [["a", "b"], ["c", "d"], ["e"]]
    with reading(engine) as conn:
        assert worklist.count_work(conn, target=TARGET).due == 5


def test_a_run_may_have_any_number_that_fits_its_column(engine, listed):
    listed("a", "b", "c")
    far = 1 << 40
    outcomes(engine, far, {"a": ItemState.COMPLETED, "b": ItemState.FAILED})
    assert due(engine, far + 1, recheck=5, batch=1) == [["c"], ["b"], ["a"]]
    assert [
        row[0] for page in worklist.iter_unanswered(engine, target=TARGET, run_id=far + 1, batch=1) for row in page
    ] == ["c"]


def test_a_due_item_has_its_last_known_values(engine, listed):
    listed("a")
    outcomes(engine, 1, {"a": ItemState.NOT_FOUND}, at=NOW, error=ApiError(status=404, code="gone", request_id="r1"))
    with writing(engine) as conn:
        conn.execute(update(items).values(incident_id=7))
    [[item]] = worklist.iter_due_items(engine, target=TARGET, run_id=2)
    assert (item.known_state, item.known_missing, item.since, item.checked_at) == (ItemState.NOT_FOUND, True, NOW, NOW)
    assert (item.submitted_at, item.first_seen_at, item.seen_at) == (NOW - 60 * MINUTE, NOW, None)
    stored = row(engine, "a")
    assert (stored.http_status, stored.code, stored.request_id, stored.asked_run_id) == (404, "gone", "r1", 1)


def test_removed_ignored_and_foreign_items_are_not_due(engine, listed):
    listed("kept", "gone", "ignored")
    with writing(engine) as conn:
        conn.execute(update(items).where(items.c.item_id == "gone").values(removed_at=NOW))
        conn.execute(update(items).where(items.c.item_id == "ignored").values(ignored_at=NOW))
        tallies = worklist.count_states(conn, target=TARGET, now=NOW, stuck_after=MINUTE)
    assert due(engine, recheck=9) == [["kept"]]
    assert due(engine, recheck=9, target="other") == []
    assert sum(tallies.counts.values()) == 1


def test_completed_items_that_were_not_asked_about_for_longest_are_rechecked_up_to_the_limit(engine, listed):
    listed(*"abcdef")
    for run_id, item_id in enumerate("cbaed", start=1):
        outcomes(engine, run_id, {item_id: ItemState.COMPLETED})
    assert due(engine, 9, recheck=3, batch=2) == [["f"], ["b", "c"], ["a"]]
    assert due(engine, 9, recheck=99, batch=3) == [["f"], ["a", "b", "c"], ["d", "e"]]
    assert due(engine, 3, recheck=99) == [["f"], ["b", "c"]]
    with reading(engine) as conn:
        assert worklist.count_work(conn, target=TARGET).due == 1


def test_rechecks_are_spread_over_the_items_that_one_run_asked_about(engine, listed):
    """And each has its turn before any has a second one."""
    many = [f"{n:02}" for n in range(20)]
    listed(*many, "older", "newer")
    outcomes(engine, 1, {"older": ItemState.COMPLETED})
    outcomes(engine, 2, dict.fromkeys(many, ItemState.COMPLETED))
    outcomes(engine, 3, {"newer": ItemState.COMPLETED})
    turns = []
    for run_id in range(4, 9):
        with reading(engine) as conn:
            again = longest_unasked(conn, run_id, 5)
        outcomes(engine, run_id, dict.fromkeys(again, ItemState.COMPLETED))
        turns += again
    assert turns[:5] == ["older", "00", "05", "10", "15"]
    assert (sorted(turns[1:21]), turns[21]) == (many, "newer")


def test_a_completed_item_whose_last_outcome_is_unknown_is_rechecked_first(engine, listed):
    listed("a", "b", "c", "d")
    outcomes(engine, 1, {"a": ItemState.COMPLETED, "b": ItemState.COMPLETED, "c": ItemState.COMPLETED})
    outcomes(engine, 2, {"c": ItemState.UNKNOWN, "d": ItemState.UNKNOWN}, reason=Cause.OUTAGE)
    with reading(engine) as conn:
        assert longest_unasked(conn, 3, 1) == ("c",)
        assert longest_unasked(conn, 3, 2) == ("c", "a")
        assert longest_unasked(conn, 3, 0) == ()


def test_storing_outcomes_while_due_items_are_read_repeats_no_item(engine, listed):
    listed(*"abcdef")
    outcomes(engine, 1, {"e": ItemState.COMPLETED, "f": ItemState.COMPLETED})
    asked = []
    for batch in worklist.iter_due_items(engine, target=TARGET, run_id=2, recheck=("e", "f"), batch=2):
        asked += [item.item_id for item in batch]
        states = {item.item_id: ItemState.COMPLETED for item in batch}
        outcomes(engine, 2, states, at=NOW + MINUTE)
    assert asked == list("abcdef")


def test_an_outcome_is_stored_with_an_event_only_when_something_changed(engine, listed):
    listed("a")
    outcomes(engine, 1, {"a": ItemState.PENDING}, stage="QUEUED")
    outcomes(engine, 2, {"a": ItemState.PENDING}, stage="QUEUED")
    outcomes(engine, 3, {"a": ItemState.PENDING}, stage="EMBEDDING")
    outcomes(engine, 4, {"a": ItemState.COMPLETED}, stage="DONE")
    assert events(engine) == [
        ("a", "state", None, "pending"), ("a", "stage", "QUEUED", "EMBEDDING"), ("a", "state", "pending", "completed"),
    ]  # fmt: skip


def test_recording_nothing_writes_nothing(engine):
    with writing(engine) as conn:
        outcome_store.record(conn, target=TARGET, run_id=1, changes=[])
    assert events(engine) == []


def test_any_text_of_the_api_fits_its_columns(engine, listed):
    listed("a")
    error = ApiError(status=404, code="c" * 999, request_id="\ud800\r\n")
    outcomes(engine, 1, {"a": ItemState.PENDING}, stage="NUL\x00" + "x" * 999, error=error)
    stored = row(engine, "a")
    assert (len(stored.stage), stored.stage[:8], len(stored.code), stored.request_id) == (
        200, r"NUL\x00x", 200, r"\ud800\r\n",
    )  # fmt: skip


def test_items_that_were_not_asked_about_become_unknown_and_keep_their_known_state(engine, listed):
    listed("asked", "late", "good", "again")
    outcomes(engine, 1, {"good": ItemState.COMPLETED, "again": ItemState.COMPLETED})
    outcomes(engine, 1, {"late": ItemState.FAILED}, stage="FAILED", error=ApiError(status=500, code="x"))
    outcomes(engine, 2, {"asked": ItemState.PENDING})
    before = events(engine)
    with writing(engine) as conn:
        left = worklist.mark_unasked_unknown(
            conn, target=TARGET, run_id=2, reason=Reason.DEADLINE, recheck_ids=["again", "asked", "none"]
        )
    assert left == 2
    late = row(engine, "late")
    assert (late.state, late.reason, late.known_state, late.stage) == ("unknown", "deadline", "failed", "FAILED")
    assert (late.http_status, late.code) == (None, None)
    assert [row(engine, i).state for i in ("asked", "good", "again")] == ["pending", "completed", "unknown"]
    assert events(engine) == before


def test_more_rechecks_than_fit_one_statement_become_unknown_too(engine, listed):
    many = [f"{n:04}" for n in range(1_203)]
    listed(*many)
    outcomes(engine, 1, dict.fromkeys(many, ItemState.COMPLETED))
    with writing(engine) as conn:
        left = worklist.mark_unasked_unknown(conn, target=TARGET, run_id=2, reason=Cause.OUTAGE, recheck_ids=many)
    assert left == 1_203


def test_counts_have_every_state_and_stuck_items(engine, listed):
    listed("old", "fresh", "done", "bad", "new")
    outcomes(engine, 1, {"old": ItemState.PENDING, "done": ItemState.COMPLETED, "bad": ItemState.FAILED})
    with writing(engine) as conn:
        conn.execute(update(items).where(items.c.item_id == "fresh").values(submitted_at=NOW))
    outcomes(engine, 1, {"fresh": ItemState.PENDING})
    with reading(engine) as conn:
        tallies = worklist.count_states(conn, target=TARGET, now=NOW, stuck_after=30 * MINUTE)
        late = worklist.count_states(conn, target=TARGET, now=NOW, stuck_after=60 * MINUTE)
        none = worklist.count_states(conn, target="other", now=NOW, stuck_after=MINUTE)
    assert {state.value: n for state, n in tallies.counts.items()} == {
        "completed": 1, "pending": 2, "failed": 1, "not_found": 0, "invalid": 0, "unknown": 1,
    }  # fmt: skip
    assert (tallies.stuck, late.stuck) == (1, 0)
    assert (sum(none.counts.values()), len(none.counts), none.stuck) == (0, 6, 0)


def test_tracked_and_rechecked_items_are_known_before_the_check(engine, listed):
    listed(*"abcd")
    for run_id, item_id in enumerate("cba", start=1):
        outcomes(engine, run_id, {item_id: ItemState.COMPLETED})
    with writing(engine) as conn:
        conn.execute(update(items).where(items.c.item_id == "a").values(ignored_at=NOW))
        assert worklist.count_work(conn, target=TARGET).tracked == 3
        assert longest_unasked(conn, 9, 9) == ("c", "b")
        assert longest_unasked(conn, 9, 1) == ("c",)
        assert longest_unasked(conn, 1, 9) == ()


def completed(engine, *item_ids):
    outcomes(engine, 1, dict.fromkeys(item_ids, ItemState.COMPLETED))


def leave_unknown(engine, *conditions):
    with writing(engine) as conn:
        conn.execute(update(items).where(*conditions).values(state="unknown"))


def test_the_first_items_are_healthy_and_evenly_spread(engine, listed):
    all_of_them = tuple(f"i{n:02}" for n in range(20))
    listed(*all_of_them)
    completed(engine, *all_of_them)

    def openers():
        with reading(engine) as conn:
            given = worklist.longest_unasked(conn, target=TARGET, run_id=2, limit=99)
        return choose_first_items(given, count=5)

    assert openers() == ("i00", "i04", "i08", "i12", "i16")
    leave_unknown(engine, items.c.item_id < "i15")
    assert openers() == ("i15", "i16", "i17", "i18", "i19")
    leave_unknown(engine)
    assert openers() == ("i00", "i04", "i08", "i12", "i16")
    assert choose_first_items([], count=5) == ()


def test_after_an_outage_an_item_that_the_last_run_asked_about_is_not_first():
    """An item that fails for ever could otherwise be the only one that a run under an open breaker asks about."""
    a, b, c = (
        CompletedItem(item_id=item_id, seen_completed=False, asked_run_id=run_id)
        for item_id, run_id in (("a", 5), ("b", 4), ("c", 4))
    )
    assert choose_first_items([a, b, c], count=5) == ("b", "c")
    assert choose_first_items([a], count=5) == ("a",)


@pytest.mark.parametrize("recover", [True, False], ids=["all recovered", "all but five fail for ever"])
def test_runs_that_get_only_a_few_answers_reach_every_item(recover):
    asked = {f"i{n:02}": 1 for n in range(20)}
    healthy, ever = {"i15", "i16", "i17", "i18", "i19"}, set()
    for run_id in range(2, 12):
        given = [
            CompletedItem(item_id=item_id, seen_completed=item_id in healthy, asked_run_id=asked[item_id])
            for item_id in sorted(asked, key=lambda each: (each in healthy, asked[each], each))
        ]
        chosen = choose_first_items(given, count=5)
        assert len(set(chosen)) == 5
        assert sum(item_id in healthy for item_id in chosen[:3]) == 3, "those that fail do not come first"
        asked |= dict.fromkeys(chosen, run_id)
        ever |= set(chosen)
        healthy |= set(chosen) if recover else set()
    assert ever == set(asked)


def test_unverified_members_are_no_members_to_ask_about_first(engine, listed):
    listed("a")
    outcomes(engine, 1, {"a": ItemState.FAILED})
    with writing(engine) as conn:
        conn.execute(update(items).values(incident_id=1))
        assert worklist.count_work(conn, target=TARGET).has_members
        conn.execute(update(items).values(unverified_runs=1))
        assert not worklist.count_work(conn, target=TARGET).has_members


def test_the_first_items_are_due_only_once(engine, listed):
    listed("a", "b", "c", "new")
    completed(engine, "a", "b", "c")
    assert due(engine, recheck=3, first=("b",)) == [["b"], ["new"], ["a", "c"]]


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_rechecks_alone_are_the_same_items_in_the_same_order(engine, listed, batch):
    listed(*"abcdef")
    completed(engine, *"abcdef")
    for first, recheck in ((("b", "d"), "abcdef"), ((), "abc"), (("b",), "")):
        options = {"target": TARGET, "run_id": 2, "recheck": recheck, "first": first, "batch": batch}
        alone = ids(worklist.iter_due_items(engine, **options, only_rechecks=True))
        found = [item_id for page in alone for item_id in page]
        assert found[: len(first)] == list(first)
        assert sorted(found) == sorted({*first, *recheck})


def test_unfinished_items_come_first_if_unasked_for_longest(engine, listed):
    listed("a", "b", "c")
    outcomes(engine, 5, {"a": ItemState.PENDING})
    outcomes(engine, 4, {"b": ItemState.PENDING})
    assert due(engine, 6, recheck=0, batch=1) == [["c"], ["b"], ["a"]]


def test_a_completed_item_with_an_unknown_outcome_is_not_unfinished(engine, listed):
    listed("a", "b")
    completed(engine, "a", "b")
    leave_unknown(engine)
    with reading(engine) as conn:
        assert worklist.count_work(conn, target=TARGET).due == 0
    assert due(engine, recheck=1) == [["a"]]


def test_members_of_open_incidents_come_first_up_to_a_bound_and_each_only_once(engine, listed):
    listed("a", "b", "c", "d", "e")
    outcomes(engine, 1, dict.fromkeys("ce", ItemState.FAILED))
    with writing(engine) as conn:
        conn.execute(update(items).where(items.c.item_id.in_(["c", "e"])).values(incident_id=7))

    assert due(engine, members=9) == [["c", "e"], ["a", "b", "d"]]
    assert due(engine, members=1) == [["c"], ["a", "b", "d", "e"]]
    assert due(engine, members=0) == [["a", "b", "d", "c", "e"]]


def test_unknown_items_are_counted_by_what_was_last_known_of_them(engine, listed):
    listed("a", "b", "c", "new")
    outcomes(engine, 1, {"a": ItemState.FAILED, "b": ItemState.FAILED, "c": ItemState.COMPLETED})
    with writing(engine) as conn:
        conn.execute(update(items).where(items.c.item_id != "b").values(state="unknown"))
    with reading(engine) as conn:
        counts = worklist.count_last_known(conn, target=TARGET)
        assert counts == {"completed": 1, "failed": 1, None: 1}
        assert worklist.count_last_known(conn, target="another") == {}


def test_due_items_have_the_path_parameters_of_their_row(engine):
    with writing(engine) as conn:
        epoch = leases.acquire(conn, target=TARGET, holder="h:1", now=NOW, ttl=MINUTE)
    rows = [SyncLogEntry(item_id="a", params={"store": "s/1", "space": "é"}), SyncLogEntry(item_id="b")]
    sync_worklist(engine, target=TARGET, epoch=epoch, run_id=1, batches=[rows], now=NOW)

    due = worklist.iter_due_items(engine, target=TARGET, run_id=2)

    assert [(item.item_id, dict(item.params)) for batch in due for item in batch] == [
        ("a", {"store": "s/1", "space": "é"}), ("b", {}),
    ]  # fmt: skip
