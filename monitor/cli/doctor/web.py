"""Whether the daemon's health endpoints could listen where they are told to. Nothing is said where all is well."""

import http.client
import json
from contextlib import closing

from monitor.cli.doctor.findings import Finding, Level, with_full_stop
from monitor.cli.doctor.locations import SettingLocation
from monitor.config import Config
from monitor.web.server import ListenError, bind_socket

_TIMEOUT_S = 2.0
_MAX_BYTES = 10_000


def check_listen_address(config: Config, at: SettingLocation) -> Finding | None:
    """A warning if the address can't be had; None if it can, or if a daemon of this program answers there.

    Args:
        config: says where.
        at: the place of that setting.
    """
    address = config.web.address
    if address is None:
        return None
    try:
        bind_socket(address).close()
    except ListenError as error:
        if error.in_use and _is_our_daemon(address):
            return None
        message = f"{with_full_stop(str(error))} Until then the daemon runs without its health endpoints."
        return Finding(part="web", level=Level.WARNING, message=message, setting=at.setting, location=at.where)
    return None


def _is_our_daemon(address: tuple[str, int]) -> bool:
    host, port = address
    # who listens on all addresses is asked on this machine's own
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nothing is bound here
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)) as connection:
            connection.request("GET", "/healthz")
            said = json.loads(connection.getresponse().read(_MAX_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return False  # whoever it is, it is no daemon of ours
    return isinstance(said, dict) and said.get("service") == "ingestion-monitor"
