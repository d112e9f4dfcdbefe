"""One attempt over HTTP. The only package that knows HTTP libraries: two wires, one pool, one reading of faults.

`PyreqwestTransport` serves targets; `HttpxTransport` serves messages, and targets that chose `http = "httpx"`. Each is loaded with
its first use, since httpx takes longer to load than everything else here. Both keep the same contract (`Transport`), and one
suite of tests holds both to it.
"""

from typing import TYPE_CHECKING

from monitor.client.transports.pool import ConnectionOptions

if TYPE_CHECKING:
    from monitor.client.transports.httpx_transport import HttpxTransport
    from monitor.client.transports.pyreqwest_transport import PyreqwestTransport

__all__ = ["ConnectionOptions", "HttpxTransport", "PyreqwestTransport"]


def __getattr__(name: str) -> object:
    """Finds a wire when it is first asked for (PEP 562)."""
    if name == "HttpxTransport":
        from monitor.client.transports.httpx_transport import HttpxTransport

        return HttpxTransport
    if name == "PyreqwestTransport":
        from monitor.client.transports.pyreqwest_transport import PyreqwestTransport

        return PyreqwestTransport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
