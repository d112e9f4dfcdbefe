"""Each transport, for tests of their common contract, and a certificate authority."""

import asyncio

import pytest
import trustme
import uvloop
from client import hostile
from client.asking import get

from monitor.client.transports import HttpxTransport, PyreqwestTransport, fast_transport


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(params=[HttpxTransport, PyreqwestTransport, fast_transport], ids=["httpx", "pyreqwest", "fast"])
def transport_type(request):
    return request.param


def pytest_asyncio_loop_factories(item):
    """Tests of transports run on both loops: `fast` uses their sockets itself."""
    loops = {"asyncio": asyncio.new_event_loop}
    return {**loops, "uvloop": uvloop.new_event_loop} if "transport_type" in item.fixturenames else loops


def pytest_collection_modifyitems(items):
    """pyreqwest has threads of its own, so the other two need one loop only. For `fast`, asyncio's is the fallback."""
    for item in items[:]:
        case = getattr(item, "callspec", None)
        if case is None or "transport_type" not in case.params:
            continue
        on_uvloop, is_fast = "uvloop" in case.id, case.params["transport_type"] is fast_transport
        if on_uvloop and not is_fast:
            items.remove(item)
        elif is_fast and "asyncio" in case.id:
            item.add_marker(pytest.mark.process)


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
        async with asyncio.timeout(20):
            while asyncio.all_tasks() != before:  # noqa: ASYNC110  # the server's own tasks end a moment later
                await asyncio.sleep(0.01)
        return answer

    return answer_of
