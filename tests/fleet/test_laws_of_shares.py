"""A law: however many workers share a run, and however small the shares, it writes what one process writes."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from support.fleet import Fleet, written
from support.scale import examples
from support.world import Clock

from monitor.database.engine import writing
from monitor.database.sync_tables import metadata

FAILING = {"500": {"status": 500, "body": {"code": "x"}}, "odd body": {"status": 200, "body": "<p>what?"}}
FIXED = ("COMPLETED", "CHUNKING", "FAILED", "SOMETHING_NEW")
KINDS = st.sampled_from([*FIXED, "COMPLETED", "COMPLETED", "missing", "foreign", *FAILING])
MOST = {"foreign": 3, "500": 1, "odd body": 1}
"""More could stop the run, or open the breaker, at a moment that depends on the order of answers."""


@st.composite
def nights(draw):
    """The kind of each item in each run. Of kinds that could stop a run there are few."""
    count = draw(st.integers(8, 40))
    kinds, found = [], Counter()
    for _ in range(count):
        kind = draw(KINDS)
        found[kind] += 1
        kinds.append(kind if found[kind] <= MOST.get(kind, count) else "COMPLETED")
    later = [
        {number: draw(st.sampled_from(FIXED)) for number in draw(st.lists(st.integers(0, count - 1), max_size=6))}
        for _ in range(draw(st.integers(0, 2)))
    ]
    return kinds, later


def begin_anew(*worlds):
    """Worlds as they were made."""
    tables = ", ".join(metadata.tables)
    for world in worlds:
        with writing(world.app.engine) as conn:
            conn.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        world.close()  # what its throttles learned is forgotten
        world.clock = Clock()
    worlds[0].log("DELETE FROM sync_log")
    worlds[0].sandbox.reset()


def put_up(world, kinds):
    made = world.track(len(kinds))
    for item_id, kind in zip(made, kinds, strict=True):
        if kind == "missing":
            world.sandbox.remove(item_id)
        elif kind == "foreign":
            world.sandbox.assign_to_other_publisher(item_id)
        elif kind in FAILING:
            world.sandbox.add_fault(path=f"/engine/v2/items/{item_id}", **FAILING[kind])
        else:
            world.sandbox.set_status(item_id, kind)
    return made


@pytest.mark.process
@settings(max_examples=examples(6), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(night=nights(), share=st.integers(3, 12), workers=st.integers(1, 3))
def test_workers_write_what_one_process_writes(shared_world, alone, night, share, workers):
    begin_anew(shared_world, alone)
    kinds, later = night
    made = put_up(shared_world, kinds)
    shared_world.record("not-a-uuid")
    fleet = Fleet(shared_world, share=share, workers=workers)
    for changes in ({}, *later):
        for number, status in changes.items():
            if kinds[number] != "missing":
                shared_world.sandbox.set_status(made[number], status)
        fleet.run()
        alone.run()
    assert written(shared_world) == written(alone)
