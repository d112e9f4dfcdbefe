"""Processes that are measured: CPU, seconds and peak memory as the kernel counts them. And the server that they ask.

Every measurement is a fresh process. A server may watch it: then the process's CPU and time at its first request are
known, and what came before, such as imports, can be left out. Linux only: it reads other processes' CPU clocks.
"""

import http.client
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CLIENT_CORE", "SERVER_CORE", "Server", "Spent", "cpu_clock_s", "hold_to", "measure", "serving"]

CLIENT_CORE, SERVER_CORE = 0, 1
LONGEST_S = 3600
_HERE = Path(__file__).parent
_HELD = 'read _ && exec "$@"'
"""Waits until the measurement is prepared; the process keeps its number when it becomes the command."""

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MONITOR_", "GLOO_"))},
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
"""Without variables that would load other modules than the installed ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one process took, and what it said."""

    cpu_s: float
    """User and system time of all its threads."""
    wall_s: float
    peak_mb: float
    code: int
    output: str
    errors: str
    asking_cpu_s: float = 0.0
    """CPU seconds from the first request to the end of the process, if a server watched it."""
    asking_wall_s: float = 0.0

    def json(self) -> Any:  # noqa: ANN401  # JSON
        """The output, decoded. SystemExit with the errors if it is no JSON."""
        try:
            return json.loads(self.output)
        except ValueError:
            raise SystemExit(f"no JSON (exit code {self.code}): {self.output[-500:]}\n{self.errors[-2000:]}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server in a process of its own."""

    url: str
    control_port: int
    ca_file: Path | None = None

    def stats(self) -> Mapping[str, Any]:
        """The server's counts so far, its CPU and clock in seconds, and `first`: those of the watched process at its
        first request, null before it.
        """
        return self._get("/stats")

    def watch(self, pid: int) -> None:
        """From now on the next request counts as the first one of this process."""
        self._get(f"/watch/{pid}")

    def _get(self, path: str) -> Mapping[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=10)
        try:
            connection.request("GET", path)
            found: Mapping[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return found


def hold_to(core: int, pid: int = 0) -> None:
    """Pins a process (0: this one) and its later threads to one core, if it may use that one."""
    if core in os.sched_getaffinity(pid):
        os.sched_setaffinity(pid, {core})


def cpu_clock_s(pid: int) -> float:
    """CPU seconds of another process so far, with those of its ended threads (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


@contextmanager
def serving(behaviour: str, *, tls: Path | None = None, **settings: float) -> Iterator[Server]:
    """A server with this behaviour; it ends with this process at the latest.

    `tls` is a folder with `ca.pem` and `server.pem`.
    """
    command = [sys.executable, str(_HERE / "bare_server.py"), behaviour, json.dumps(settings), str(tls or "")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            ports = process.stdout.readline().split() if process.stdout else []
            if not ports:
                raise SystemExit(f"the server for {behaviour} did not start")
            url = f"{'https' if tls else 'http'}://127.0.0.1:{ports[0]}"
            yield Server(url=url, control_port=int(ports[1]), ca_file=tls / "ca.pem" if tls else None)
        finally:
            process.kill()


def measure(
    line: Sequence[str | Path],
    folder: Path | None = None,
    *,
    server: Server | None = None,
    core: int | None = None,
    codes: Collection[int] = (0,),
    memory_mb: int = 0,
) -> Spent:
    """Runs one command to its end, watched by the server and on one core if they are given.

    `memory_mb` is the most that it may map, 0 for no ceiling.

    Raises:
        SystemExit: its exit code is none of `codes`; with the end of its output.
    """
    ceiling = memory_mb << 20

    def limit_memory() -> None:
        if ceiling:
            resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))

    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _HELD, "sh", *map(str, line)],
            cwd=folder, stdin=subprocess.PIPE, stdout=said, stderr=complained, env=ENVIRONMENT,
            preexec_fn=limit_memory if ceiling else None,  # noqa: PLW1509  # no threads hold locks that it needs
        )  # fmt: skip
        if core is not None:
            hold_to(core, process.pid)
        if server is not None:
            server.watch(process.pid)
        spent = _ended(process)
        said.seek(0)
        complained.seek(0)
        output, errors = said.read().decode(errors="replace"), complained.read().decode(errors="replace")
    if spent["code"] not in codes:
        text = (output[-1000:] + errors[-2000:]).strip()
        raise SystemExit(f"{' '.join(map(str, line))} ended with {spent['code']}:\n{text}")
    first = server.stats()["first"] if server is not None else None
    asking = (
        {"asking_cpu_s": spent["cpu_s"] - first["cpu_s"], "asking_wall_s": spent["end_s"] - first["at_s"]}
        if first
        else {}
    )
    del spent["end_s"]
    return Spent(**spent, **asking, output=output, errors=errors)


def _ended(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Lets the held process go and waits for its end."""
    guard = threading.Timer(LONGEST_S, process.kill)
    guard.daemon = True
    guard.start()
    began_s = time.monotonic()
    if process.stdin:
        process.stdin.write(b"go\n")
        process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    guard.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": (end_s := time.monotonic()) - began_s,
        "end_s": end_s,
        "peak_mb": usage.ru_maxrss / 1024,
        "code": process.returncode,
    }
