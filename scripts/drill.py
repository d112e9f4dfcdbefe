"""A night at the simulated data engine on a fast clock, and what people were told of it: `make drill`.

`python scripts/drill.py` plays it and prints the timeline; with `docs/incidents.md` behind it, it makes the transcript
in that document anew; `--keep FOLDER` leaves the night's database to look at. Everything in it is real but the clock:
HTTP over loopback, SQLite, and the product's own wiring.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from support.memory import folder_in_memory
from support.receiver import Receiver

from monitor.app import App, open_store
from monitor.config import Config
from monitor.database.engine import reading
from monitor.incidents import store as incidents
from monitor.model import Incident, IncidentState
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run
from monitor.sandbox import Sandbox

BEGIN = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
EVERY = timedelta(minutes=5)
HOURS = 10
DOCUMENTS = 60
MOST_AN_HOUR = 6
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
check = {{ {patience}, max_attempts = 2, strategy = "items" }}
sync_log = {{ url = "sqlite:///{folder}/{name}.db", submitted_at_column = "uploaded_at" }}
"""

PATIENT = 'attempt_timeout = "30s", deadline = "60s"'
"""A machine that is slow is no fault of the engine's."""
HASTY = 'attempt_timeout = "200ms", deadline = "2s"'
"""While answers are waited for that never come."""


@dataclass(slots=True, kw_only=True)
class Night:
    """The night under way."""

    folder: Path
    engine: Sandbox
    """What gloo-eu and gloo-us are uploaded to, with one client for both."""
    archive: Sandbox
    """What archive is uploaded to, with an API key of its own."""
    receivers: dict[str, Receiver]
    now: datetime = BEGIN
    patience: str = PATIENT
    """How long the runs wait for the engine of gloo-eu and gloo-us."""
    lines: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    by_hour: Counter[tuple[str, datetime]] = field(default_factory=Counter)
    items: dict[str, list[str]] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Takes a line down under the time of the night."""
        self.lines.append(f"{self.now:%H:%M}  {text}")

    def record(self, target: str, item_ids: list[str]) -> None:
        """What the pipeline writes into its sync log."""
        with contextlib.closing(sqlite3.connect(self.folder / f"{target}.db")) as conn, conn:
            conn.execute("CREATE TABLE IF NOT EXISTS sync_log (item_id TEXT, uploaded_at TEXT)")
            conn.executemany("INSERT INTO sync_log VALUES (?, ?)", [(each, self.now.isoformat()) for each in item_ids])

    def upload(self, target: str, count: int, status: str = "COMPLETED") -> list[str]:
        """Documents that arrive, and stand in the sync log."""
        sandbox = self.archive if target == "archive" else self.engine
        made = sandbox.create_items(count, status=status)
        self.record(target, made)
        self.items.setdefault(target, []).extend(made)
        return made

    def configure(self) -> Config:
        """The configuration, with the addresses and the patience of this hour."""
        settings = self.engine.settings
        client = f'{{ client_id = "{settings.client_id}", client_secret = "{settings.client_secret}" }}'
        key = f'{{ api_key = "{settings.api_key}" }}'
        which = (
            ("gloo-eu", self.engine, client, self.patience),
            ("gloo-us", self.engine, client, self.patience),
            ("archive", self.archive, key, PATIENT),
        )
        about = {"publisher": settings.publisher_id, "folder": self.folder}
        targets = "\n".join(
            TARGET.format(name=name, url=sandbox.url, auth=auth, patience=patience, **about)
            for name, sandbox, auth, patience in which
        )
        urls = {name: receiver.url for name, receiver in self.receivers.items()}
        path = self.folder / "monitor.toml"
        path.write_text(CONFIG.format(folder=self.folder, targets=targets, **urls), encoding="utf-8")
        return Config.load(path, environ={})

    def heard(self) -> None:
        """Takes down what the receivers got since the last time: alike messages on one line, with all who got them."""
        got: dict[str, list[str]] = {}
        for name, receiver in self.receivers.items():
            for _, _, body in receiver.got:
                got.setdefault(_title(body), []).append(name)
                self.told[name] += 1
                self.by_hour[name, self.now.replace(minute=0)] += 1
            receiver.got.clear()
        for title, names in got.items():
            self.say(f"  → {', '.join(names)}: {title}")


def _title(body: dict[str, object]) -> str:
    """What a message says in one line: Slack's header, or a webhook's title with its severity."""
    if "blocks" in body:
        return str(body["blocks"][0]["text"]["text"]).partition(" ")[2]
    return str(body["title"])


def _fail(night: Night) -> None:
    for fault in ("502:share=0.4", "drop:share=0.5", "503:share=0.5"):
        night.engine.add_fault(f"{fault},path=/engine")
    night.engine.add_fault(path="/engine", delay_s=0.4, passes=True)
    night.patience = HASTY


def _recover(night: Night) -> None:
    night.engine.clear_faults()
    night.patience = PATIENT


def _never_arrived(night: Night) -> None:
    night.record("gloo-eu", [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)])


def _arrive(night: Night) -> None:
    gone = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
    with contextlib.closing(sqlite3.connect(night.folder / "gloo-eu.db")) as conn, conn:
        conn.executemany("DELETE FROM sync_log WHERE item_id = ?", [(each,) for each in gone])
    night.upload("gloo-eu", 3)


def _stick(night: Night) -> None:
    night.items["stuck"] = night.upload("gloo-us", 40, "CHUNKING")


def _unstick(night: Night) -> None:
    for item_id in night.items["stuck"]:
        night.engine.set_status(item_id, "COMPLETED")


def _take_back(night: Night) -> None:
    night.engine.give_away(night.items["gloo-us"][0], night.engine.settings.publisher_id)


def _storm(night: Night) -> None:
    night.archive.add_fault("429:header.Retry-After=600,path=/engine")


def _lose_one(night: Night) -> None:
    night.engine.give_away(night.items["gloo-us"][0])


PROGRAMME: list[tuple[str, str, Callable[[Night], object]]] = [
    (
        "22:30",
        "somebody rotates the client of gloo-eu and gloo-us, and tells nobody",
        lambda n: n.engine.revoke_client(),
    ),
    ("23:15", "the client is put right", lambda n: n.engine.restore_client()),
    ("23:30", "a bulk upload to archive sets off its rate limit: 429 to all, come back in 10 min", _storm),
    ("00:10", "the bulk upload is over", lambda n: n.archive.clear_faults()),
    ("00:20", "Slack goes down", lambda n: n.receivers["slack"].stop()),
    ("00:30", "the engine of gloo-eu and gloo-us fails: 502, 503, resets, answers that never come", _fail),
    ("01:20", "Slack is back", lambda n: n.receivers["slack"].start()),
    ("02:30", "the engine is back", _recover),
    ("03:00", "3 uploads of gloo-eu are recorded, and never arrived", _never_arrived),
    ("03:30", "40 uploads of gloo-us begin to hang in CHUNKING", _stick),
    ("04:30", "a document of gloo-us is another publisher's by now", _lose_one),
    ("06:30", "the 3 uploads are made again", _arrive),
    ("07:00", "the 40 are through", _unstick),
    ("07:30", "the document is given back", _take_back),
]


async def _tick(app: App) -> None:
    runs = [Run(app.job(target), interrupt=asyncio.Event(), progress=NoProgress())() for target in app.config.targets]
    await asyncio.gather(*runs)
    sender = app.sender()
    sender._rand = lambda: 1.0  # the same waits every time
    await sender.deliver()


def play(keep: Path | None = None) -> tuple[Night, list[str]]:
    """Plays the night; gives it back with what is wrong at its end, which should be nothing.

    Args:
        keep: an empty folder for the configuration and the databases; None: they are thrown away.
    """
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-", dir=folder_in_memory())))
        night = Night(
            folder=folder,
            engine=stack.enter_context(Sandbox()),
            archive=stack.enter_context(Sandbox()),
            receivers={name: stack.enter_context(Receiver()) for name in ("slack", "tickets", "audit")},
        )
        night.receivers["slack"].answers = [(200, {}, b"ok")]
        for target in ("gloo-eu", "gloo-us", "archive"):
            night.upload(target, DOCUMENTS)
        engine = open_store(night.configure())
        stack.callback(engine.dispose)
        # each time a new one, as cron would have it: all state is in the database
        _through_the_night(night, lambda: App(config=night.configure(), engine=engine, clock=lambda: night.now))
        with reading(engine) as conn:
            found = incidents.listing(conn)
        return night, _wrong(night, found)


def _through_the_night(night: Night, app: Callable[[], App]) -> None:
    coming = [(_at(when), what, act) for when, what, act in PROGRAMME]
    while night.now < BEGIN + timedelta(hours=HOURS):
        for when, what, act in coming:
            if when == night.now:
                night.say(what)
                act(night)
        asyncio.run(_tick(app()))
        night.heard()
        night.now += EVERY


def _at(clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    at = BEGIN.replace(hour=hour, minute=minute)
    return at if at >= BEGIN else at + timedelta(days=1)


def _wrong(night: Night, found: list[Incident]) -> list[str]:
    left = [each for each in found if each.state is not IncidentState.RESOLVED]
    wrong = [f"incident {each.id} ({each.target}, {each.cause}) is open" for each in left]
    storms = [(name, hour, count) for (name, hour), count in night.by_hour.items() if count > MOST_AN_HOUR]
    return wrong + [f"{name} got {count} messages from {hour:%H:%M} on" for name, hour, count in storms]


def transcript(night: Night) -> str:
    """The timeline, and its sum."""
    sum_up = ", ".join(f"{name} {night.told[name]}" for name in night.receivers)
    most = max(night.by_hour.values())
    runs = 3 * int(timedelta(hours=HOURS) / EVERY)
    return "\n".join([*night.lines, "", f"{runs} runs; messages: {sum_up}; at most {most} an hour to anybody."]) + "\n"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("document", nargs="?", type=Path, help="the document whose transcript is made anew")
    options.add_argument("--keep", type=Path, help="a folder that is to hold the configuration and the databases")
    given = options.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True)
    began = time.monotonic()
    night, wrong = play(given.keep and given.keep.resolve())
    text = transcript(night)
    if given.document:
        document = given.document.read_text(encoding="utf-8")
        given.document.write_text(PLACEHOLDER.sub(lambda found: found[1] + text + found[2], document), encoding="utf-8")
    sys.stdout.write(text)
    sys.stderr.writelines(f"WRONG: {each}\n" for each in wrong)
    sys.stderr.write(f"({time.monotonic() - began:.0f} s)\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
