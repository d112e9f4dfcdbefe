"""Both wires, for the tests of the contract that they share."""

import asyncio

import pytest
from client import hostile
from client.asking import get

from monitor.client.transports import HttpxWire, ReqwestWire


@pytest.fixture(params=[HttpxWire, ReqwestWire], ids=["httpx", "reqwest"])
def wire_type(request):
    return request.param


@pytest.fixture
def send(wire_type):
    """Sends one request over a wire of its own."""

    async def send(base_url="", request=None, *, connection=None, timeout_s=5.0, **said):
        wire = wire_type(base_url=base_url, connection=connection)
        try:
            return await wire.send(request or get(), timeout_s=timeout_s, **said)
        finally:
            await wire.close()

    return send


@pytest.fixture
def answer_of(send):
    """What comes of a request to a server that behaves so; nothing that was begun for it goes on afterwards."""

    async def answer_of(behave, request=None, *, greet=None, **said):
        before = asyncio.all_tasks()
        async with hostile.serving(behave, greet=greet) as server:
            answer = await send(server.url, request, **said)
        assert asyncio.all_tasks() == before
        return answer

    return answer_of
