"""The image's HEALTHCHECK: whether the daemon's loop turns. A container that runs one command and ends is always well.

Whether the daemon gets its work done is no reason to restart it; /readyz and the alerts tell that.
"""

import os
import sys
import urllib.request
from pathlib import Path

DEFAULT_PORT = "8990"


def healthy(command: list[str], listen: str) -> bool:
    """Asks /healthz on loopback, on the port of `MONITOR_WEB__LISTEN`.

    Args:
        command: of process 1.
        listen: `host:port`; `off` and empty mean that nobody listens, so that there is nothing to ask.
    """
    if "daemon" not in command or listen in {"", "off"}:
        return True
    port = listen.rpartition(":")[2]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    started = Path("/proc/1/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    sys.exit(0 if healthy(started, os.environ.get("MONITOR_WEB__LISTEN", f"127.0.0.1:{DEFAULT_PORT}")) else 1)
