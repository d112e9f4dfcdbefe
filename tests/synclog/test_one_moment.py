"""What a reader sees of a SQLite file while others write, and what it leaves beside it."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from monitor.database.sqlite_files import open_file, open_read_only
from monitor.errors import SyncLogError, SyncLogUnavailableError
from monitor.synclog import SyncLogSpec, read, verify

ROOT = Path(__file__).parents[2]


def spec_of(path, table="log", **more):
    return SyncLogSpec(url=f"sqlite:///{path}", table=table, id_column="id", **more)


def ids(path, **more):
    return [entry.item_id for rows in read(spec_of(path, **more)) for entry in rows]


def make(path, *item_ids, mode="WAL"):
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(f"PRAGMA journal_mode={mode}")
        conn.execute("CREATE TABLE log (id TEXT)")
        conn.executemany("INSERT INTO log VALUES (?)", [(item_id,) for item_id in item_ids])
    return path


def beside(path):
    return sorted(each.name for each in path.parent.iterdir() if each != path)


def killed(path, script):
    """Runs a script, which gets the path and kills itself."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=False, timeout=240)
    assert done.returncode == -signal.SIGKILL


CUT_OFF = """
    import os, signal, sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("PRAGMA cache_size=2")
    conn.execute("BEGIN")
    conn.execute("UPDATE log SET id = 'never-' || id || hex(randomblob(500))")
    os.kill(os.getpid(), signal.SIGKILL)
"""
CRASHED_IN_WAL = """
    import os, signal, sqlite3, sys
    conn = sqlite3.connect(sys.argv[1], isolation_level=None)
    conn.execute("INSERT INTO log VALUES ('in-wal')")
    conn.execute("BEGIN")
    conn.execute("INSERT INTO log VALUES ('never')")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize(
    "change", ["VACUUM", "INSERT INTO log VALUES ('new')", "DELETE FROM log", "UPDATE log SET id = 'x'"]
)
def test_rows_are_those_of_one_moment_and_the_writer_goes_on(tmp_path, mode, change):
    path = make(tmp_path / "p.db", *map(str, range(300)), mode=mode)
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as writer:
        writer.execute("DELETE FROM log WHERE rowid <= 100")
        seen = []
        for rows in read(spec_of(path), batch=10):
            seen += [entry.item_id for entry in rows]
            if len(seen) <= 100:
                writer.execute(change)
        assert seen == [str(n) for n in range(100, 300)]


@pytest.mark.parametrize("linked", [False, True], ids=["by name", "by a link"])
def test_a_hot_journal_is_never_passed_over(tmp_path, linked):
    path = make(tmp_path / "p.db", *(f"true-{n}" for n in range(500)), mode="DELETE")
    killed(path, CUT_OFF)
    opened = path
    if linked:
        (tmp_path / "release").mkdir()
        opened = tmp_path / "release" / "current.db"
        opened.symlink_to(path)
    for _ in range(2):
        with pytest.raises(
            SyncLogError, match=r"half a transaction: its last writer was cut off .* let the pipeline open it once"
        ):
            ids(opened)
    with contextlib.closing(sqlite3.connect(path)) as pipeline:
        pipeline.execute("SELECT count(*) FROM log").fetchone()
    assert len(ids(opened)) == 500


def test_a_hot_journal_beside_a_file_in_wal_mode_is_not_passed_over_either(tmp_path):
    path = make(tmp_path / "p.db", "a")
    (tmp_path / "p.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    with pytest.raises(SyncLogError, match="half a transaction"):
        ids(path)


@pytest.mark.parametrize("with_shm", [True, False])
@pytest.mark.parametrize("linked", [False, True], ids=["by name", "by a link"])
def test_commits_of_a_crashed_writer_that_are_only_in_the_wal_are_read(tmp_path, with_shm, linked):
    path = make(tmp_path / "p.db", "in-file")
    killed(path, CRASHED_IN_WAL)
    if not with_shm:
        (tmp_path / "p.db-shm").unlink()
    before = {
        each.name: (each.stat().st_ino, each.read_bytes()) for each in tmp_path.iterdir() if each.suffix != ".db-shm"
    }
    opened = path
    if linked:
        (tmp_path / "release").mkdir()
        opened = tmp_path / "release" / "current.db"
        opened.symlink_to(path)
    assert ids(opened) == ["in-file", "in-wal"]
    assert {name: (path.with_name(name).stat().st_ino, path.with_name(name).read_bytes()) for name in before} == before
    assert (tmp_path / "p.db-shm").exists() == with_shm
    if linked:
        assert beside(opened) == []


def test_an_empty_wal_without_its_index_is_not_taken_for_none(tmp_path):
    path = make(tmp_path / "p.db", "a")
    (tmp_path / "p.db-wal").touch()
    assert ids(path) == ["a"]
    assert beside(path) == ["p.db-wal"]


def test_nothing_is_left_beside_a_file_that_was_closed_well(tmp_path):
    path = make(tmp_path / "p.db", "a")
    assert ids(path) == ["a"]
    verify(spec_of(path))
    assert beside(path) == []


OTHER_NAME = r"has another name, beside which its -journal or -wal may lie: .* remove the link .* mount the folder"


@pytest.mark.parametrize(("mode", "script"), [("DELETE", CUT_OFF), ("WAL", CRASHED_IN_WAL)])
def test_a_hard_link_in_another_folder_hides_neither_journal_nor_wal(tmp_path, mode, script):
    path = make(tmp_path / "p.db", *(f"true-{n}" for n in range(500)), mode=mode)
    killed(path, script)
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "p.db").hardlink_to(path)
    with pytest.raises(SyncLogError, match=OTHER_NAME):
        ids(tmp_path / "backup" / "p.db")


def test_a_hard_link_in_the_same_folder_is_read_by_the_name_that_has_the_wal(tmp_path):
    path = make(tmp_path / "p.db", "in-file")
    (tmp_path / "copy.db").hardlink_to(path)
    assert ids(tmp_path / "copy.db") == ["in-file"]
    killed(path, CRASHED_IN_WAL)
    assert ids(tmp_path / "copy.db") == ids(path) == ["in-file", "in-wal"]


def test_a_folder_is_not_taken_for_a_file_with_another_name(tmp_path):
    (tmp_path / "p.db").mkdir()
    with pytest.raises(SyncLogError, match="check that it is a file"):
        ids(tmp_path / "p.db")


def test_a_name_that_is_no_utf_8_can_be_escaped_in_the_url(tmp_path):
    path = make(tmp_path / "p.db", "a")
    path.rename(tmp_path / os.fsdecode(b"p\xff.db"))
    assert ids(f"{tmp_path}/p%FF.db") == ["a"]


def test_a_file_that_is_mounted_without_its_folder_is_refused_unless_its_wal_is_there(tmp_path, monkeypatch):
    path = make(tmp_path / "p 1.db", "in-file")
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr("monitor.database.sqlite_names._MOUNTS", mounts)
    assert ids(path) == ["in-file"]  # no such list: not on Linux
    mounts.write_bytes(b"21 1 0:19 / / rw - ext4 /dev/a rw\n\n")
    assert ids(path) == ["in-file"]
    point = os.fsencode(path.resolve()).replace(b" ", rb"\040")
    mounts.write_bytes(b"22 21 0:19 /srv/p.db " + point + b" ro - ext4 /dev/a rw\n")
    with pytest.raises(SyncLogError, match=OTHER_NAME):
        ids(path)
    killed(path, CRASHED_IN_WAL)
    assert ids(path) == ["in-file", "in-wal"]


AS_NOBODY = """
import os, pwd, sys
from monitor.synclog import SyncLogSpec, read
if os.geteuid() == 0:
    os.setuid(pwd.getpwnam("nobody").pw_uid)
print(*[e.item_id for rows in read(SyncLogSpec(url=sys.argv[1], table="log", id_column="id")) for e in rows])
"""


def test_the_file_of_another_user_is_read_in_a_folder_that_both_may_write_to():
    """As another user the reader would lock the writer out by files of its own."""
    with tempfile.TemporaryDirectory() as name:
        path = make(Path(name) / "p.db", "a")
        path.chmod(0o644)
        path.parent.chmod(0o777)
        run = [sys.executable, "-c", AS_NOBODY, f"sqlite:///{path}"]
        for wanted in ("a", "a b"):
            done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240)
            assert done.stdout.strip() == wanted
            assert beside(path) == []
            with contextlib.closing(sqlite3.connect(path)) as pipeline, pipeline:
                pipeline.execute("INSERT INTO log VALUES ('b')")


def test_a_file_that_is_changed_while_it_is_copied_is_read_again(tmp_path):
    path = make(tmp_path / "p.db", "a")
    reader = open_read_only(path, busy_timeout_s=1)
    with contextlib.closing(reader):
        assert reader.unchanged()
        assert reader.execute("SELECT id FROM log").fetchall() == [("a",)]
        with contextlib.closing(sqlite3.connect(path)) as pipeline, pipeline:
            pipeline.execute("INSERT INTO log VALUES ('b')")
            assert not reader.unchanged()
        assert not reader.unchanged()
    assert ids(path) == ["a", "b"]


def test_locks_of_one_reader_survive_the_end_of_another(tmp_path):
    """To close any descriptor of a file drops all locks that the process holds on it."""
    path = make(tmp_path / "p.db", "a", mode="DELETE")
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0); c.execute('DELETE FROM log'); c.commit()"
    )
    attempt = [sys.executable, "-c", script, str(path)]
    with contextlib.closing(open_read_only(path, busy_timeout_s=1)) as first:
        first.execute("BEGIN")
        first.execute("SELECT * FROM log").fetchall()
        for _ in range(3):
            open_read_only(path, busy_timeout_s=1).close()
        assert b"locked" in subprocess.run(attempt, capture_output=True, check=False, timeout=240).stderr
        assert first.execute("SELECT id FROM log").fetchall() == [("a",)]
    assert subprocess.run(attempt, check=False, timeout=240).returncode == 0


def test_descriptors_are_closed_with_the_last_connection(tmp_path):
    path, folder = make(tmp_path / "p.db", "a"), Path("/proc/self/fd")
    if not folder.is_dir():
        folder = Path("/dev/fd")
    before = len(list(folder.iterdir()))
    with contextlib.closing(open_file(f"{path.as_uri()}?mode=rw", path)):
        for _ in range(20):
            assert ids(path) == ["a"]
        assert len(list(folder.iterdir())) <= before + 6
    assert len(list(folder.iterdir())) == before


def test_a_writer_in_exclusive_mode_is_named(tmp_path):
    path = make(tmp_path / "p.db", "a")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA locking_mode = EXCLUSIVE")
        writer.execute("INSERT INTO log VALUES ('b')")
        script = (
            "import sys; from monitor.synclog import SyncLogSpec, verify; "
            "verify(SyncLogSpec(url=sys.argv[1], table='log', id_column='id', busy_timeout_s=0.1))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, f"sqlite:///{path}"],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
    assert "SyncLogUnavailableError" in done.stderr
    assert "locking_mode = EXCLUSIVE" in done.stderr


def test_a_table_whose_collation_belongs_to_the_application_is_read(tmp_path):
    path = tmp_path / "p.db"
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.create_collation("fold", lambda one, other: (one.lower() > other.lower()) - (one.lower() < other.lower()))
        conn.execute("CREATE TABLE log (id TEXT COLLATE fold PRIMARY KEY, same TEXT AS (id = 'A')) WITHOUT ROWID")
        conn.executemany("INSERT INTO log (id) VALUES (?)", [("b",), ("A",)])
        conn.execute("CREATE VIEW sorted AS SELECT id FROM log WHERE id > 'a'")
        conn.execute("CREATE VIEW made AS SELECT shout(id) AS id FROM log")
    assert ids(path) == ["A", "b"]
    with pytest.raises(SyncLogError, match="depends on the collation fold of the application"):
        ids(path, group_column="same")
    with pytest.raises(SyncLogError, match="no such collation sequence: fold; it belongs to the application"):
        ids(path, table="sorted")
    with pytest.raises(SyncLogError, match="no such function: shout; it belongs to the application"):
        ids(path, table="made")


@pytest.mark.parametrize("definition", ["id TEXT PRIMARY KEY, n INT", "n INT, id TEXT, PRIMARY KEY (n, id)"])
def test_a_utf_16_table_without_rowid_is_read_once_and_whole(tmp_path, definition):
    with contextlib.closing(sqlite3.connect(tmp_path / "p.db")) as conn, conn:
        conn.execute("PRAGMA encoding = 'UTF-16'")
        conn.execute(f"CREATE TABLE log ({definition}) WITHOUT ROWID")
        conn.executemany("INSERT INTO log (id, n) VALUES (?, ?)", [(f"ü{n:02}", n) for n in range(30)])
    assert ids(tmp_path / "p.db") == [f"ü{n:02}" for n in range(30)]
    assert [len(rows) for rows in read(spec_of(tmp_path / "p.db"), batch=10)] == [10, 10, 10]


def test_a_view_that_this_sqlite_cannot_parse_is_named(tmp_path):
    path = make(tmp_path / "p.db", "a", mode="DELETE")
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("INSERT INTO sqlite_master VALUES ('view', 'v2', 'v2', 0, 'CREATE VIEW v2 AS SELECT ( FROM log')")
    with pytest.raises(SyncLogError, match=r"malformed database schema \(v2\).*SQLite 3\.[0-9.]+ here may be older"):
        ids(path)


def test_a_named_pipe_is_no_sync_log(tmp_path):
    os.mkfifo(tmp_path / "p.db")
    with pytest.raises(SyncLogError, match="check that it is a file"):
        ids(tmp_path / "p.db")


def test_many_targets_read_one_file_at_once(tmp_path):
    path = make(tmp_path / "p.db", *map(str, range(2000)), mode="DELETE")
    results = []
    threads = [threading.Thread(target=lambda: results.append(len(ids(path)))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == [2000] * 8


def test_a_copy_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    path = make(tmp_path / "p.db", "a")
    (tmp_path / "p.db-wal").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(SyncLogError, match="can't be copied to the temporary folder"):
        ids(path)


def test_a_lock_is_a_fault_that_passes(tmp_path):
    path = make(tmp_path / "p.db", "a", mode="DELETE")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SyncLogUnavailableError, match="is locked by a writer"):
            ids(path, busy_timeout_s=0.05)
