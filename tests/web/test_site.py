"""Queries of the page: a few at a time, each within its time, whatever the database does."""

import asyncio
import threading
import time

import pytest
from sqlalchemy import text
from support.samples import NOW
from web.served import config

from monitor.database.engine import connect
from monitor.errors import StoreError
from monitor.web import site as site_module
from monitor.web.site import MAX_HUNG, MAX_QUERIES, Site, UnavailableError
from monitor.web.state import DaemonState, StateTracker


@pytest.fixture
def make(tmp_path, store_url, connected):
    made = []

    def site(*, with_engine=True):
        engine = connected(store_url, connect) if with_engine else None
        state = DaemonState(config=config(tmp_path, database=store_url), engine=engine)
        made.append(Site(StateTracker(state, utcnow=lambda: NOW)))
        return made[-1]

    yield site
    for each in made:
        each.close()


class Counted:
    """A query that takes a while; how many ran at the same time."""

    def __init__(self, lasts_s=0.02):
        self.lasts_s, self.most, self._now, self._lock = lasts_s, 0, 0, threading.Lock()

    def __call__(self, conn):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.lasts_s)
        with self._lock:
            self._now -= 1


async def test_a_page_reads_and_can_not_write(make):
    site = make()
    assert await site.read(lambda conn: conn.execute(text("SELECT count(*) FROM runs")).scalar()) == 0
    with pytest.raises(UnavailableError):
        await site.read(lambda conn: conn.execute(text("DELETE FROM runs")))
    await site.write(lambda conn: conn.execute(text("DELETE FROM runs")))


async def test_only_a_few_queries_run_at_a_time(make):
    site, query = make(), Counted()
    await asyncio.gather(*(site.read(query) for _ in range(12)))
    assert 1 <= query.most <= MAX_QUERIES


async def test_drawings_take_the_turns_of_queries(make):
    site, work = make(), Counted()
    drawn = (site.draw(lambda: work(None)) for _ in range(6))
    await asyncio.gather(*drawn, *(site.read(work) for _ in range(6)))
    assert 1 <= work.most <= MAX_QUERIES


async def test_a_drawing_that_takes_too_long_is_no_fault_of_the_database(make, monkeypatch):
    monkeypatch.setattr(site_module, "QUERY_TIMEOUT_S", 0.05)
    hung = threading.Event()
    with pytest.raises(UnavailableError, match="too many pages"):
        await make().draw(lambda: hung.wait(5))
    hung.set()


async def test_who_waits_too_long_for_a_turn_is_told_so(make, monkeypatch):
    site, ended = make(), threading.Event()
    others = [asyncio.create_task(site.read(lambda _: ended.wait(20))) for _ in range(MAX_QUERIES)]
    while len(site._running) < MAX_QUERIES:  # noqa: ASYNC110  # threads have no event of the loop
        await asyncio.sleep(0.01)
    monkeypatch.setattr(site_module, "QUERY_TIMEOUT_S", 0.05)
    with pytest.raises(UnavailableError, match="too many pages"):
        await site.read(lambda _: None)
    ended.set()
    assert await asyncio.gather(*others) == [True] * MAX_QUERIES


@pytest.mark.slow_twice
async def test_queries_that_hang_are_bounded_and_the_page_recovers(make, monkeypatch):
    monkeypatch.setattr(site_module, "QUERY_TIMEOUT_S", 0.05)
    site, ended, begun = make(), threading.Event(), []

    def hang(_):
        begun.append(1)
        ended.wait(20)

    try:
        for _ in range(MAX_HUNG + MAX_QUERIES + 3):
            with pytest.raises(UnavailableError, match="did not answer in time"):
                await site.read(hang)
        assert len(begun) == MAX_HUNG + MAX_QUERIES
    finally:
        ended.set()
    monkeypatch.setattr(site_module, "QUERY_TIMEOUT_S", 10.0)
    while site._running:  # noqa: ASYNC110  # threads have no event of the loop
        await asyncio.sleep(0.01)
    assert await site.read(lambda conn: conn.execute(text("SELECT 1")).scalar()) == 1


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000000000) SELECT count(*) FROM n"


@pytest.mark.process
@pytest.mark.smoke
async def test_a_query_that_nobody_waits_for_ends(make, monkeypatch):
    monkeypatch.setattr(site_module, "QUERY_TIMEOUT_S", 0.3)
    monkeypatch.setattr(site_module, "_GRACE_S", 0.1)
    site = make()
    with pytest.raises(UnavailableError, match="did not answer in time"):
        await site.read(lambda conn: conn.execute(text(ENDLESS)).scalar())
    ends_s = time.monotonic() + 60
    while site._running:
        assert time.monotonic() < ends_s, "the query never ended"
        await asyncio.sleep(0.02)


async def test_an_action_needs_an_open_database(make):
    with pytest.raises(UnavailableError, match="not open yet"):
        await make(with_engine=False).write(lambda conn: None)


async def test_a_database_that_is_gone_is_one_sentence(make):
    def broken(_):
        raise StoreError("database SQLite monitor.db can't be opened")

    with pytest.raises(UnavailableError, match="can't be opened"):
        await make().read(broken)


async def test_a_file_that_was_deleted_is_no_empty_database(tmp_path, database):
    """The advice to create the tables would lead to a second database, without a history."""
    state = DaemonState(config=config(tmp_path, database=database))
    site = Site(StateTracker(state, utcnow=lambda: NOW))
    await site.read(lambda conn: conn.execute(text("SELECT 1")))
    (tmp_path / "monitor.db").unlink()
    with pytest.raises(UnavailableError, match="can't be opened; check that its folder exists") as refused:
        await site.read(lambda conn: conn.execute(text("SELECT count(*) FROM runs")))
    assert "db upgrade" not in str(refused.value)
    site.close()
