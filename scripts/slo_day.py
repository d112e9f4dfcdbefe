"""Plays a day on a fast clock in which indexing slows, and prints what an objective says: `python scripts/slo_day.py`.

With `docs/slo.md` as argument it also replaces the transcript in that document. Only the clock is simulated, and the 27
days before are written as runs would have stored them: HTTP, SQLite and the wiring of the product are real.
"""

import argparse
import asyncio
import contextlib
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from support.memory import folder_in_memory
from support.receiver import Receiver

from monitor.app import App, open_database
from monitor.config import Config, load_config
from monitor.database.engine import reading, writing
from monitor.model.items import FirstCompletion
from monitor.reports.slos import SloRow, configured_slos, slos_text
from monitor.rollups.indexing import Watch
from monitor.rollups.indexing_store import count_completions
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run
from monitor.sandbox import Sandbox

BEGIN = datetime(2026, 3, 29, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
EVERY = 5 * MINUTE
UPLOADS = 6
"""Per run; one of a hundred was late in the days before."""
FAST, SLOW = 6 * MINUTE, 50 * MINUTE
"""How long indexing takes, in good times and in bad ones."""
SLOWS, RECOVERS = BEGIN + timedelta(hours=9), BEGIN + timedelta(hours=11)
FROM, UNTIL = BEGIN + timedelta(hours=8), BEGIN + timedelta(hours=13)
"""What is played; the rest of the day is like the days before."""
PLACEHOLDER = re.compile(r"(<!-- slo day -->\n```\n).*?(```\n)", re.DOTALL)

CONFIG = """\
database = "sqlite:///{folder}/monitor.db"

[schedule]
every = "5m"

[[targets]]
name = "gloo-prod"
provider = "gloo"
base_url = "{url}"
publisher_id = "{publisher}"
auth = {{ client_id = "{client_id}", client_secret = "{client_secret}" }}
check = {{ attempt_timeout = "30s", deadline = "60s", strategy = "items", stuck_after = "2h" }}
sync_log = {{ url = "sqlite:///{folder}/pipeline.db", submitted_at_column = "uploaded_at" }}

[[slos]]
name = "searchable in 15 minutes"
target = "gloo-*"
objective = 0.95
within = "15m"
window = "28d"

[[channels]]
name = "oncall"
type = "webhook"
url = "{channel}"
"""


@dataclass(slots=True, kw_only=True)
class Day:
    """The state of the day."""

    folder: Path
    engine: Sandbox
    channel: Receiver
    now: datetime = FROM
    lines: list[str] = field(default_factory=list)
    indexing: list[tuple[datetime, list[str]]] = field(default_factory=list)
    """Uploads that the engine has not indexed yet, and when it will have."""

    def log(self, text: str) -> None:
        """Adds a line with the time of day."""
        self.lines.append(f"{self.now:%H:%M}  {text}")

    def configure(self) -> Config:
        """Writes the configuration, and reads it."""
        settings = self.engine.settings
        content = CONFIG.format(
            folder=self.folder,
            url=self.engine.url,
            publisher=settings.publisher_id,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            channel=self.channel.url,
        )
        path = self.folder / "monitor.toml"
        path.write_text(content, encoding="utf-8")
        with contextlib.closing(sqlite3.connect(self.folder / "pipeline.db")) as conn, conn:
            conn.execute("CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)")
        return load_config(path, environ={})

    def upload(self) -> None:
        """The pipeline uploads, and records it a minute before the run."""
        made = self.engine.create_items(UPLOADS, status="CHUNKING")
        at = self.now - MINUTE
        with contextlib.closing(sqlite3.connect(self.folder / "pipeline.db")) as conn, conn:
            conn.executemany("INSERT INTO sync_log VALUES (?, ?)", [(each, at.isoformat()) for each in made])
        took = SLOW if SLOWS <= self.now < RECOVERS else FAST
        self.indexing.append((at + took, made))

    def index(self) -> None:
        """The engine indexes what is due."""
        for at, made in self.indexing:
            for item_id in made if at <= self.now else ():
                self.engine.set_status(item_id, "COMPLETED")
        self.indexing = [each for each in self.indexing if each[0] > self.now]

    def log_received(self) -> None:
        """Adds the messages received since the last call."""
        for _, _, body in self.channel.got:
            self.log(f"→ oncall: [{body['severity']}] {body['title']}")
            facts = body["facts"]
            names = ("objective", "in time", "error budget", "burn rate", "budget spent", "duration")
            self.lines += [f"         {name}: {facts[name]}" for name in names if name in facts]
        self.channel.got.clear()


def _past() -> Iterator[FirstCompletion]:
    """The uploads of 27 days and of the day's first hours, one of a hundred late."""
    at, number = BEGIN - 27 * DAY, 0
    while at < FROM:
        for _ in range(UPLOADS):
            number += 1
            took = 20 * MINUTE if number % 100 == 0 else FAST
            known = at + took - EVERY
            yield FirstCompletion(
                item_id=f"past-{number}",
                group=None,
                uploaded_at=at,
                upload_known=True,
                not_completed_at=known,
                at=at + took,
            )
        at += EVERY


def run_day() -> Day:
    """Plays the day."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slo-", dir=folder_in_memory())))
        sandbox, channel = stack.enter_context(Sandbox()), stack.enter_context(Receiver())
        day = Day(folder=folder, engine=sandbox, channel=channel)
        config = day.configure()
        engine = open_database(config)
        stack.callback(engine.dispose)
        with writing(engine) as conn:
            count_completions(conn, target="gloo-prod", completions=_past(), watch=Watch(usual_gap=EVERY))
        app = App(config=config, engine=engine, clock=lambda: day.now)
        while day.now <= UNTIL:
            if day.now in {SLOWS, RECOVERS}:
                day.log("indexing takes 50 minutes" if day.now == SLOWS else "indexing takes 6 minutes again")
            day.upload()
            day.index()
            asyncio.run(_tick(app))
            day.log_received()
            if day.now.minute == 0 or day.now == UNTIL:
                _log_slo(day, app)
            day.now += EVERY
        return day


async def _tick(app: App) -> None:
    (target,) = app.config.targets
    await Run(app.job(target), interrupt=asyncio.Event(), progress=NoProgress())()
    await app.sender().deliver()


def _log_slo(day: Day, app: App) -> None:
    day.log("$ ingestion-monitor slo")
    day.lines += [f"         {line}" for line in slos_text(_rows(app)).splitlines()]


def _rows(app: App) -> list[SloRow]:
    with reading(app.engine) as conn:
        return configured_slos(conn, app.config, targets=["gloo-prod"])


def transcript(day: Day) -> str:
    """What was said and shown, with times."""
    return "\n".join(day.lines) + "\n"


def main() -> None:
    """Prints the transcript, and renews the document."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("document", nargs="?", type=Path, help="the document whose transcript is replaced")
    given = options.parse_args()
    started = time.monotonic()
    text = transcript(run_day())
    if given.document:
        document = given.document.read_text(encoding="utf-8")
        given.document.write_text(PLACEHOLDER.sub(lambda match: match[1] + text + match[2], document), encoding="utf-8")
    sys.stdout.write(text)
    sys.stderr.write(f"({time.monotonic() - started:.0f} s)\n")


if __name__ == "__main__":
    main()
