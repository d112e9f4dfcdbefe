"""Keeps the endpoints up beside the daemon's own work, which goes on without them while an address can't be had."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from monitor.web.database_snapshot import Readings
from monitor.web.server import ListenError, address_of, listening
from monitor.web.state import Vitals

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from monitor.web.server import Server


RETRY_S = 30.0
_LOOK_S = 1.0
"""So often, in seconds, it looks whether another configuration says to listen elsewhere."""


class Endpoints:
    """Serves the endpoints of one daemon until closed.

    Args:
        vitals: what it tells of; the configuration in force says where to listen.
        retry_s: seconds (> 0) after which an address that could not be had is tried again.
    """

    def __init__(self, vitals: Vitals, *, retry_s: float = RETRY_S) -> None:
        self._vitals, self._retry_s = vitals, retry_s
        self._readings = Readings(vitals)
        self._told: str | None = None
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begins to serve, in the running loop."""
        self._serving = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """Ends at once, whoever is still connected."""
        if self._serving is None:
            return
        self._serving.cancel()
        (ended,) = await asyncio.gather(self._serving, return_exceptions=True)
        if isinstance(ended, Exception):
            structlog.get_logger().error("web_failed", exc_info=ended)
        await self._readings.close()

    async def _serve(self) -> None:
        while True:
            address = self._vitals.config.web.address
            listener = None if address is None else await self._listener(address)
            if listener is None:
                await self._until_moved(address, self._retry_s if address else None)
            else:
                await self._serve_on(listener, address)

    async def _listener(self, address: tuple[str, int]) -> socket.socket | None:
        """What listens there; None when it can't be had now, which is told once."""
        log = structlog.get_logger()
        try:
            listener = await _had(address)
        except ListenError as error:
            if self._told != str(error):
                self._told = str(error)
                log.warning("web_not_listening", reason=self._told, retry_in_s=self._retry_s)
            return None
        self._told = None
        log.info("web_listening", address=address_of(listener))
        return listener

    async def _serve_on(self, listener: socket.socket, address: tuple[str, int] | None) -> None:
        """Serves until another configuration is in force that says to listen elsewhere."""
        with closing(listener):
            # FastAPI takes half a second to load: not at the cost of those who want no endpoints, nor of the loop
            build, server_class = await asyncio.to_thread(_parts)
            server = self._server = server_class(build(self._vitals, self._readings))
            moved = asyncio.create_task(self._until_moved(address, None))
            moved.add_done_callback(lambda _: server.end())
            try:
                await server.serve(sockets=[listener])
            finally:
                moved.cancel()
                await server.drop(listener)

    async def _until_moved(self, address: tuple[str, int] | None, most_s: float | None) -> None:
        """Waits until the configuration names another address, or for so long."""
        ends_s = None if most_s is None else asyncio.get_running_loop().time() + most_s
        while self._vitals.config.web.address == address:
            self._vitals.follow()
            if ends_s is not None and asyncio.get_running_loop().time() >= ends_s:
                return
            await asyncio.sleep(_LOOK_S if ends_s is None else min(_LOOK_S, self._retry_s))


async def _had(address: tuple[str, int]) -> socket.socket:
    """What listens there; whoever does not wait for it any more leaves no open socket behind."""
    taking = asyncio.ensure_future(asyncio.to_thread(listening, address))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        taking.add_done_callback(
            lambda taken: None if taken.cancelled() or taken.exception() else taken.result().close()
        )
        raise


def _parts() -> tuple[Callable[[Vitals, Readings], "ASGIApp"], type["Server"]]:
    from monitor.web.app import build
    from monitor.web.server import Server

    return build, Server
