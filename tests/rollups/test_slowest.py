"""The slowest uploads of each day are named, and no more."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from monitor.database.engine import reading, writing
from monitor.database.tables import slowest_uploads
from monitor.rollups.slowest import NAMED, IndexedUpload, name_slowest, slowest

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def upload(name, took_s, days_ago=0, group=None):
    at = NOW - days_ago * DAY + timedelta(seconds=took_s)
    return IndexedUpload(item_id=name, group=group, took_s=float(took_s), indexed_at=at)


def read(engine, since=NOW - 9 * DAY, until=NOW + DAY, limit=NAMED):
    with reading(engine) as conn:
        return slowest(conn, targets=["gloo"], since=since, until=until, limit=limit)["gloo"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=8), max_size=4))
def test_the_slowest_of_all_are_named_however_they_came(engine, batches):
    names, seen = iter(range(99)), []
    with writing(engine) as conn:
        conn.execute(delete(slowest_uploads))
        for batch in batches:
            found = [upload(f"i{next(names):02}", took, days) for took, days in batch]
            name_slowest(conn, target="gloo", uploads=found)
            seen += found
    assert read(engine) == sorted(seen, key=lambda each: (-each.took_s, each.item_id))[:NAMED]
    with reading(engine) as conn:
        assert conn.scalar(select(func.count()).select_from(slowest_uploads)) <= 3 * NAMED


@pytest.mark.parametrize(
    ("period", "names"),
    [({"since": NOW}, ["b"]), ({"until": NOW}, ["a"]), ({"limit": 1}, ["a"]), ({"until": NOW - 2 * DAY}, [])],
    ids=["from its start", "before its end", "only so many", "another day"],
)
def test_only_the_period_is_read(engine, period, names):
    with writing(engine) as conn:
        name_slowest(conn, target="gloo", uploads=[upload("a", 60, 1, "x"), upload("b", 30)])
        name_slowest(conn, target="other", uploads=[upload("c", 90)])
    assert [each.item_id for each in read(engine, **period)] == names


def test_an_upload_that_is_indexed_anew_is_named_once(engine):
    with writing(engine) as conn:
        name_slowest(conn, target="gloo", uploads=[upload("a", 60), upload("b", 30)])
        name_slowest(conn, target="gloo", uploads=[upload("a", 20)])
        name_slowest(conn, target="gloo", uploads=[upload("a", 20)])
    assert [(each.item_id, each.took_s) for each in read(engine)] == [("b", 30.0), ("a", 20.0)]
