"""Server and client processes for measurements, each on one core; all end with this process."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["CLIENT_CORE", "SERVER_CORE", "hold_to", "measured", "serving", "stats"]

CLIENT_CORE, SERVER_CORE = 0, 1
LONGEST_S = 120
_HERE = Path(__file__).parent


def hold_to(core: int) -> None:
    """Pins this process and its later threads to one core, if the system can and has that many."""
    if sys.platform == "linux" and core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})


@contextmanager
def serving(behaviour: str, **settings: float) -> Iterator[str]:
    """A server with this behaviour; yields its origin. It ends with this process at the latest."""
    command = [sys.executable, str(_HERE / "bare_server.py"), behaviour, json.dumps(settings)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout else ""
            if not port:
                raise SystemExit(f"the server for {behaviour} did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def stats(url: str) -> Mapping[str, Any]:
    """The server's counts so far, with its own clock and CPU time in seconds."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", "/stats")
        found: Mapping[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


def measured(script: str, **options: object) -> dict[str, Any]:
    """The figures of a script of this folder, run in a fresh process.

    Raises:
        SystemExit: it failed; with the end of its stderr.
    """
    command = [sys.executable, str(_HERE / script), json.dumps(options)]
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
            env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{script} {options} took longer than {LONGEST_S} s") from None
    if ended.returncode:
        raise SystemExit(f"{script} {options} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
