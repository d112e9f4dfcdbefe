"""A private PostgreSQL server whose CPU is counted. Linux only: it reads /proc."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.postgres import private_server

__all__ = ["Postgres", "running", "vacuum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A server."""

    url: str
    postmaster: int
    """Its process."""

    def create(self, name: str, *, template: str = "template1") -> str:
        """Makes a database, as a copy of the template, and returns its URL."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return f"{self.url.removesuffix('/postgres')}/{name}"

    def cpu_s(self) -> float:
        """CPU seconds so far: the postmaster's, its ended processes' and its living ones'."""
        pages = [_stat(self.postmaster)]
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                stat = _stat(int(path.name))
                if int(stat[1]) == self.postmaster:
                    pages.append(stat)
        return sum(int(value) for page in pages for value in page[11:15]) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """proc_pid_stat(5) from the state on: 1 is the parent, 11 to 14 are utime, stime, cutime and cstime."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def vacuum(url: str) -> None:
    """Does at once what autovacuum, which is off in this server, does after many changes."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """Starts a server and ends it."""
    with private_server() as url:
        with psycopg.connect(url) as conn:
            query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
            checkpointer = next(iter(conn.execute(query).fetchone() or ()), 0)
        yield Postgres(url=url, postmaster=int(_stat(checkpointer)[1]))
