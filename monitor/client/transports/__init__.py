"""One attempt over HTTP. The only package that knows HTTP libraries: two wires, one pool, one reading of faults.

`ReqwestWire` serves targets; `HttpxWire` serves messages, and targets that chose `http = "httpx"`. Each is loaded with
its first use, since httpx takes longer to load than everything else here. Both keep the same contract (`Wire`), and one
suite of tests holds both to it.
"""

from typing import TYPE_CHECKING

from monitor.client.transports.pool import Connection

if TYPE_CHECKING:
    from monitor.client.transports.httpx_transport import HttpxWire
    from monitor.client.transports.pyreqwest_transport import ReqwestWire

__all__ = ["Connection", "HttpxWire", "ReqwestWire"]


def __getattr__(name: str) -> object:
    """Finds a wire when it is first asked for (PEP 562)."""
    if name == "HttpxWire":
        from monitor.client.transports.httpx_transport import HttpxWire

        return HttpxWire
    if name == "ReqwestWire":
        from monitor.client.transports.pyreqwest_transport import ReqwestWire

        return ReqwestWire
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
