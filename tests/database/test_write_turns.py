"""Turns of the writers of one process on SQLite."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from monitor.database import leases
from monitor.database.engine import connect, writing
from monitor.database.write_turns import WriteTurns
from monitor.errors import StoreUnavailableError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TTL = timedelta(seconds=30)


def queued(turns, order, *, name, urgent=False):
    """A thread that waits for a turn, and notes when it had it."""

    def write():
        turn = turns.take(urgent=urgent, timeout_s=60)
        order.append(name)
        turn.release()
        turn.release()

    before = len(turns._waiting)
    thread = threading.Thread(target=write)
    thread.start()
    while len(turns._waiting) == before:
        pass
    return thread


def test_writers_come_in_their_order_and_renewals_of_leases_first():
    turns, order = WriteTurns(), []
    turn = turns.take(urgent=False, timeout_s=1)
    threads = [queued(turns, order, name=name) for name in "abc"]
    threads.append(queued(turns, order, name="renewal", urgent=True))
    turn.release()
    for thread in threads:
        thread.join()
    assert order == ["renewal", "a", "b", "c"]
    assert turns.take(urgent=False, timeout_s=0) is not None


def test_who_waited_too_long_leaves_it_to_sqlite():
    turns = WriteTurns()
    turn = turns.take(urgent=False, timeout_s=1)
    assert turns.take(urgent=True, timeout_s=0.001) is None
    turn.release()
    turns.take(urgent=False, timeout_s=0).release()


def test_a_failed_transaction_ends_its_turn(small_world):
    """Also one that could not begin, since another process holds the lock."""
    ours, other = (connect(small_world.database, busy_timeout_s=0.01) for _ in range(2))
    with pytest.raises(ValueError, match="defect"), writing(ours):
        raise ValueError("defect")
    with writing(other), pytest.raises(StoreUnavailableError), writing(ours):
        pass
    with writing(ours, urgent=True) as conn:
        assert leases.acquire(conn, target="t", holder="h:1", now=NOW, ttl=TTL) == 1
    ours.dispose()
    other.dispose()
