"""Both transports, for tests of their common contract, and a certificate authority."""

import asyncio

import pytest
import trustme
from client import hostile
from client.asking import get

from monitor.client.transports import HttpxTransport, PyreqwestTransport


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(params=[HttpxTransport, PyreqwestTransport], ids=["httpx", "reqwest"])
def transport_type(request):
    return request.param


@pytest.fixture
def send(transport_type):
    """Sends one request over a new transport."""

    async def send(base_url="", request=None, *, connection=None, timeout_s=5.0, **kwargs):
        transport = transport_type(base_url=base_url, connection=connection)
        try:
            return await transport.send(request or get(), timeout_s=timeout_s, **kwargs)
        finally:
            await transport.close()

    return send


@pytest.fixture
def answer_of(send):
    """The result of a request to a server with this behaviour; checks that no task is left afterwards."""

    async def answer_of(behave, request=None, *, greet=None, **kwargs):
        before = asyncio.all_tasks()
        async with hostile.serving(behave, greet=greet) as server:
            answer = await send(server.url, request, **kwargs)
        assert asyncio.all_tasks() == before
        return answer

    return answer_of
