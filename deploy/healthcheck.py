"""The image's HEALTHCHECK: whether the daemon's loop turns. A container that runs one command and ends is always well.

It asks /healthz where the daemon listens in fact, as the kernel knows it, whatever `web.listen` says and wherever it
stands; after a reload, too. One that listens nowhere is not asked: it was told to (`web.listen = "off"`), or waits for
its port and says so in its log. Whether the daemon gets its work done is no reason to restart it; /readyz and the
alerts tell that. It needs nothing of the program, so that it costs little.
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
    """Whether each daemon answers that its loop turns.

    Args:
        processes: their folders in /proc.
    """
    return all(_answers(url) for process in processes for url in urls(process))


def daemons(proc: Path) -> Iterator[Path]:
    """This user's processes that are daemons of the program: process 1, or the one below `docker run --init`."""
    for process in sorted(proc.glob("[0-9]*")):
        try:
            ours = process.stat().st_uid == os.getuid()
            words = (process / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        program = next((at for at, word in enumerate(words[:2]) if Path(word).name == "ingestion-monitor"), None)
        if ours and program is not None and "daemon" in words[program + 1 :]:
            yield process


def urls(process: Path) -> list[str]:
    """Where a process can be asked for /healthz, on each address that it listens on."""
    sockets = set()
    for descriptor in (process / "fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    rows = [line.split() for table in ("tcp", "tcp6") for line in _lines(process / "net" / table)]
    return [_url(row[1]) for row in rows if row[3] == _LISTENING and f"socket:[{row[9]}]" in sockets]


def _lines(table: Path) -> list[str]:
    """Its rows without the heading; none for tcp6 where the kernel knows no IPv6."""
    return table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []


def _url(local: str) -> str:
    """Of an address as the kernel writes it: words of four bytes in the machine's order, and the port."""
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
