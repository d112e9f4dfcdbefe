"""One attempt over HTTP; the only package that imports HTTP libraries. Each transport keeps the contract `Transport`.

`DirectTransport` serves targets, and `PyreqwestTransport` those that may be reached through a proxy: `fast_transport`
chooses. `HttpxTransport` serves messages, and targets with `http = "httpx"`. Each is imported on first use, because
httpx takes longer to import than everything else here.
"""

from typing import TYPE_CHECKING

from monitor.client.transports.options import ConnectionOptions, may_use_proxy

if TYPE_CHECKING:
    from monitor.client.transports.direct_transport import DirectTransport
    from monitor.client.transports.httpx_transport import HttpxTransport
    from monitor.client.transports.pyreqwest_transport import PyreqwestTransport
    from monitor.model.http import Transport

__all__ = ["ConnectionOptions", "DirectTransport", "HttpxTransport", "PyreqwestTransport", "fast_transport"]


def fast_transport(*, base_url: str = "", connection: ConnectionOptions | None = None) -> "Transport":
    """The cheapest transport that can reach the host. Raises ValueError as its class does."""
    if may_use_proxy(base_url, connection or ConnectionOptions()):
        from monitor.client.transports.pyreqwest_transport import PyreqwestTransport

        return PyreqwestTransport(base_url=base_url, connection=connection)
    from monitor.client.transports.direct_transport import DirectTransport

    return DirectTransport(base_url=base_url, connection=connection)


def __getattr__(name: str) -> object:
    """Imports a transport on first use (PEP 562)."""
    if name == "DirectTransport":
        from monitor.client.transports.direct_transport import DirectTransport

        return DirectTransport
    if name == "HttpxTransport":
        from monitor.client.transports.httpx_transport import HttpxTransport

        return HttpxTransport
    if name == "PyreqwestTransport":
        from monitor.client.transports.pyreqwest_transport import PyreqwestTransport

        return PyreqwestTransport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
