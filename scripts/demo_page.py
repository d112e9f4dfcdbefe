"""Plays a night of faults that ended a moment ago, then runs a daemon with its page until Ctrl-C: `make demo-page`.

The engines are simulated, and the clock of the night. The daemon is the real command, on the real clock.
"""

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from drill import EVERY, Drill, night, play

from monitor.app import open_database

HOURS = 9.0
"""The night of the drill has ten: some of its incidents are still open."""
PORT = 8990
UPLOADS_PER_CHECK = 3
FAILED_EVERY = 25
"""Every so many uploads one fails."""
STOP_S = 10.0
"""Seconds after which a daemon that was interrupted is ended."""

SECTIONS = """
[web]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
actions = true

[[slos]]
name = "searchable in 15 minutes"
objective = 0.95
within = "15m"
window = "28d"
"""

STATUS_NAMES = {"gloo-eu": "Search in Europe", "gloo-us": "Search in the US", "archive": "Archive"}


class Pipeline:
    """Uploads a few documents before each check; most are indexed after five minutes, some after twenty."""

    def __init__(self) -> None:
        self._uploads = 0
        self._unfinished: list[tuple[datetime, str, str, str]] = []

    def __call__(self, drill_run: Drill) -> None:
        """Uploads, and finishes what was uploaded before."""
        for target in ("gloo-eu", "gloo-us", "archive"):
            for item_id in drill_run.upload(target, UPLOADS_PER_CHECK, "CHUNKING"):
                self._uploads += 1
                status = "FAILED" if self._uploads % FAILED_EVERY == 0 else "COMPLETED"
                ready_at = drill_run.now + EVERY * (4 if self._uploads % 12 == 0 else 1)
                self._unfinished.append((ready_at, target, item_id, status))
        self.finish(drill_run, until=drill_run.now)

    def finish(self, drill_run: Drill, *, until: datetime) -> None:
        """Finishes what is ready until then."""
        for each in [each for each in self._unfinished if each[0] <= until]:
            _, target, item_id, status = each
            sandbox = drill_run.archive if target == "archive" else drill_run.engine
            sandbox.set_status(item_id, status)
            self._unfinished.remove(each)


def play_night(folder: Path, stack: contextlib.ExitStack, *, port: int = PORT, hours: float = HOURS) -> Path:
    """Plays the night in a new folder and returns its configuration; the engines live as long as `stack`."""
    now = datetime.now(UTC)
    end = now.replace(minute=now.minute - now.minute % 5, second=0, microsecond=0)
    drill_run = stack.enter_context(night(folder, begin=end - timedelta(hours=hours)))
    drill_run.more_config = SECTIONS.format(port=port)
    drill_run.more_of_targets = {name: f'status_name = "{of_users}"' for name, of_users in STATUS_NAMES.items()}
    engine = open_database(drill_run.configure())
    pipeline = Pipeline()
    try:
        play(drill_run, engine, hours=hours, each_tick=pipeline)
        pipeline.finish(drill_run, until=drill_run.now + timedelta(hours=1))
    finally:
        engine.dispose()
    return folder / "monitor.toml"


def start_daemon(config: Path) -> "subprocess.Popen[bytes]":
    """The real command, which logs errors alone."""
    return subprocess.Popen(
        [sys.executable, "-m", "monitor", "daemon", "--config", str(config), "--log-level", "error"]
    )


@contextlib.contextmanager
def serving(config: Path) -> Iterator[None]:
    """A daemon, until the end of the block."""
    with start_daemon(config) as daemon:
        try:
            yield
        finally:
            daemon.terminate()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--port", type=int, default=PORT, help="where the page listens, on this machine only")
    given = options.parse_args()
    if _is_taken(given.port):
        options.error(
            f"port {given.port} is in use: choose another, for example by make demo-page PORT={given.port + 1}"
        )
    say("A night of faults is played on a fast clock; this takes about a minute.")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ingestion-monitor-page-")))
        config = play_night(folder, stack, port=given.port)
        say(f"The page: http://127.0.0.1:{given.port}/  (Ctrl-C ends it.)")
        with start_daemon(config) as daemon:
            return _wait(daemon)


def _is_taken(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(daemon: subprocess.Popen[bytes]) -> int:
    """Waits for the end of the daemon, or ends it; the engines stay until then."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        daemon.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(STOP_S)  # a terminal sends Ctrl-C to the daemon, too
        return 0
    finally:
        if daemon.poll() is None:
            daemon.terminate()
    return 1


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
