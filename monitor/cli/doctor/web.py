"""Whether the daemon's page and health endpoints could listen at the configured address, and who may see the page."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing

from monitor.cli.doctor.findings import Finding, Level, finding_at, with_full_stop
from monitor.cli.doctor.locations import SettingLocation
from monitor.config import Config
from monitor.config.web import access_warnings
from monitor.web.server import ListenError, bind_socket

_TIMEOUT_S = 2.0
_MAX_BYTES = 10_000


def check_listen_address(config: Config, at: SettingLocation) -> Finding | None:
    """A warning if the address can't be bound; None if it can, or if our own daemon answers there."""
    address = config.web.address
    if address is None:
        return None
    try:
        bind_socket(address).close()
    except ListenError as error:
        if error.in_use and _is_our_daemon(address):
            return None
        message = f"{with_full_stop(str(error))} Until then the daemon runs without its page and its health endpoints."
        return finding_at(at, "web", Level.WARNING, message)
    return None


def check_access(config: Config, at: SettingLocation) -> Iterator[Finding]:
    """A warning if nobody may see the page, or perhaps too many."""
    for sentence in access_warnings(config.web):
        yield finding_at(at, "web", Level.WARNING, with_full_stop(sentence))


def _is_our_daemon(address: tuple[str, int]) -> bool:
    host, port = address
    # a server on all addresses is asked on loopback
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nothing is bound here
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)) as connection:
            connection.request("GET", "/healthz")
            status = json.loads(connection.getresponse().read(_MAX_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return False  # another program
    return isinstance(status, dict) and status.get("service") == "ingestion-monitor"
