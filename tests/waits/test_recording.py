"""A wait as it is stored: whatever ends it, its row has an end, and the database's troubles end no wait."""

import asyncio
import time
from datetime import timedelta

import pytest
from support.samples import NOW
from waits.test_wait import Api

from monitor.database.engine import reading, writing
from monitor.errors import StoreUnavailableError
from monitor.model.items import TrackedItem
from monitor.waits import recording, store
from monitor.waits.recording import WaitRecorder
from monitor.waits.rules import WaitResult, WatchedItem
from monitor.waits.wait import Limits, Wait, WaitSpec


def recorder(engine):
    return WaitRecorder(
        engine=engine, target="gloo", environment="test", holder="host:1", utcnow=lambda: NOW, lease_now=lambda _: NOW
    )


def new_wait(api, *, timeout_s=5.0, interrupt=None):
    started_s = time.monotonic()
    return Wait(
        WaitSpec(
            target="gloo",
            items=[WatchedItem(item=TrackedItem(item_id="a", first_seen_at=NOW))],
            started_s=started_s,
            deadline_s=started_s + timeout_s,
            missing_after=timedelta(minutes=15),
            valid_id=bool,
        ),
        api,
        Limits(workers=1, rate_per_s=lambda: None, breaker_is_open=lambda: False, resume=lambda: None),
        interrupt=interrupt or asyncio.Event(),
        utcnow=lambda: NOW,
    )


def results(engine):
    with reading(engine) as conn:
        return [each.result for each in store.newest(conn, target="gloo", limit=9)]


def test_a_wait_leaves_its_row(engine):
    report = asyncio.run(recorder(engine).run(new_wait(Api(latency_s=0))))
    assert (report.result, report.not_stored) == (WaitResult.COMPLETED, None)
    with reading(engine) as conn:
        assert [each.id for each in store.newest(conn, target="gloo", limit=9)] == [report.wait_id]


def test_a_defect_leaves_a_crashed_row(engine):
    def defect():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(recorder(engine).run(new_wait(Api(says={"a": defect}, latency_s=0))))
    assert results(engine) == [WaitResult.CRASHED]


def test_a_caller_that_gives_up_leaves_an_interrupted_row(engine):
    async def give_up():
        async with asyncio.timeout(0.2):
            await recorder(engine).run(new_wait(Api(latency_s=60)))

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert results(engine) == [WaitResult.INTERRUPTED]


def test_the_next_wait_closes_what_a_killed_one_left(engine):
    with writing(engine) as conn:
        earlier = NOW - timedelta(minutes=5)
        common = {"target": "gloo", "environment": "test", "holder": "host:2", "asked": 1}
        store.begin(conn, **common, timeout=timedelta(minutes=1), started_at=earlier, now=earlier)
    asyncio.run(recorder(engine).run(new_wait(Api(latency_s=0))))
    assert results(engine) == [WaitResult.COMPLETED, WaitResult.KILLED]


def test_a_row_is_renewed_and_an_end_that_cannot_be_stored_is_said(engine, monkeypatch):
    renewed = []

    def renew(conn, *, wait_id, now):
        renewed.append(wait_id)
        raise StoreUnavailableError("the database is away")

    def finish(conn, *, wait_id, report):
        raise StoreUnavailableError("the database is away")

    monkeypatch.setattr(recording, "RENEWAL_S", 0.02)
    monkeypatch.setattr(recording, "_STORE_FOR_S", 0.1)
    monkeypatch.setattr(store, "renew", renew)
    monkeypatch.setattr(store, "finish", finish)
    report = asyncio.run(recorder(engine).run(new_wait(Api(latency_s=0.2))))
    assert (report.result, report.not_stored) == (WaitResult.COMPLETED, "the database is away")
    assert set(renewed) == {report.wait_id}
    assert results(engine) == []
