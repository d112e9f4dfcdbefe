import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scale import examples

from monitor.database.engine import connect, reading, writing
from monitor.database.tables import throttles as table
from monitor.model import LearnedLimits
from monitor.runs import throttle_store as throttles
from monitor.runs.store import start

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"
ORIGIN = "https://api.example:443"
MINUTE = timedelta(minutes=1)
FULL = LearnedLimits(
    at=NOW, not_before=NOW + 60 * MINUTE, status=429, code="SLOW_DOWN", rate_per_s=12.5, concurrency=3.25, down=True
)
SILENT = LearnedLimits(at=NOW)


def written(engine, *all_learned, key=KEY):
    for learned in all_learned:
        with writing(engine) as conn:
            throttles.write(conn, key=key, origin=ORIGIN, limits=learned)
    return known(engine, key)


def known(engine, key=KEY):
    with reading(engine) as conn:
        return throttles.read(conn, key=key)


def test_nothing_is_known_before_the_first_write(engine):
    assert known(engine) is None


@pytest.mark.parametrize("learned", [FULL, SILENT], ids=["all that there is", "nothing but when"])
def test_stored_limits_are_read_back(engine, learned):
    assert written(engine, learned) == learned


def test_keys_are_separate(engine):
    written(engine, FULL)

    assert written(engine, SILENT, key="other") == SILENT
    assert known(engine) == FULL


LEARNED = {"not_before": NOW + MINUTE, "rate_per_s": 2.5, "concurrency": 4.0, "down": True}


@pytest.mark.parametrize("name", LEARNED)
def test_an_origin_has_limits_once_one_was_met_under_any_key(engine, name):
    written(engine, SILENT, key="silent")
    with reading(engine) as conn:
        assert not throttles.has_limits(conn, origin=ORIGIN)
    written(engine, replace(SILENT, **{name: LEARNED[name]}))
    with reading(engine) as conn:
        assert throttles.has_limits(conn, origin=ORIGIN)
        assert not throttles.has_limits(conn, origin="https://other.example:443")


def test_a_run_looks_up_limits_and_the_lowest_factor_in_one_statement(engine):
    with writing(engine) as conn:
        assert throttles.look_up(conn, origin=ORIGIN, targets=["docs", "gloo"]) == (False, 1.0)
        for target, factor in (("gloo", 0.25), ("gloo", 0.5), ("docs", 1.0)):
            start(
                conn, target=target, environment="test", run_key=None, epoch=1, started_at=NOW, throttle_factor=factor
            )
    written(engine, FULL)
    with reading(engine) as conn:
        assert throttles.look_up(conn, origin=ORIGIN, targets=["docs", "gloo"]) == (True, 0.5)
        assert throttles.look_up(conn, origin="https://other.example:443", targets=["docs"]) == (False, 1.0)


def test_a_row_names_its_api(engine):
    written(engine, SILENT)

    with reading(engine) as conn:
        assert conn.scalar(table.select().with_only_columns(table.c.origin)) == ORIGIN


def hint(minutes, status, code=None, *, at=NOW):
    return LearnedLimits(at=at, not_before=NOW + minutes * MINUTE, status=status, code=code)


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        pytest.param(hint(5, 429, "A"), hint(9, 503), (9, 503, None), id="a later one, though it has no code"),
        pytest.param(hint(9, 429, "A"), hint(5, 503, "B"), (9, 429, "A"), id="not an earlier one"),
        pytest.param(hint(9, 429, "A"), hint(9, 503, "B"), (9, 429, "A"), id="of two for one instant, the first"),
        pytest.param(
            hint(9, 429), replace(SILENT, at=NOW + MINUTE), (9, 429, None), id="not a process without the hint"
        ),
        pytest.param(replace(SILENT, at=NOW + MINUTE), hint(9, 429), (9, 429, None), id="one that arrives late"),
        pytest.param(hint(9999, 429, "A"), hint(5, 503, "B"), (5, 503, "B"), id="not one from a clock far ahead"),
        pytest.param(hint(1, 429), hint(7, 503, at=NOW + 5 * MINUTE), (7, 503, None), id="the next, after its time"),
    ],
)
def test_the_later_hint_wins_with_its_status_and_code(engine, first, second, stands):
    found = written(engine, first, second)

    minutes, status, code = stands
    assert (found.not_before, found.status, found.code) == (NOW + minutes * MINUTE, status, code)


OLD = LearnedLimits(at=NOW, rate_per_s=10.0, concurrency=2.0, down=True)
NEW = LearnedLimits(at=NOW + MINUTE, rate_per_s=20.0, concurrency=4.0, down=False)


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        pytest.param(OLD, NEW, NEW, id="the newer one"),
        pytest.param(NEW, OLD, NEW, id="the newer one, though it was written first"),
        pytest.param(
            OLD, LearnedLimits(at=NEW.at), LearnedLimits(at=NEW.at), id="the newer one, that no limit was met"
        ),
        pytest.param(OLD, replace(NEW, at=NOW), replace(NEW, at=NOW), id="of two at one instant, the one written last"),
    ],
)
def test_of_the_other_columns_the_newest_wins(engine, first, second, stands):
    assert written(engine, first, second) == stands


def test_a_newer_write_without_a_hint_keeps_the_hint(engine):
    assert written(engine, FULL, NEW) == replace(NEW, not_before=FULL.not_before, status=429, code="SLOW_DOWN")


def test_long_and_unprintable_texts_are_adapted_to_their_columns(engine):
    assert written(engine, replace(FULL, code="a\x00b\ud800")).code == "a\\x00b\\ud800"
    late = replace(FULL, not_before=NOW + 61 * MINUTE, code="c" * 201)
    with writing(engine) as conn:
        throttles.write(conn, key="long", origin=f"https://{'h' * 600}:443", limits=late)
    assert known(engine, "long").code == "c" * 200


INSTANTS = st.timedeltas(timedelta(0), timedelta(hours=1)).map(lambda after: NOW + after)
HINTS = st.fixed_dictionaries({
    "not_before": INSTANTS, "status": st.sampled_from([429, 503]), "code": st.sampled_from([None, "A", "B"])
})  # fmt: skip
RESTS = st.fixed_dictionaries({
    "rate_per_s": st.none() | st.floats(0.01, 1e6),
    "concurrency": st.none() | st.floats(1, 1024),
    "down": st.booleans(),
})  # fmt: skip
WRITERS = st.lists(
    st.builds(lambda at, hint, rest: LearnedLimits(at=at, **hint, **rest), INSTANTS, st.just({}) | HINTS, RESTS),
    min_size=1,
    max_size=5,
    unique_by=(lambda learned: learned.at, lambda learned: learned.not_before or learned),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(15))
@given(writers=WRITERS, data=st.data())
def test_the_order_of_writes_does_not_matter(engine, writers, data):
    one, other = uuid4().hex, uuid4().hex

    assert written(engine, *writers, key=one) == written(engine, *data.draw(st.permutations(writers)), key=other)


def test_concurrent_writers_lose_no_hint(engine, store_url):
    last, together = 20, threading.Barrier(2)
    failures = []

    def write_all(turns, *, hinted):
        mine = connect(store_url)
        try:
            together.wait()
            for turn in turns:
                at = NOW + turn * MINUTE
                written(
                    mine, LearnedLimits(at=at, not_before=at + MINUTE, status=429) if hinted else LearnedLimits(at=at)
                )
        except Exception as error:  # noqa: BLE001  # a thread's failure is the test's
            failures.append(error)
        finally:
            mine.dispose()

    # one gets a hint each time, the later one first; the other never gets one, and writes last
    threads = [
        threading.Thread(target=write_all, args=[range(last, 0, -1)], kwargs={"hinted": True}),
        threading.Thread(target=write_all, args=[range(2, last + 2)], kwargs={"hinted": False}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert known(engine) == LearnedLimits(
        at=NOW + (last + 1) * MINUTE, not_before=NOW + (last + 1) * MINUTE, status=429
    )


def test_limits_with_a_time_far_ahead_are_replaced(engine):
    ahead = replace(FULL, at=NOW + timedelta(days=400), not_before=NOW + timedelta(days=400))

    assert written(engine, ahead, FULL) == FULL
    assert written(engine, replace(FULL, at=NOW + 60 * MINUTE), SILENT).at == NOW + 60 * MINUTE, "an hour is no wonder"
