"""Plays a night of faults at the simulated data engine on a fast clock, and prints the messages: `make drill`.

With `docs/incidents.md` as argument it also replaces the transcript in that document; `--keep FOLDER` keeps the
configuration and the databases. Only the clock is simulated: HTTP, SQLite and the wiring of the product are real.
"""

import argparse
import asyncio
import contextlib
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import Engine
from support.memory import folder_in_memory
from support.receiver import Receiver

from monitor.app import App, open_database
from monitor.config import Config, load_config
from monitor.database.engine import reading
from monitor.incidents import store as incident_store
from monitor.model import Incident, IncidentState
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run
from monitor.sandbox import Sandbox

BEGIN = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
EVERY = timedelta(minutes=5)
HOURS = 10
DOCUMENTS = 60
MAX_PER_HOUR = 6
PLACEHOLDER = re.compile(r"(<!-- drill -->\n```\n).*?(```\n)", re.DOTALL)

CONFIG = """\
database = "sqlite:///{folder}/monitor.db"
environment = "production"

[schedule]
every = "5m"

{targets}
[[channels]]
name = "slack"
type = "slack"
url = "{slack}"

[[channels]]
name = "tickets"
type = "webhook"
url = "{tickets}"

[[channels]]
name = "audit"
type = "webhook"
url = "{audit}"

[[routes]]
channels = ["audit"]
continue = true

[[routes]]
match = {{ team = ["pipeline", "account"] }}
channels = ["tickets"]

[[routes]]
channels = ["slack"]
"""

TARGET = """\
[[targets]]
name = "{name}"
provider = "gloo"
base_url = "{url}"
publisher_id = "{publisher}"
auth = {auth}
check = {{ {timeouts}, max_attempts = 2, strategy = "items" }}
sync_log = {{ url = "sqlite:///{folder}/{name}.db", submitted_at_column = "uploaded_at" }}
{more}
"""

NORMAL_TIMEOUTS = 'attempt_timeout = "30s", deadline = "60s"'
"""Long, so that a slow machine causes no timeouts."""
SHORT_TIMEOUTS = 'attempt_timeout = "200ms", deadline = "20s"'
"""For the hours in which the engine never answers."""


@dataclass(slots=True, kw_only=True)
class Drill:
    """The state of the night."""

    folder: Path
    engine: Sandbox
    """The engine of gloo-eu and gloo-us, with one client for both."""
    archive: Sandbox
    """The engine of archive, with its own API key."""
    receivers: dict[str, Receiver]
    begin: datetime = BEGIN
    now: datetime = BEGIN
    more_config: str = ""
    """Further sections of the configuration."""
    more_of_targets: Mapping[str, str] = field(default_factory=dict)
    """Further lines of single targets."""
    timeouts: str = NORMAL_TIMEOUTS
    """Timeouts for the engine of gloo-eu and gloo-us."""
    lines: list[str] = field(default_factory=list)
    received: Counter[str] = field(default_factory=Counter)
    by_hour: Counter[tuple[str, datetime]] = field(default_factory=Counter)
    items: dict[str, list[str]] = field(default_factory=dict)

    def log(self, text: str) -> None:
        """Adds a line with the time of the night."""
        self.lines.append(f"{self.now:%H:%M}  {text}")

    def record(self, target: str, item_ids: list[str]) -> None:
        """Writes items into a sync log, as the pipeline does."""
        with contextlib.closing(sqlite3.connect(self.folder / f"{target}.db")) as conn, conn:
            conn.execute("CREATE TABLE IF NOT EXISTS sync_log (item_id TEXT, uploaded_at TEXT)")
            conn.executemany("INSERT INTO sync_log VALUES (?, ?)", [(each, self.now.isoformat()) for each in item_ids])

    def upload(self, target: str, count: int, status: str = "COMPLETED") -> list[str]:
        """Uploads documents and records them in the sync log."""
        sandbox = self.archive if target == "archive" else self.engine
        made = sandbox.create_items(count, status=status)
        self.record(target, made)
        self.items.setdefault(target, []).extend(made)
        return made

    def configure(self) -> Config:
        """The configuration with the present URLs and timeouts."""
        settings = self.engine.settings
        client = f'{{ client_id = "{settings.client_id}", client_secret = "{settings.client_secret}" }}'
        key = f'{{ api_key = "{settings.api_key}" }}'
        which = (
            ("gloo-eu", self.engine, client, self.timeouts),
            ("gloo-us", self.engine, client, self.timeouts),
            ("archive", self.archive, key, NORMAL_TIMEOUTS),
        )
        about = {"publisher": settings.publisher_id, "folder": self.folder}
        targets = "\n".join(
            TARGET.format(
                name=name,
                url=sandbox.url,
                auth=auth,
                timeouts=timeouts,
                more=self.more_of_targets.get(name, ""),
                **about,
            )
            for name, sandbox, auth, timeouts in which
        )
        urls = {name: receiver.url for name, receiver in self.receivers.items()}
        path = self.folder / "monitor.toml"
        path.write_text(CONFIG.format(folder=self.folder, targets=targets, **urls) + self.more_config, encoding="utf-8")
        return load_config(path, environ={})

    def log_received(self) -> None:
        """Adds the messages received since the last call: equal ones on one line, with all their receivers."""
        got: dict[str, list[str]] = {}
        for name, receiver in self.receivers.items():
            for _, _, body in receiver.got:
                got.setdefault(_title(body), []).append(name)
                self.received[name] += 1
                self.by_hour[name, self.now.replace(minute=0)] += 1
            receiver.got.clear()
        for title, names in got.items():
            self.log(f"  → {', '.join(names)}: {title}")


def _title(body: dict[str, object]) -> str:
    """The title of a message: Slack's header, or a webhook's title."""
    if "blocks" in body:
        return str(body["blocks"][0]["text"]["text"]).partition(" ")[2]
    return str(body["title"])


def _break_engine(drill_run: Drill) -> None:
    for fault in ("502:share=0.4", "drop:share=0.5", "503:share=0.5"):
        drill_run.engine.add_fault(f"{fault},path=/engine")
    drill_run.engine.add_fault(path="/engine", delay_s=0.4, passes=True)
    drill_run.timeouts = SHORT_TIMEOUTS


def _restore_engine(drill_run: Drill) -> None:
    drill_run.engine.clear_faults()
    drill_run.timeouts = NORMAL_TIMEOUTS


def _record_missing_items(drill_run: Drill) -> None:
    drill_run.record("gloo-eu", [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)])


def _upload_missing_items(drill_run: Drill) -> None:
    gone = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
    with contextlib.closing(sqlite3.connect(drill_run.folder / "gloo-eu.db")) as conn, conn:
        conn.executemany("DELETE FROM sync_log WHERE item_id = ?", [(each,) for each in gone])
    drill_run.upload("gloo-eu", 3)


def _hang_items(drill_run: Drill) -> None:
    drill_run.items["stuck"] = drill_run.upload("gloo-us", 40, "CHUNKING")


def _finish_items(drill_run: Drill) -> None:
    for item_id in drill_run.items["stuck"]:
        drill_run.engine.set_status(item_id, "COMPLETED")


def _restore_item(drill_run: Drill) -> None:
    drill_run.engine.assign_to_other_publisher(drill_run.items["gloo-us"][0], drill_run.engine.settings.publisher_id)


def _rate_limit(drill_run: Drill) -> None:
    drill_run.archive.add_fault("429:header.Retry-After=600,path=/engine")


def _lose_item(drill_run: Drill) -> None:
    drill_run.engine.assign_to_other_publisher(drill_run.items["gloo-us"][0])


TIMELINE: list[tuple[str, str, Callable[[Drill], object]]] = [
    (
        "22:30",
        "the client of gloo-eu and gloo-us is rotated, but not in the configuration",
        lambda n: n.engine.revoke_client(),
    ),
    ("23:15", "the configuration has the new client", lambda n: n.engine.restore_client()),
    ("23:30", "a bulk upload exceeds the rate limit of archive: 429, Retry-After 10 min", _rate_limit),
    ("00:10", "the bulk upload ends", lambda n: n.archive.clear_faults()),
    ("00:20", "Slack goes down", lambda n: n.receivers["slack"].stop()),
    ("00:30", "the engine of gloo-eu and gloo-us fails: 502, 503, resets, timeouts", _break_engine),
    ("01:20", "Slack is up again", lambda n: n.receivers["slack"].start()),
    ("02:30", "the engine is up again", _restore_engine),
    ("03:00", "3 uploads of gloo-eu are recorded but never arrived", _record_missing_items),
    ("03:30", "40 uploads of gloo-us get stuck in CHUNKING", _hang_items),
    ("04:30", "a document of gloo-us is moved to another publisher", _lose_item),
    ("06:30", "the 3 documents are uploaded again", _upload_missing_items),
    ("07:00", "the 40 uploads complete", _finish_items),
    ("07:30", "the document is moved back", _restore_item),
]


async def _tick(app: App) -> None:
    runs = [Run(app.job(target), interrupt=asyncio.Event(), progress=NoProgress())() for target in app.config.targets]
    await asyncio.gather(*runs)
    sender = app.sender()
    sender._rand = lambda: 1.0  # no jitter: the same waits every time
    await sender.deliver()


@contextlib.contextmanager
def night(folder: Path, *, begin: datetime = BEGIN) -> Iterator[Drill]:
    """The engines and receivers of a night that begins at `begin`, and 60 documents per target."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with contextlib.ExitStack() as stack:
        drill_run = Drill(
            folder=folder,
            engine=stack.enter_context(Sandbox()),
            archive=stack.enter_context(Sandbox()),
            receivers={name: stack.enter_context(Receiver()) for name in ("slack", "tickets", "audit")},
            begin=begin,
            now=begin,
        )
        drill_run.receivers["slack"].answers = [(200, {}, b"ok")]
        for target in ("gloo-eu", "gloo-us", "archive"):
            drill_run.upload(target, DOCUMENTS)
        yield drill_run


def play(
    drill_run: Drill, engine: Engine, *, hours: float = HOURS, each_tick: Callable[[Drill], object] = lambda _: None
) -> None:
    """Plays the night's first hours; `each_tick` is called before each check."""
    timeline = [(drill_run.begin + _since_begin(when), what, act) for when, what, act in TIMELINE]
    while drill_run.now < drill_run.begin + timedelta(hours=hours):
        for when, what, act in timeline:
            if when == drill_run.now:
                drill_run.log(what)
                act(drill_run)
        each_tick(drill_run)
        # a new App for each tick, as with cron: all state is in the database
        asyncio.run(_tick(App(config=drill_run.configure(), engine=engine, clock=lambda: drill_run.now)))
        drill_run.log_received()
        drill_run.now += EVERY


def _since_begin(clock: str) -> timedelta:
    hour, minute = map(int, clock.split(":"))
    return timedelta(hours=(hour - BEGIN.hour) % 24, minutes=minute)


def run_drill(keep: Path | None = None) -> tuple[Drill, list[str]]:
    """Plays the night; returns it with the problems at its end.

    Args:
        keep: an empty folder for the configuration and the databases; None: a temporary one.
    """
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-", dir=folder_in_memory())))
        drill_run = stack.enter_context(night(folder))
        engine = open_database(drill_run.configure())
        stack.callback(engine.dispose)
        play(drill_run, engine)
        with reading(engine) as conn:
            incidents = incident_store.list_incidents(conn)
        return drill_run, _problems(drill_run, incidents)


def _problems(drill_run: Drill, incidents: list[Incident]) -> list[str]:
    open_incidents = [each for each in incidents if each.state is not IncidentState.RESOLVED]
    problems = [f"incident {each.id} ({each.target}, {each.cause}) is open" for each in open_incidents]
    storms = [(name, hour, count) for (name, hour), count in drill_run.by_hour.items() if count > MAX_PER_HOUR]
    return problems + [f"{name} got {count} messages in the hour from {hour:%H:%M}" for name, hour, count in storms]


def transcript(drill_run: Drill) -> str:
    """The timeline and the totals."""
    totals = ", ".join(f"{name} {drill_run.received[name]}" for name in drill_run.receivers)
    most = max(drill_run.by_hour.values())
    runs = 3 * int(timedelta(hours=HOURS) / EVERY)
    return (
        "\n".join([*drill_run.lines, "", f"{runs} runs; messages: {totals}; at most {most} an hour to one receiver."])
        + "\n"
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("document", nargs="?", type=Path, help="the document whose transcript is replaced")
    options.add_argument("--keep", type=Path, help="a new folder for the configuration and the databases")
    given = options.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True)
    started = time.monotonic()
    drill_run, problems = run_drill(given.keep and given.keep.resolve())
    text = transcript(drill_run)
    if given.document:
        document = given.document.read_text(encoding="utf-8")
        given.document.write_text(PLACEHOLDER.sub(lambda match: match[1] + text + match[2], document), encoding="utf-8")
    sys.stdout.write(text)
    sys.stderr.writelines(f"WRONG: {each}\n" for each in problems)
    sys.stderr.write(f"({time.monotonic() - started:.0f} s)\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
