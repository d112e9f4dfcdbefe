"""No redirect is followed, to any host: requests go only to the origin."""

import asyncio
import ssl
import time
from urllib.parse import urlsplit

import pytest
from client import hostile
from client.asking import CANARY

from monitor.client.auth import ApiKey
from monitor.client.client import Client
from monitor.client.transports import ConnectionOptions
from monitor.model.http import Reply, Request

STATUSES = [301, 302, 303, 307, 308]
ELSEWHERE = {
    "other host": "http://localhost:{plain}",
    "other port": "http://127.0.0.1:{plain}",
    "other scheme": "https://127.0.0.1:{secret}",
    "the origin by another scheme": "https://127.0.0.1:{origin}",
}


@pytest.fixture
def context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("elsewhere", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_no_redirect_is_followed(send, authority, context, status, elsewhere, streamed):
    request = Request(
        method="POST",
        path="/x",
        template="/x",
        headers={"authorization": CANARY, "x-api-key": CANARY, "cookie": CANARY},
        body=CANARY.encode(),
    )

    async def redirect(reader, writer):
        await hostile.replies(status, location=f"{target}/stolen")(reader, writer)

    replies = hostile.replies(200)
    async with (
        hostile.serving(replies) as plain,
        hostile.serving(replies, tls=context) as secret,
        hostile.serving(redirect) as origin,
    ):
        target = elsewhere.format(plain=plain.port, secret=secret.port, origin=origin.port)
        sink = {"sink": lambda _: True} if streamed else {}
        connection = ConnectionOptions(ca_pem=authority.cert_pem.bytes())
        answer = await send(origin.url, request, connection=connection, **sink)
        await asyncio.sleep(0.01)
    assert isinstance(answer, Reply)
    assert (answer.status, answer.headers["location"]) == (status, f"{target}/stolen")
    assert (origin.accepted, len(origin.received)) == (1, 1)
    assert (plain.accepted, secret.accepted) == (0, 0)


@pytest.mark.parametrize("status", STATUSES)
async def test_a_redirect_is_an_error_that_names_only_the_host(transport_type, status):
    redirect = hostile.replies(status, location=f"https://user:{CANARY}@login.example/{CANARY}?token={CANARY}")
    async with hostile.serving(redirect) as server:
        client = Client(transport=transport_type(base_url=server.url), auth=ApiKey(lambda: CANARY))
        request = Request(method="GET", path="/x", template="/x")
        answer = await client.send(request, deadline_s=time.monotonic() + 20)
        await client.transport.close()
    assert (answer.reply, answer.attempts, answer.error.status) == (None, 1, status)
    assert "login.example" in answer.error.message
    assert CANARY not in answer.error.message
    assert urlsplit(server.url).netloc not in answer.error.message
