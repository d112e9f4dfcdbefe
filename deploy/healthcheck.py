"""The image's HEALTHCHECK: requests /healthz of each daemon. A container without a daemon is healthy.

The address comes from the kernel, so it is right after a reload, too. A daemon that does not listen counts as healthy:
its endpoints are off, or its port is in use, which it logs. Use /readyz and the alerts to check its work. It starts
fast, because it imports nothing of the program.
"""

import ipaddress
import os
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTENING = "0A"
_TIMEOUT_S = 5


def healthy(processes: Iterable[Path]) -> bool:
    """Whether each daemon, given as its folder in /proc, answers /healthz with 200."""
    return all(_answers(url) for process in processes for url in urls(process))


def daemons(proc: Path) -> Iterator[Path]:
    """This user's daemon processes: process 1, or the one below `docker run --init`."""
    for process in sorted(proc.glob("[0-9]*")):
        try:
            ours = process.stat().st_uid == os.getuid()
            words = (process / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
            continue
        program = next((at for at, word in enumerate(words[:2]) if Path(word).name == "ingestion-monitor"), None)
        if ours and program is not None and "daemon" in words[program + 1 :]:
            yield process


def urls(process: Path) -> list[str]:
    """The /healthz URL of each address that a process listens on."""
    sockets = set()
    for descriptor in (process / "fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except FileNotFoundError:  # closed in the meantime
            continue
    rows = [line.split() for table in ("tcp", "tcp6") for line in _lines(process / "net" / table)]
    return [_url(row[1]) for row in rows if row[3] == _LISTENING and f"socket:[{row[9]}]" in sockets]


def _lines(table: Path) -> list[str]:
    """Rows without the heading; none for tcp6 if the kernel has no IPv6."""
    return table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []


def _url(local: str) -> str:
    """The URL of an address as the kernel writes it: words of four bytes in the machine's order, and the port."""
    words, _, port = local.partition(":")
    packed = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    address = ipaddress.ip_address(packed)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{int(port, 16)}/healthz"


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if healthy(daemons(Path("/proc"))) else 1)
