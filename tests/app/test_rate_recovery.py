"""A learned rate recovers over clean runs: from cron, where each run is a process of its own, as in the daemon."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.app.throttles import ThrottleRegistry, http_origin, throttle_key
from monitor.client.rate.limiter import RateLimiter
from monitor.config import TargetConfig
from monitor.database.engine import connect, reading, writing
from monitor.database.schema import upgrade
from monitor.model import LearnedLimits
from monitor.runs import throttle_store

TARGET = TargetConfig.model_validate(
    {
        "name": "docs", "provider": "generic", "base_url": "https://api.example",
        "statuses": {"completed": ["done"]}, "item": {"path": "/documents/{item_id}"},
    }
)  # fmt: skip
KEY = throttle_key(TARGET)
IDLE_S = 300.0
OUTCOMES = st.lists(st.lists(st.booleans(), max_size=40), min_size=1, max_size=6)
"""Per run, whether each of its requests was accepted."""


@pytest.fixture(scope="module")
def module_engine(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('rates')}/monitor.db"
    upgrade(url)
    engine = connect(url)
    yield engine
    engine.dispose()


def store_rate(engine, rate_per_s):
    limits = LearnedLimits(at=datetime(2026, 3, 1, tzinfo=UTC), rate_per_s=rate_per_s)
    with writing(engine) as conn:
        conn.exec_driver_sql("DELETE FROM throttles")
        throttle_store.write(conn, key=KEY, origin="https://api.example:443", limits=limits)


def stored_rate(engine):
    with reading(engine) as conn:
        return throttle_store.read(conn, key=KEY).rate_per_s


async def one_run(registry, engine, begin_s, outcomes):
    """One run over these outcomes, from an instant on; the rate that it stored, and when it ended."""
    now_s = begin_s
    async with registry.throttle(TARGET, [TARGET], engine) as throttle:
        limiter = throttle.rate_limiter
        for accepted in outcomes:
            while (wait_s := limiter.wait_s(now_s, 0)) > 0:
                now_s += wait_s
            (limiter.accepted if accepted else limiter.refused)(now_s)
    return stored_rate(engine), now_s


def rates(engine, runs, *, one_process):
    async def play():
        registry, begin_s, found = ThrottleRegistry(), 0.0, []
        for outcomes in runs:
            if not one_process:
                registry = ThrottleRegistry()
            rate, ended_s = await one_run(registry, engine, begin_s, outcomes)
            found.append(rate)
            begin_s = ended_s + IDLE_S
        return found

    store_rate(engine, 2.5)
    return asyncio.run(play())


@pytest.mark.process
@given(runs=OUTCOMES)
def test_daemon_runs_and_one_shot_runs_over_the_same_outcomes_learn_the_same_rates(module_engine, runs):
    assert rates(module_engine, runs, one_process=True) == rates(module_engine, runs, one_process=False)


@pytest.mark.parametrize("one_process", [True, False], ids=["daemon", "one-shot"])
def test_clean_runs_raise_a_learned_rate_and_a_refusal_ends_that(module_engine, one_process):
    clean, refused = [True] * 8, [True, True, False, True]
    found = rates(module_engine, [clean, clean, clean, refused], one_process=one_process)
    assert found[:3] == sorted(found[:3])
    assert found[0] >= 2.5 * 1.25
    assert found[2] >= 2.5 * 1.25**3 * 0.999
    assert found[3] < found[2]


def test_a_run_that_asked_nothing_learned_nothing(module_engine):
    assert rates(module_engine, [[], []], one_process=False) == [2.5, 2.5]


def test_a_rate_that_nothing_ever_limited_stays_unlimited():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    for n in range(100):
        assert limiter.wait_s(n / 100, 0) == 0
        limiter.accepted(n / 100)
    assert limiter.learned_per_s is None


def test_runs_side_by_side_share_one_limiter(module_engine):
    async def play():
        registry = ThrottleRegistry()
        async with registry.throttle(TARGET, [TARGET], module_engine) as one:
            async with registry.throttle(TARGET, [TARGET], module_engine) as other:
                assert one.rate_limiter is other.rate_limiter
            limiter = one.rate_limiter
        async with registry.throttle(TARGET, [TARGET], module_engine) as later:
            assert later.rate_limiter is not limiter

    store_rate(module_engine, 2.5)
    asyncio.run(play())


@pytest.mark.parametrize("one_process", [True, False], ids=["daemon", "one-shot"])
@pytest.mark.process
def test_a_check_at_a_learned_rate_says_so_and_the_next_one_is_faster(small_world, one_process):
    world = small_world
    world.track(40)
    world.run()
    with writing(world.app.engine) as conn:
        target = world.app.config.targets[0]
        limits = LearnedLimits(at=world.clock(), rate_per_s=25.0)
        throttle_store.write(conn, key=throttle_key(target), origin=http_origin(target), limits=limits)
    world.close()  # as after a restart
    for learned in (25.0, 31.25):
        if not one_process:
            world.close()
        limits = world.run().limits
        assert (limits.rate_source, limits.rate_per_s) == ("learned", pytest.approx(learned, rel=0.01))
        assert limits.rate_wait_s > 0.3
        assert limits.next_rate_per_s >= learned * 1.24
