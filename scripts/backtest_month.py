"""Writes the transcripts of `rules backtest` in a document: `backtest_month.py docs/backtest.md`.

The month is made of 29 quiet days, with an occasional blip, and the night of `make drill`. The quiet days are rows of
runs in which nothing happened; the blips and the night are evaluated by the product.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from drill import BEGIN, EVERY, HOURS, run_drill
from sqlalchemy import insert
from support.memory import folder_in_memory

from monitor.database.engine import connect, writing
from monitor.database.schema import upgrade
from monitor.database.tables import runs
from monitor.incidents.evaluate import IncidentEvaluator
from monitor.incidents.members import AgeLimits
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, Evidence, RunStatus
from monitor.notifications.messages import RunFacts
from monitor.runs import store as run_store

DAYS = 29
TARGETS = ("gloo-eu", "gloo-us", "archive")
BLIPS = (
    (3, 9, "gloo-eu", Cause.OUTAGE, 1),
    (9, 14, "gloo-us", Cause.OUTAGE, 1),
    (16, 2, "archive", Cause.RATE_LIMITED, 2),
    (17, 11, "gloo-eu", Cause.OUTAGE, 1),
    (23, 4, "gloo-eu", Cause.UNAUTHORIZED, 1),
    (26, 20, "archive", Cause.RATE_LIMITED, 2),
)
"""Day, hour, target, cause, and runs in a row with evidence: too few for the built-in rules."""
STRICTER = """\
[[rules]]
cause = "outage"         # page at the first run
runs = 1
for = "0s"

[[rules]]
cause = "rate_limited"   # 2 of 5 instead of 3 of 5
runs = 2
of = 5

[[rules]]
cause = "items_stuck"    # only if they stay so for an hour
runs = 12
for = "50m"
window = "90m"
"""
_TRANSCRIPT = re.compile(r"(<!-- backtest: (.*?) -->\n```\n).*?(```\n)", re.DOTALL)
_RULES = re.compile(r"(<!-- stricter.toml -->\n```toml\n).*?(```\n)", re.DOTALL)


def fill(url: str) -> None:
    """The quiet days before the night."""
    upgrade(url)
    engine = connect(url)
    start = BEGIN - timedelta(days=DAYS)
    blips: dict[tuple[str, datetime], Cause] = {}
    for day, hour, target, cause, length in BLIPS:
        first = start + timedelta(days=day, hours=hour - start.hour)
        blips |= {(target, first + n * EVERY): cause for n in range(length)}
    with writing(engine) as conn:
        at = start
        while at < BEGIN:
            for target in TARGETS:
                cause = blips.get((target, at))
                if cause is None:
                    conn.execute(insert(runs), _quiet(target, at))
                else:
                    _blip(conn, target, at, cause)
            at += EVERY
    engine.dispose()


def _quiet(target: str, at: datetime) -> dict[str, object]:
    return {
        "target": target, "environment": "production", "epoch": 0, "status": RunStatus.COMPLETE.value, "due": 60,
        "answered": 60, "accepted": 60, "started_at": at, "finished_at": at,
    }  # fmt: skip


def _blip(conn, target: str, at: datetime, cause: Cause) -> None:
    run_id = run_store.start(conn, target=target, environment="production", run_key=None, epoch=0, started_at=at)
    run_store.finish(
        conn, run_id=run_id, status=RunStatus.PARTIAL, abort_reason=None, owner_cause=cause, due=60, answered=4,
        accepted=4, error=None, finished_at=at, snapshot=None,
    )  # fmt: skip
    evaluator = IncidentEvaluator(
        target=target, environment="production", rules=DEFAULT_RULES, route=lambda _: ("slack",),
        age_limits=AgeLimits(stuck_after=timedelta(minutes=30), missing_after=timedelta(minutes=15)),
    )  # fmt: skip
    facts = RunFacts(run_id=run_id, status=RunStatus.PARTIAL, total=60, unknown=56, answered=4, accepted=4)
    evaluator.evaluate(conn, facts=facts, evidence=[Evidence(cause=cause, count=56)], now=at, sync_log_empty=False)


def run_command(arguments: Sequence[str], folder: Path) -> str:
    """What the command prints on stdout; SystemExit with its errors if it fails."""
    command = [sys.executable, "-m", "monitor", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def main() -> int:
    document = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="month-", dir=folder_in_memory()) as name:
        folder = Path(name)
        fill(f"sqlite:///{folder}/monitor.db")
        _, problems = run_drill(folder)
        if problems:
            sys.exit("\n".join(problems))
        (folder / "stricter.toml").write_text(STRICTER, encoding="utf-8")

        def transcript(match: re.Match[str]) -> str:
            until = (BEGIN + timedelta(hours=HOURS)).strftime("%Y-%m-%dT%H:%M")
            printed = run_command([*match[2].split()[1:], "--until", until], folder)
            return f"{match[1]}$ {match[2]}\n{printed}{match[3]}"

        text = _TRANSCRIPT.sub(transcript, document.read_text(encoding="utf-8"))
        text = _RULES.sub(lambda match: match[1] + STRICTER + match[2], text)
    document.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
