"""Faults of a SQLite database by other processes, disks and people, on real files: one row of the table each."""

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from support.observed import until
from support.world import environment
from survival.fault_runner import FaultResult, faulty, recover, row, said, start_mid_run

EVERY_SECOND = '[schedule]\nevery = "1s"\n'


@contextlib.contextmanager
def on(folder, name, **options):
    """A World on a new file in its own folder."""
    (folder / name).mkdir()
    with faulty(folder / name, f"sqlite:///{folder / name / 'monitor.db'}", **options) as world:
        yield world


def file_of(world):
    return Path(world.database.removeprefix("sqlite:///"))


@contextlib.contextmanager
def locked(world, how="IMMEDIATE"):
    """Another process's transaction on the database."""
    with contextlib.closing(sqlite3.connect(file_of(world), isolation_level=None, timeout=30)) as other:
        other.execute(f"BEGIN {how}")
        yield
        other.execute("ROLLBACK")


def locked_in_mid_run(folder, seconds=20):
    with on(folder, "locked") as world:
        process = start_mid_run(world)
        with locked(world):
            time.sleep(seconds)
        return row(world, f"locked by another process for {seconds} s during a run", process, over_s=time.monotonic())


def locked_at_the_start(folder):
    with on(folder, "start") as world, contextlib.ExitStack() as lock:
        lock.enter_context(locked(world, "EXCLUSIVE"))
        process = world.start("check", "--json")
        process.wait(timeout=100)
        lock.close()
        return row(world, "locked at the start, for longer than 10 s", process, over_s=time.monotonic())


def locked_for_ever(folder):
    with on(folder, "forever") as world, contextlib.ExitStack() as lock:
        process = start_mid_run(world)
        lock.enter_context(locked(world))
        process.wait(timeout=100)
        lock.close()
        return row(world, "locked during a run and never released", process, over_s=time.monotonic())


def file_limit(folder):
    """Like a quota: no file can grow any more."""
    with on(folder, "limited") as world:
        most = 1 << 15

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "check", "--json", "--config", str(world.config_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # coverage could not write its data file in this process
            env={name: value for name, value in environment().items() if not name.startswith("COVERAGE_")},
            cwd=world.folder,
            preexec_fn=limit,  # noqa: PLW1509  # no thread of ours runs yet that could hold a lock
        )
        process.wait(timeout=100)
        return row(world, "no file may grow (a quota)", process, over_s=time.monotonic())


def not_a_database(folder):
    with on(folder, "nodb") as world:
        kept = file_of(world).read_bytes()
        file_of(world).write_bytes(b"This was a database once. " * 400)
        process = world.start("check", "--json")
        process.wait(timeout=100)
        file_of(world).write_bytes(kept)
        return row(world, "not a database any more", process, over_s=time.monotonic())


def damaged_page(folder):
    with on(folder, "damaged") as world:
        world.cli("check", "--quiet")
        kept = file_of(world).read_bytes()
        _spoil(file_of(world))
        process = world.start("check", "--json")
        process.wait(timeout=100)
        file_of(world).write_bytes(kept)
        return row(world, "a page of the work list damaged", process, over_s=time.monotonic())


def _spoil(path):
    """Overwrites the first page of the table `items`, so that it cannot be read any more."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'items'").fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


def deleted_under_a_daemon(folder):
    def act(world):
        kept = file_of(world).with_name("kept.db")
        with contextlib.closing(sqlite3.connect(file_of(world))) as conn:
            conn.execute("VACUUM INTO ?", (str(kept),))
        for name in ("monitor.db", "monitor.db-wal", "monitor.db-shm"):
            (world.folder / name).unlink(missing_ok=True)
        yield
        kept.rename(file_of(world))

    return _under_a_daemon(folder, "deleted", "deleted under a daemon, then restored from a copy", act)


def wal_deleted_under_a_daemon(folder):
    def act(world):
        for name in ("monitor.db-wal", "monitor.db-shm"):
            (world.folder / name).unlink(missing_ok=True)
        yield

    return _under_a_daemon(folder, "nowal", "-wal and -shm deleted under a daemon", act, patience_s=3)


def locked_under_a_daemon(folder):
    def act(world):
        with locked(world):
            yield

    return _under_a_daemon(folder, "busy", "locked until a run gives up", act)


def _under_a_daemon(folder, name, fault, act, *, patience_s=60):
    with on(folder, name, more=EVERY_SECOND) as world, contextlib.ExitStack() as daemon:
        log = daemon.enter_context(_daemon(world))
        until(lambda: _finished(log) >= 2, "two runs", timeout_s=60)
        acting = act(world)
        next(acting)
        with contextlib.suppress(AssertionError):
            until(lambda: "database_not_ready" in "".join(log), "a logged failure", timeout_s=patience_s)
        next(acting, None)
        over_s, before = time.monotonic(), _finished(log)
        until(lambda: _finished(log) > before + 1, "a run after it", timeout_s=60)
        recovered_s = time.monotonic() - over_s
        half, _ = recover(world, over_s, after=daemon.close)
    return FaultResult(
        fault=fault,
        database="SQLite",
        command="daemon",
        ended="continued by itself",
        said=said("".join(log)),
        half_written=half,
        recovered_s=recovered_s,
    )


@contextlib.contextmanager
def _daemon(world):
    """A daemon, and the lines of its log."""
    process, lines = world.start("daemon"), []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr))
    reader.start()
    try:
        yield lines
    finally:
        process.terminate()
        process.wait(timeout=30)
        reader.join()
        process.stdout.close()
        process.stderr.close()


def _finished(log):
    return sum('"run_finished"' in line for line in log)


@contextlib.contextmanager
def small_disk(folder, mib):
    """A file system of this many MiB; mounting it needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def disk_full(folder):
    """The disk becomes full during a run: there is no space for the WAL either."""
    with (
        small_disk(folder / "small", 8) as small,
        faulty(small / "full", f"sqlite:///{small}/full/monitor.db") as world,
    ):
        process = start_mid_run(world)
        filler = small / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        process.wait(timeout=100)
        filler.unlink()
        return row(world, "disk full during a run (tmpfs)", process, over_s=time.monotonic())


def read_only_disk(folder):
    with small_disk(folder / "ro", 16) as small, faulty(small / "ro", f"sqlite:///{small}/ro/monitor.db") as world:
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        process = world.start("check", "--json")
        process.wait(timeout=100)
        subprocess.run(["mount", "-o", "remount,rw", small], check=True)
        return row(world, "file system mounted read-only", process, over_s=time.monotonic())


AS_ROOT = (disk_full, read_only_disk)


def may_mount():
    """Whether this process is root with the right to mount."""
    return (
        os.geteuid() == 0
        and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    )
