"""The table of database faults for `make survive` and docs/faults-of-databases.md.

    python tests/survival/faults.py docs/faults-of-databases.md

rewrites the table of the document.
"""

import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from support.memory import folder_in_memory
from survival import postgres_faults, sqlite_faults
from survival.server import own_server

TITLE = "Faults of databases"
HEAD = ("fault", "database", "command", "ended", "said", "half-written rows", "whole again after")
MAX_RECOVERY_S = 60
"""From the end of a fault to the next consistent state: an unreleased lease and a run, on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultCase:
    """The promise about one fault."""

    name: str
    """The function in `postgres_faults` or `sqlite_faults`."""
    fault: str
    command: str = "check"
    ended: str
    said: str
    """The rest of the message after `database SQLite …`; empty: no message."""
    remedy: str
    short: bool = False
    """Whether the test suite plays it."""


AWAY = "can't be reached; check that the server runs and that host and port are right"
LOST = "dropped the connection; check that the server runs, then run again"
LOCKED = "is locked by another process; try again, or end the process that holds it"
DAMAGED = "is not a SQLite database, or is damaged; name another file, or restore a copy"
NOTHING = "nothing: the run waits for 30 s, and writes nothing twice"

ON_POSTGRES = (
    FaultCase(name="restarted", fault="server restarted (immediate) during a run", ended="exit 0", said="", short=True,
            remedy=NOTHING),
    FaultCase(name="sessions_killed", fault="all sessions killed three times during a run", ended="exit 0", said="",
            remedy=NOTHING),
    FaultCase(name="killed_while_closing", fault="session killed while the run closes", ended="exit 0", said=LOST,
            short=True, remedy=NOTHING),
    FaultCase(name="crowded", fault="no connection left (`max_connections`)", ended="exit 3", short=True,
            said="has no connection left; end some sessions, or raise max_connections",
            remedy="end sessions, or raise `max_connections`"),
    FaultCase(name="read_only", fault="read-only transactions (a standby)", ended="exit 3", short=True,
            said="can't be written: it, its folder or its server is read-only; allow this user to write",
            remedy="name the primary server"),
    FaultCase(name="without_rights", fault="role without the right to write", ended="exit 3",
            said="refused access: this user lacks a privilege; grant it", remedy="grant it"),
    FaultCase(name="daemon_through_a_restart", fault="server restarted (immediate) between runs", command="daemon",
            ended="continued by itself", said="", remedy="nothing"),
    FaultCase(name="frozen", fault="server frozen for 20 s", ended="exit 0", said="",
            remedy="nothing; what takes over two minutes ends the run"),
    FaultCase(name="stopped_for_long", fault="server down for longer than 30 s", ended="exit 3", said=AWAY,
            remedy="start it; the next run asks again what was not stored"),
    FaultCase(name="silent", fault="network silent forever during a run", ended="exit 3", said="",
            remedy="look at the network; the run ends within three minutes"),
)  # fmt: skip
ON_SQLITE = (
    FaultCase(name="file_limit", fault="no file may grow (a quota)", ended="exit 3", said="can't be read or written on",
            remedy="raise the limit", short=True),
    FaultCase(name="not_a_database", fault="not a database any more", ended="exit 3", said=DAMAGED,
            remedy="restore a copy"),
    FaultCase(name="damaged_page", fault="a page of the work list damaged", ended="exit 3", said=DAMAGED, short=True,
            remedy="restore a copy"),
    FaultCase(name="deleted_under_a_daemon", fault="deleted under a daemon, then restored from a copy",
            command="daemon", ended="continued by itself", said="can't be opened", short=True,
            remedy="restore a copy: the daemon takes it up, and writes nothing into the deleted file"),
    FaultCase(name="wal_deleted_under_a_daemon", fault="`-wal` and `-shm` deleted under a daemon", command="daemon",
            ended="continued by itself", said="", remedy="nothing, but exclude these files from clean-up jobs"),
    FaultCase(name="locked_in_mid_run", fault="locked by another process for 20 s during a run", ended="exit 0",
            said=LOCKED, remedy="nothing: the run waits for 30 s"),
    FaultCase(name="locked_at_the_start", fault="locked at the start, for longer than 10 s", ended="exit 3",
            said=LOCKED,
            remedy="end the process that holds it"),
    FaultCase(name="locked_for_ever", fault="locked during a run and never released", ended="exit 3", said=LOCKED,
            remedy="end the process that holds it"),
    FaultCase(name="locked_under_a_daemon", fault="locked until a run gives up", command="daemon",
            ended="continued by itself", said=LOCKED, remedy="end the process that holds it; the next tick runs"),
    FaultCase(name="disk_full", fault="disk full during a run (a small tmpfs; as root)", ended="exit 3",
            said="has no space left; free some and run again", remedy="free some space"),
    FaultCase(name="read_only_disk", fault="file system mounted read-only (as root)", ended="exit 3",
            said="can't be opened", remedy="mount it for writing"),
)  # fmt: skip
AS_ROOT = {function.__name__ for function in sqlite_faults.AS_ROOT}


def kept(case, row):
    """The parts of a promise that did not hold; empty if all did."""
    broken = [] if row.ended == case.ended else [f"ended: {row.ended}"]
    broken += [] if case.said in row.said else [f"said: {row.said}"]
    broken += [f"{row.half_written} half-written rows"] if row.half_written else []
    return broken + ([f"recovered in {row.recovered_s:.0f} s"] if row.recovered_s > MAX_RECOVERY_S else [])


def rows(*, full=True, seed=0, postgres_url=""):
    """The rows of `make survive`: whether the promise holds, and the cells. The server is one of our own."""
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as name, own_server() as server:
        folder = Path(name)
        tried = [(case, partial(getattr(postgres_faults, case.name), server, folder)) for case in ON_POSTGRES]
        tried += [(case, partial(getattr(sqlite_faults, case.name), folder)) for case in _on_sqlite()]
        for case, attempt in tried:
            if full or case.short:
                row = attempt()
                yield not kept(case, row), _cells(case, row)


def _on_sqlite():
    return [case for case in ON_SQLITE if case.name not in AS_ROOT or sqlite_faults.may_mount()]


def _cells(case, row):
    return (
        case.fault,
        row.database,
        row.command,
        row.ended,
        row.said,
        str(row.half_written),
        f"{row.recovered_s:.0f} s",
    )


def table():
    """The table of the document."""
    head = ("what happens", "`check` or `daemon`", "it says", "what to do")
    lines = []
    for title, promises in (("PostgreSQL", ON_POSTGRES), ("SQLite", ON_SQLITE)):
        lines += [f"### {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        lines += [
            f"| {each.fault} | `{each.command}`: {each.ended} | {each.said or '–'} | {each.remedy} |"
            for each in promises
        ]
        lines.append("")
    return "\n".join(lines)


BEGINS, ENDS = "<!-- table: tests/survival/faults.py -->\n", "<!-- end of the table -->"


def written(document):
    """The document with the current table."""
    before, _, rest = document.partition(BEGINS)
    return f"{before}{BEGINS}\n{table()}\n{ENDS}{rest.partition(ENDS)[2]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
