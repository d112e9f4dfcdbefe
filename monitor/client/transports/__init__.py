"""One attempt over HTTP; the only package that imports HTTP libraries. Both transports keep the contract `Transport`.

`PyreqwestTransport` serves targets; `HttpxTransport` serves messages, and targets with `http = "httpx"`. Each is
imported on first use, because httpx takes longer to import than everything else here.
"""

from typing import TYPE_CHECKING

from monitor.client.transports.pool import ConnectionOptions

if TYPE_CHECKING:
    from monitor.client.transports.httpx_transport import HttpxTransport
    from monitor.client.transports.pyreqwest_transport import PyreqwestTransport

__all__ = ["ConnectionOptions", "HttpxTransport", "PyreqwestTransport"]


def __getattr__(name: str) -> object:
    """Imports a transport on first use (PEP 562)."""
    if name == "HttpxTransport":
        from monitor.client.transports.httpx_transport import HttpxTransport

        return HttpxTransport
    if name == "PyreqwestTransport":
        from monitor.client.transports.pyreqwest_transport import PyreqwestTransport

        return PyreqwestTransport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
