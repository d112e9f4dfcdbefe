"""Processes that share the limits of a credential: registries with different holders, each with its own engine."""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import event, text
from structlog.testing import capture_logs

from monitor.app.fleet_limits import FleetLimits
from monitor.app.throttles import ThrottleRegistry, limits_of, throttle_key
from monitor.client.client import Client
from monitor.config import TargetConfig
from monitor.config.fleet import FleetConfig
from monitor.database.engine import connect, reading, writing
from monitor.model.http import ApiError, Reply, Request

SECRET = "canary-key-1984"
WHOLE = 64
HINT = ApiError(status=429, retry_after=timedelta(minutes=10), code="slow_down")
DOWN = ApiError(status=503)
STALLED = timedelta(seconds=30)


def target(name="docs", **settings):
    given = {
        "name": name, "provider": "generic", "base_url": "https://api.example", "auth": {"api_key": SECRET},
        "statuses": {"completed": ["done"]}, "item": {"path": "/documents/{item_id}"},
        "check": {"concurrency": WHOLE},
    }  # fmt: skip
    return TargetConfig.model_validate(given | settings)


TARGET = target()


class Processes:
    """Registries of one database."""

    def __init__(self, store_url):
        self.store_url, self.engines = store_url, {}
        self.registries = {}

    def throttle(self, holder, watched=TARGET, *, clock_ahead=timedelta(0), **settings):
        """A run of a process."""
        if holder not in self.registries:
            given = {"stalled_after": STALLED, "share_concurrency": 1024, "interval_s": 0.01, **settings}
            fleet = FleetLimits(holder=holder, **given)
            self.registries[holder] = ThrottleRegistry(fleet)
            self.engines[holder] = connect(self.store_url)
        return self.registries[holder].throttle(
            watched, [watched], self.engines[holder], utcnow=lambda: datetime.now(UTC) + clock_ahead
        )

    def rows(self, sql):
        with reading(next(iter(self.engines.values()))) as conn:
            return [dict(row) for row in conn.execute(text(sql)).mappings()]

    def write(self, sql):
        with writing(next(iter(self.engines.values()))) as conn:
            conn.execute(text(sql))


@pytest.fixture
def processes(store_url):
    made = Processes(store_url)
    yield made
    for engine in made.engines.values():
        engine.dispose()


async def until(condition):
    """Waits for what other processes tell; a test that waits in vain fails by its timeout."""
    while not condition():  # noqa: ASYNC110  # it is in the database, or comes from there
        await asyncio.sleep(0.002)


def ceilings(*throttles):
    return [throttle.concurrency.ceiling for throttle in throttles]


def fail(throttle, answer, times=1):
    for _ in range(times):
        throttle.in_flight += 1
        throttle.release(answer, {}, started_s=time.monotonic())


async def test_a_part_is_given_to_a_process_that_joins_and_handed_back_when_it_ends(processes):
    async with processes.throttle("a:1") as first:
        assert ceilings(first) == [WHOLE], "known before its first request"
        async with processes.throttle("b:2") as second:
            assert sum(ceilings(first, second)) <= WHOLE + 8
            await until(lambda: ceilings(first, second) == [32, 32])
            async with processes.throttle("b:2"), processes.throttle("b:2"):
                await until(lambda: ceilings(first, second) == [16, 48])
            await until(lambda: ceilings(first, second) == [32, 32])
        await until(lambda: ceilings(first) == [WHOLE])
    assert processes.rows("SELECT * FROM throttle_claims") == []


async def test_a_dead_process_counts_until_the_stall_time(processes):
    async with processes.throttle("a:1", stalled_after=timedelta(seconds=0.4)) as first:
        key = processes.rows("SELECT key FROM throttle_claims")[0]["key"]
        processes.write(
            "INSERT INTO throttle_claims (key, holder, weight, part, seen_at) "
            f"SELECT '{key}', 'dead:9', 3, 0.75, seen_at FROM throttle_claims"
        )
        await until(lambda: ceilings(first) == [16])
        await until(lambda: ceilings(first) != [16])
        assert ceilings(first) == [WHOLE]


async def test_requests_in_flight_are_bounded_per_share_whatever_the_part(processes):
    async with processes.throttle("a:1", share_concurrency=10) as first:
        assert ceilings(first) == [10]
        async with processes.throttle("a:1"):
            assert ceilings(first) == [20]
        assert ceilings(first) == [10]


async def test_a_process_that_sends_now_and_then_claims_its_part_while_it_sends(processes):
    async with (
        processes.throttle("a:1") as first,
        processes.throttle("b:2", only_while_sending=True, share_concurrency=None) as second,
    ):
        for _ in range(2):
            await until(lambda: ceilings(first) == [WHOLE])
            assert second.concurrency.ceiling >= WHOLE // 8, "its next request need not wait"
            assert second.try_acquire(time.monotonic())
            await until(lambda: ceilings(first, second) == [32, 32])
            second.release_unused()
        await until(lambda: ceilings(first) == [WHOLE])
        fail(first, HINT)
        await until(lambda: second.server_backoff.until_s > time.monotonic() + 500)
        asking = asyncio.create_task(second.acquire(time.monotonic() + 3600))
        await until(lambda: ceilings(first, second) == [32, 32])
        asking.cancel()
        await until(lambda: ceilings(first) == [WHOLE])
    assert processes.rows("SELECT * FROM throttle_claims") == []


async def test_other_credentials_are_divided_by_themselves(processes):
    async with (
        processes.throttle("a:1") as mine,
        processes.throttle("b:2", target("docs2", auth={"api_key": "another"})) as others,
    ):
        await until(lambda: len(processes.rows("SELECT * FROM throttle_claims")) == 2)
        await asyncio.sleep(0.05)
        assert ceilings(mine, others) == [WHOLE, WHOLE]


async def test_processes_with_the_same_host_and_number_divide_limits_too(store_url, connected):
    """Containers in the network of one host have its name, and each begins with process 1."""
    config, engine = SimpleNamespace(fleet=FleetConfig(workers=True)), connected(store_url)
    one, other = limits_of(config, is_worker=True), limits_of(config)
    async with one.throttle(TARGET, [TARGET], engine), other.throttle(TARGET, [TARGET], engine):
        with reading(engine) as conn:
            assert conn.execute(text("SELECT count(*) FROM throttle_claims")).scalar_one() == 2


async def test_a_hint_that_one_process_gets_stops_all_of_them(processes):
    async with processes.throttle("a:1") as first, processes.throttle("b:2") as second:
        fail(first, HINT)
        await until(lambda: second.server_backoff.until_s > time.monotonic() + 500)
        assert second.server_backoff.code == "slow_down"
        async with processes.throttle("c:3") as third:
            assert not third.try_acquire(time.monotonic())


async def test_a_hint_ends_at_the_same_moment_on_machines_with_other_clocks(new_postgres):
    processes, minutes = Processes(new_postgres(migrated=True)), timedelta(minutes=1)
    async with (
        processes.throttle("fast:1", clock_ahead=15 * minutes) as first,
        processes.throttle("right:2") as second,
        processes.throttle("slow:3", clock_ahead=-15 * minutes) as third,
    ):
        fail(first, HINT)
        await until(lambda: processes.rows("SELECT * FROM throttles"))
        async with processes.throttle("late:4", clock_ahead=-15 * minutes) as fourth:
            others = (second, third, fourth)
            await until(lambda: all(each.server_backoff.until_s > time.monotonic() for each in others))
            for each in others:
                assert each.server_backoff.until_s == pytest.approx(first.server_backoff.until_s, abs=5)
    for engine in processes.engines.values():
        engine.dispose()


async def test_an_open_breaker_opens_all_of_them_and_each_next_run_begins_with_one_probe(processes):
    async with processes.throttle("b:2") as second:
        async with processes.throttle("a:1") as first:
            fail(first, DOWN, times=5)
            assert first.breaker.opened_here
            await until(lambda: second.breaker.open)
            assert not second.breaker.opened_here, "it must not tell others what it was told"
        for holder in ("a:1", "c:3", "b:2"):
            async with processes.throttle(holder) as later:
                assert (later.breaker.open, later.breaker.half_open) == (False, True)
                await asyncio.sleep(0.05)
                assert not later.breaker.open, "what happened before it began"


async def test_a_breaker_that_opened_just_before_its_process_ended_opens_the_others(processes):
    async with processes.throttle("b:2") as second:
        async with processes.throttle("a:1") as first:
            fail(first, DOWN, times=5)
        await until(lambda: second.breaker.open)


async def test_a_run_may_end_while_an_exchange_is_on_its_way(processes):
    async with contextlib.AsyncExitStack() as run:
        await run.enter_async_context(processes.throttle("a:1"))
        reads, ended = threading.Event(), threading.Event()

        def read(_conn, _cursor, sql, *_):
            if sql.startswith("SELECT") and "throttle_claims" in sql:
                reads.set()
                ended.wait(10)

        event.listen(processes.engines["a:1"], "before_cursor_execute", read)
        await asyncio.to_thread(reads.wait, 10)
        with capture_logs() as logged:
            ending = asyncio.create_task(run.aclose())
            await asyncio.sleep(0.05)
            ended.set()
            await ending
    assert logged == []
    assert processes.rows("SELECT * FROM throttle_claims") == []


async def test_processes_follow_the_refusal_of_one(processes):
    async with processes.throttle("a:1") as first, processes.throttle("b:2") as second:
        for at_s in (0.0, 0.5, 1.1):
            first.rate_limiter.accepted(time.monotonic() + at_s)
        first.rate_limiter.refused(time.monotonic() + 1.2)
        first.rate_limiter.wait_s(time.monotonic() + 3, 0)
        first.rate_limiter.accepted(time.monotonic() + 3)
        assert second.rate_limiter.per_s is None
        await until(lambda: second.rate_limiter.per_s == first.rate_limiter.per_s)


async def test_without_the_database_requests_go_on_and_after_the_stall_time_slowly(processes):
    async with processes.throttle("a:1", stalled_after=timedelta(seconds=0.3)) as first:
        processes.write("ALTER TABLE throttle_claims RENAME TO hidden")
        await asyncio.sleep(0.1)
        assert ceilings(first) == [WHOLE], "the last known part"
        await until(lambda: ceilings(first) == [WHOLE // 16])
        assert first.try_acquire(time.monotonic())
        first.release_unused()
        processes.write("ALTER TABLE hidden RENAME TO throttle_claims")
        await until(lambda: ceilings(first) == [WHOLE])


async def test_a_process_that_cannot_read_its_part_at_first_begins_slowly(processes):
    async with processes.throttle("a:1"):
        processes.write("ALTER TABLE throttle_claims RENAME TO hidden")
    async with processes.throttle("a:1") as first:
        assert ceilings(first) == [WHOLE // 16]
        assert first.try_acquire(time.monotonic())
        first.release_unused()
        processes.write("ALTER TABLE hidden RENAME TO throttle_claims")
        await until(lambda: ceilings(first) == [WHOLE])


async def test_rows_name_the_key_of_the_limits_and_no_secret(processes):
    async with processes.throttle("a:1") as first:
        fail(first, HINT)
        await until(lambda: processes.rows("SELECT * FROM throttles"))
        claims = processes.rows("SELECT * FROM throttle_claims")
        assert [claim["key"] for claim in claims] == [throttle_key(TARGET)]
        assert SECRET not in str(claims + processes.rows("SELECT * FROM throttles"))


@contextlib.contextmanager
def statements(engine):
    found = Counter()

    def executed(_conn, _cursor, sql, *_):
        found[sql.split()[0] + (" claims" if "throttle_claims" in sql else "")] += 1

    event.listen(engine, "before_cursor_execute", executed)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", executed)


@pytest.mark.process
async def test_an_exchange_takes_as_many_statements_for_many_credentials_as_for_one(processes):
    async with contextlib.AsyncExitStack() as runs:
        for number in range(5):
            watched = target(f"t{number}", auth={"api_key": f"key {number}"})
            await runs.enter_async_context(processes.throttle("a:1", watched))
        await asyncio.sleep(0.05)
        with statements(processes.engines["a:1"]) as found:
            await until(lambda: found["INSERT claims"] >= 10)
        assert found["SELECT claims"] <= found["INSERT claims"] + 1
        assert found.total() <= 5 * (found["INSERT claims"] + 1)


async def test_without_a_fleet_nothing_is_claimed(engine):
    with statements(engine) as found:
        async with ThrottleRegistry().throttle(TARGET, [TARGET], engine) as throttle:
            assert throttle.on_stop is None
            await asyncio.sleep(0.05)
    assert found.total() <= 3
    assert [name for name in found if "claims" in name] == []


class Failing:
    """A service that is down, and counts the requests."""

    def __init__(self):
        self.requests = 0

    async def send(self, request, *, timeout_s, sink=None, read_timeout_s=None):
        self.requests += 1
        await asyncio.sleep(0.001)
        return Reply(status=503, headers={}, body=b"")

    async def close(self):
        """Nothing is open."""


async def ask(throttle, service, items):
    async def no_sleep(_seconds):
        await asyncio.sleep(0)

    client = Client(transport=service, throttle=throttle, sleep=no_sleep)
    ends_s = time.monotonic() + 60
    request = Request(method="GET", path="/documents/1", template="/documents/{id}")
    await asyncio.gather(*(client.send(request, deadline_s=ends_s) for _ in range(items)))


@pytest.mark.process
@pytest.mark.smoke
async def test_a_total_outage_costs_a_few_requests_in_all_and_one_for_each_later_share(processes):
    """Four processes and four shares each: the first of each is stopped by the first breaker that opens."""
    service, holders, shares, items = Failing(), ["a:1", "b:2", "c:3", "d:4"], 4, 300

    async def work(holder):
        for _ in range(shares):
            async with processes.throttle(holder) as throttle:
                await ask(throttle, service, items)

    async with contextlib.AsyncExitStack() as runs:
        for holder in holders:
            await runs.enter_async_context(processes.throttle(holder))
        parts = "SELECT count(*) AS n FROM throttle_claims WHERE part = 0.25"
        await until(lambda: processes.rows(parts)[0]["n"] == len(holders))
        await asyncio.gather(*(work(holder) for holder in holders))
    assert service.requests <= WHOLE + 2 * len(holders) * shares
    assert service.requests <= 0.05 * len(holders) * shares * items, "0.01 with 20,000 items a share"
