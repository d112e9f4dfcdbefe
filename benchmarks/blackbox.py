"""blackbox_exporter, Debian's program, as a peer: one probe per item over a new connection, as it works.

It is taken from the PATH, or out of Debian's package, which is downloaded and unpacked, not installed.
"""

import http.client
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from id_logs import item_id
from processes import CLIENT_CORE, ENVIRONMENT, Server, Spent, cpu_clock_s, hold_to

__all__ = ["MISSING", "Exporter", "found"]

_PACKAGE = "prometheus-blackbox-exporter"
_KEPT = Path(__file__).parent.parent / "build" / "benchmarks" / "blackbox"
_SCRAPERS = 8
MISSING = f"missing: neither on the PATH nor as Debian's package {_PACKAGE}"
_MODULE = """\
modules:
  item:
    prober: http
    timeout: 20s
    http:
      headers: {{Authorization: "Bearer bench"}}
      preferred_ip_protocol: ip4
      tls_config: {{ca_file: "{ca_file}"}}
"""


def found() -> Path | None:
    """The program, or None if this system can't have it."""
    for name in ("blackbox_exporter", _PACKAGE):
        if path := shutil.which(name):
            return Path(path)
    unpacked = _KEPT / "usr" / "bin" / _PACKAGE
    if not unpacked.exists() and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        _download()
    return unpacked if unpacked.exists() else None


def _download() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for command in (["apt-get", "download", _PACKAGE], ["dpkg-deb", "--extract", "package.deb", str(_KEPT)]):
            if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
                return
            for package in Path(folder).glob(f"{_PACKAGE}_*.deb"):
                package.rename(Path(folder, "package.deb"))


class Exporter:
    """A running exporter."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, server: Server) -> None:
        self._process, self._port, self._server = process, port, server

    def probe(self, items: int) -> Spent:
        """What the exporter took to probe so many items; what asks it for the probes is not counted."""
        cpu_s, began_s = cpu_clock_s(self._process.pid), time.monotonic()
        with ThreadPoolExecutor(_SCRAPERS) as pool:
            succeeded = sum(pool.map(self._scrape, [range(n, items, _SCRAPERS) for n in range(_SCRAPERS)]))
        if succeeded != items:
            raise SystemExit(f"blackbox_exporter: {succeeded} of {items} probes succeeded")
        cpu_s, wall_s = cpu_clock_s(self._process.pid) - cpu_s, time.monotonic() - began_s
        said = {"peak_mb": 0.0, "code": 0, "output": "", "errors": ""}
        return Spent(cpu_s=cpu_s, wall_s=wall_s, asking_cpu_s=cpu_s, asking_wall_s=wall_s, **said)

    def _scrape(self, numbers: range) -> int:
        connection, succeeded = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30), 0
        for number in numbers:
            query = urlencode({"module": "item", "target": f"{self._server.url}/engine/v2/items/{item_id(number)}"})
            connection.request("GET", f"/probe?{query}")
            succeeded += b"\nprobe_success 1" in connection.getresponse().read()
        connection.close()
        return succeeded


@contextmanager
def running(program: Path, server: Server) -> Iterator[Exporter]:
    """The exporter beside this server."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "blackbox.yml")
        config.write_text(_MODULE.format(ca_file=server.ca_file or ""), encoding="utf-8")
        command = [program, f"--config.file={config}", "--web.listen-address=127.0.0.1:0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env={**ENVIRONMENT, **_one_core()}) as process:
            try:
                hold_to(CLIENT_CORE, process.pid)
                yield Exporter(process, _port(process), server)
            finally:
                process.kill()


def _one_core() -> dict[str, str]:
    return {"GOMAXPROCS": "1"} if os.cpu_count() else {}


def _port(process: "subprocess.Popen[bytes]") -> int:
    """The port that it says it listens on."""
    for line in process.stderr or ():
        if b"Listening on" in line:
            return int(line.rpartition(b"127.0.0.1:")[2].split()[0].strip(b'"'))
    raise SystemExit("blackbox_exporter did not start")
