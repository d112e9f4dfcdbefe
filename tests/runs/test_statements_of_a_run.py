"""How many SQL statements one run over one target costs: counted, so that a slow machine changes nothing."""

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager

from sqlalchemy import Engine, event

from monitor.runs.progress import NoProgress
from monitor.runs.run import Run

AT_MOST = {"sqlite": 18, "postgresql": 19}
"""Statements of a run besides those of its sync; one more limits PostgreSQL's idle transactions."""
IN_SYNC = {"sqlite": 6, "postgresql": 7}
"""Statements of a sync of a log that did not change, those in the log's own database included."""
FIRST, FIRST_SYNC = {"sqlite": 25, "postgresql": 26}, {"sqlite": 27, "postgresql": 27}
"""The same of a first run: of its sync those that create and drop temporary tables included."""
SYNC_THREAD = "sync-log"


@contextmanager
def counted():
    """Statements by what they are part of, those that begin or end a transaction left out."""
    counts = Counter()

    def executed(_conn, _cursor, sql, *_):
        if not sql.startswith(("BEGIN", "COMMIT")):
            counts["sync" if threading.current_thread().name == SYNC_THREAD else "run"] += 1

    event.listen(Engine, "before_cursor_execute", executed)
    try:
        yield counts
    finally:
        event.remove(Engine, "before_cursor_execute", executed)


def run_all(world):
    """One run over every configured target, side by side."""

    async def all_at_once():
        targets = world.app.config.targets
        jobs = (world.app.job(target) for target in targets)
        runs = (Run(job, interrupt=asyncio.Event(), progress=NoProgress()) for job in jobs)
        return await asyncio.gather(*(run() for run in runs))

    return asyncio.run(all_at_once())


def test_a_run_in_which_nothing_changed_costs_few_statements(world):
    world.track(20)
    world.run()
    world.run()
    with counted() as statements:
        report = world.run()
    assert (report.status.value, report.snapshot.completed, report.snapshot.checked) == ("complete", 20, 20)
    dialect = world.app.engine.dialect.name
    assert statements["run"] <= AT_MOST[dialect], statements
    assert statements["sync"] <= IN_SYNC[dialect], statements


def test_the_first_run_of_a_target_looks_for_nothing_that_a_new_target_can_not_have(world):
    world.track(20)
    with counted() as statements:
        report = world.run()
    assert (report.sync.new, report.snapshot.completed) == (20, 20)
    dialect = world.app.engine.dialect.name
    assert statements["run"] <= FIRST[dialect], statements
    assert statements["sync"] <= FIRST_SYNC[dialect], statements


def test_the_statements_of_a_run_do_not_grow_with_the_number_of_targets(small_world):
    world = small_world
    world.track(20)
    per_target = {}
    for number in (1, 6):
        more = "".join(world.another_target(f"t{n}") for n in range(1, number))
        world.configure(more=more)
        run_all(world)
        with counted() as statements:
            reports = run_all(world)
        assert [report.snapshot.completed for report in reports] == [20] * number
        per_target[number] = statements["run"] / number
    # in the first minute of an hour one more look for old slots may be due
    assert per_target[6] <= per_target[1] + 4
    assert per_target[6] <= AT_MOST["sqlite"] + 4
