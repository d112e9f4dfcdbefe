"""A sync log in rollback-journal mode: its writer waits no longer than one page is read."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from survival.rollback_log import TABLES, _filled, _table, measure

from monitor.synclog import SyncLogSpec, read

pytestmark = pytest.mark.process

ROWS = 95


@pytest.mark.parametrize("kind", TABLES)
def test_a_writer_does_not_wait_between_two_batches(tmp_path, kind):
    path = tmp_path / "pipeline.db"
    _filled(path, kind, ROWS)
    spec = SyncLogSpec(url=f"sqlite:///{path}", table="sync_log", id_column="item_id")
    ids, batches = [], 0
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as writer:
        for batch in read(spec, batch=10):
            writer.execute(f"INSERT INTO {_table(kind)} VALUES (?, NULL)", (f"!{batches}",))
            ids += [entry.item_id for entry in batch]
            batches += 1
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        (stored,) = writer.execute("SELECT count(*) FROM sync_log").fetchone()
    assert batches >= ROWS // 10
    assert stored == ROWS + batches
    assert len(ids) == len(set(ids))
    assert len([item_id for item_id in ids if not item_id.startswith("!")]) == ROWS


@pytest.mark.smoke
def test_the_log_is_closed_before_the_first_request(small_world):
    small_world.track(3)
    opened, job = [], small_world.job()

    def looking():
        opened.extend(
            link.name for fd in Path("/proc/self/fd").iterdir() for link in [fd.resolve()] if "pipeline" in link.name
        )
        return job.open_client()

    assert small_world.run(open_client=looking).snapshot.completed == 3
    assert opened == []


def test_ids_in_any_text_are_paged_through_in_a_table_without_rowid(tmp_path):
    path = tmp_path / "pipeline.db"
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("CREATE TABLE sync_log (part INTEGER, item_id TEXT, PRIMARY KEY (item_id, part)) WITHOUT ROWID")
        conn.execute("INSERT INTO sync_log VALUES (1, CAST(x'ff41' AS TEXT)), (2, CAST(x'ff41' AS TEXT))")
        conn.executemany("INSERT INTO sync_log VALUES (1, ?)", [("a",), ("ä",), ("\x00b",)])
    spec = SyncLogSpec(url=f"sqlite:///{path}", table="sync_log", id_column="item_id", group_column="part")
    paged = [(each.item_id, each.group) for batch in read(spec, batch=1) for each in batch]
    assert sorted(paged) == sorted((each.item_id, each.group) for batch in read(spec) for each in batch)
    assert len(paged) == 5


def test_the_measurement_includes_writes(tmp_path):
    waits = measure(tmp_path, "table", 2000, slowly_s=0.05)
    assert waits.commits > 1
