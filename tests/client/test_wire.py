import asyncio
import gzip
import logging
import ssl
import sys
import time
import warnings
from datetime import UTC, datetime

import httpx
import pytest
import trustme
from client import hostile
from pyreqwest.client import ClientBuilder
from pyreqwest.compatibility.httpx import HttpxTransport

from monitor.client.wire import HttpxWire
from monitor.exchange import NetworkFault, Reply, Request, WireFault

CANARY = "s3cret-canary"


def get(path="/x", **said):
    headers = {"authorization": f"Bearer {CANARY}", "x-api-key": CANARY}
    return Request(method="GET", path=path, template="/x", headers=headers, **said)


async def send(base_url, request=None, *, timeout_s=5.0, transport=None):
    wire = HttpxWire(base_url=base_url, transport=transport)
    try:
        return await wire.send(request or get(), timeout_s=timeout_s)
    finally:
        await wire.close()


async def answer_of(behave, request=None, *, timeout_s=5.0):
    async with hostile.serving(behave) as server:
        return await send(server.url, request, timeout_s=timeout_s)


async def test_it_sends_what_it_was_given_and_brings_the_whole_reply():
    behave = hostile.answers(
        b"HTTP/1.1 418 x\r\nContent-Length: 2\r\nX-Two: a\r\nx-two: b\r\nset-cookie: id=1\r\n\r\nhi"
    )
    async with hostile.serving(behave) as server:
        wire = HttpxWire(base_url=server.url + "/gateway/")
        request = Request(
            method="POST", path="/a%2Fb?q=1", template="/", headers={"content-type": "text/plain"}, body=b"body"
        )
        replies = [await wire.send(request, timeout_s=5), await wire.send(request, timeout_s=5)]
        await wire.close()
        await wire.close()
    assert replies[0] == replies[1]
    assert (replies[0].status, replies[0].body, replies[0].headers["x-two"]) == (418, b"hi", "a, b")
    assert replies[0].reason == "I'm a teapot"
    first, second = (sent.lower() for sent in server.received)
    assert first.startswith(b"post /gateway/a%2fb?q=1 http/1.1\r\n")
    assert first.endswith(b"\r\n\r\nbody")
    assert b"accept-encoding: gzip\r\n" in first
    assert b"user-agent: ingestion-monitor/" in first
    assert b"cookie" not in second


BROKEN = {
    "reset in mid-body": (hostile.reset_mid_body, NetworkFault.RESET),
    "short of its content-length": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", close=True),
        NetworkFault.RESET,
    ),
    "closed without an answer": (hostile.answers(b"", close=True), NetworkFault.RESET),
    "garbage": (hostile.answers(b"\x00\x01garbage\r\n\r\n"), NetworkFault.PROTOCOL),
    "broken chunks": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        NetworkFault.PROTOCOL,
    ),
    "two lengths": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde"),
        NetworkFault.PROTOCOL,
    ),
    "headers that are not text": (
        hostile.answers(b"HTTP/1.1 200 OK\r\nx-a: \xff\r\ncontent-length: 0\r\n\r\n"),
        NetworkFault.PROTOCOL,
    ),
    "a megabyte of headers": (
        hostile.answers(b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 1_000_000 + b"\r\n\r\n"),
        NetworkFault.TOO_LARGE,
    ),
    "endless body": (hostile.endless, NetworkFault.TOO_LARGE),
    "a coding that was not asked for": (hostile.replies(200, b"x", content_encoding="br"), NetworkFault.PROTOCOL),
    "gzip that is none": (hostile.replies(200, b"not gzip", content_encoding="gzip"), NetworkFault.PROTOCOL),
    "gzip cut short": (
        hostile.replies(200, gzip.compress(b"x" * 100)[:-9], content_encoding="gzip"),
        NetworkFault.RESET,
    ),
}


@pytest.mark.parametrize(("behave", "fault"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer_is_a_fault_with_our_own_words(behave, fault):
    answer = await answer_of(behave)
    assert isinstance(answer, WireFault)
    assert answer.fault is fault
    assert "127.0.0.1" not in answer.text
    assert CANARY not in answer.text


SLOW = {
    "hang": hostile.hang,
    "dripped headers": hostile.drip(b"HTTP/1.1 200 OK\r\nx-a: "),
    "dripped body": hostile.drip(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"),
}


@pytest.mark.parametrize("behave", SLOW.values(), ids=SLOW)
async def test_the_wall_clock_ends_an_attempt(behave):
    started = time.monotonic()
    answer = await answer_of(behave, timeout_s=0.2)
    assert isinstance(answer, WireFault)
    assert answer.fault is NetworkFault.TIMEOUT
    assert 0.2 <= time.monotonic() - started <= 0.7


async def test_cancellation_passes_through():
    arrived = asyncio.Event()

    async def hang(reader, writer):
        arrived.set()
        await hostile.hang(reader, writer)

    async with hostile.serving(hang) as server:
        attempt = asyncio.create_task(send(server.url))
        await arrived.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt


async def test_a_gzip_answer_is_decoded():
    answer = await answer_of(hostile.replies(200, gzip.compress(b'{"a": 1}'), content_encoding="gzip"))
    assert isinstance(answer, Reply)
    assert answer.body == b'{"a": 1}'


# in a process of its own: elsewhere the peak of other tests would hide this one's
MEASURE = """
import asyncio, resource, sys
from monitor.client.wire import HttpxWire
from monitor.exchange import Request

async def main():
    wire, peaks_kb = HttpxWire(), []
    for url in sys.argv[1:]:
        answer = await wire.send(Request(method="GET", path=url, template="/"), timeout_s=20)
        peaks_kb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    await wire.close()
    print(answer.fault, peaks_kb[1] - peaks_kb[0])

asyncio.run(main())
"""


async def test_a_gzip_bomb_is_refused_within_twenty_megabytes_of_memory():
    bomb = hostile.gzip_bomb(300)
    assert len(bomb) < 1 << 20
    mild = hostile.replies(200, gzip.compress(b"x"), content_encoding="gzip")
    wild = hostile.replies(200, bomb, content_encoding="gzip")
    async with hostile.serving(mild) as first, hostile.serving(wild) as second:
        measuring = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MEASURE, first.url, second.url, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await measuring.communicate()
    fault, growth_kb = printed.decode().split()
    assert fault == "too_large"
    assert int(growth_kb) < 20 * 1024


@pytest.mark.parametrize(("size", "kind"), [(1000, Reply), (1001, WireFault)])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_the_cap_is_exact(size, kind, coding):
    body = bytes(size)
    body = gzip.compress(body) if coding == "gzip" else body
    answer = await answer_of(hostile.replies(200, body, content_encoding=coding), get(max_bytes=1000))
    assert isinstance(answer, kind)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_byte_follows_a_redirect(status):
    async with hostile.serving(hostile.replies(200)) as elsewhere:
        redirect = hostile.replies(status, location=f"{elsewhere.url}/stolen")
        request = Request(
            method="POST", path="/x", template="/x", headers={"authorization": CANARY}, body=CANARY.encode()
        )
        answer = await answer_of(redirect, request)
    assert isinstance(answer, Reply)
    assert (answer.status, answer.headers["location"]) == (status, f"{elsewhere.url}/stolen")
    assert elsewhere.received == []


async def test_a_redirect_to_garbage_is_a_reply_like_any_other():
    answer = await answer_of(hostile.replies(302, location="http://[bad"))
    assert isinstance(answer, Reply)
    assert answer.headers["location"] == "http://[bad"


async def test_a_refused_connection_is_told_from_an_unknown_host():
    async with hostile.serving(hostile.replies(200)) as gone:
        pass
    refused = await send(gone.url)
    unknown = await send("http://nonexistent.invalid")
    assert isinstance(refused, WireFault)
    assert isinstance(unknown, WireFault)
    assert (refused.fault, unknown.fault) == (NetworkFault.REFUSED, NetworkFault.DNS)


def server_context(authority, *hosts, **said):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*hosts, **said).configure_cert(context)
    return context


def trusting(authority):
    pool = (
        ClientBuilder().add_root_certificate_pem(authority.cert_pem.bytes()).follow_redirects(enable=False).no_proxy()
    )
    return HttpxTransport(pool.build())


async def test_a_certificate_that_nobody_vouches_for_is_refused():
    context = server_context(trustme.CA(), "127.0.0.1")
    async with hostile.serving(hostile.replies(200), tls=context) as server:
        answer = await send(f"https://127.0.0.1:{server.port}")
    assert isinstance(answer, WireFault)
    assert answer.fault is NetworkFault.TLS
    assert server.received == []


@pytest.mark.parametrize(("host", "fault"), [("127.0.0.1", None), ("other.example", NetworkFault.TLS)])
async def test_a_trusted_certificate_must_name_the_host(host, fault):
    authority = trustme.CA()
    async with hostile.serving(hostile.replies(200), tls=server_context(authority, host)) as server:
        answer = await send(f"https://127.0.0.1:{server.port}", transport=trusting(authority))
    assert (answer.fault if isinstance(answer, WireFault) else None) is fault


async def test_an_expired_certificate_is_refused():
    authority = trustme.CA()
    context = server_context(authority, "127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    async with hostile.serving(hostile.replies(200), tls=context) as server:
        answer = await send(f"https://127.0.0.1:{server.port}", transport=trusting(authority))
    assert isinstance(answer, WireFault)
    assert answer.fault is NetworkFault.TLS


async def test_no_library_logs_a_header_or_a_body(caplog):
    caplog.set_level(logging.DEBUG)
    request = Request(method="POST", path="/x", template="/x", headers={"x-api-key": CANARY}, body=CANARY.encode())
    assert isinstance(await answer_of(hostile.replies(200, CANARY.encode()), request), Reply)
    assert CANARY not in caplog.text


async def test_tls_below_1_2_is_refused():
    context = server_context(trustme.CA(), "127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of what the client must refuse
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with hostile.serving(hostile.replies(200), tls=context) as server:
        answer = await send(f"https://127.0.0.1:{server.port}")
    assert isinstance(answer, WireFault)
    assert server.received == []


async def test_the_environments_proxy_is_used_except_towards_loopback(monkeypatch):
    async with hostile.serving(hostile.replies(203)) as proxy, hostile.serving(hostile.replies(200)) as local:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        far = await send("http://api.example")
        near = [await send(local.url), await send(f"http://localhost:{local.port}")]
    assert isinstance(far, Reply)
    assert far.status == 203
    assert [answer.status for answer in near if isinstance(answer, Reply)] == [200, 200]
    assert proxy.received[0].startswith(b"GET http://api.example/x ")
    assert len(proxy.received) == 1


ASTRAY = {
    "no slash": "items/1",
    "dot segments": "/items/../secrets",
    "escaped dot segments": "/items/%2E%2e/secrets",
    "one dot": "/items/.",
    "space": "/items/a b",
    "line break": "/items/a\r\nx: y",
    "backslash": "/items/\\evil.example",
    "fragment": "/items/a#b",
    "not ASCII": "/items/é",
    "too long": "/" + "a" * 9000,
    "other scheme": "ftp://evil.example/",
}


@pytest.mark.parametrize("path", ASTRAY.values(), ids=ASTRAY)
async def test_a_path_that_could_lead_elsewhere_is_never_sent(path):
    async with hostile.serving(hostile.replies(200)) as server:
        with pytest.raises(ValueError, match="path must be escaped"):
            await send(server.url, get(path))
    assert server.received == []


@pytest.mark.parametrize("path", ["//evil.example/x", "/@evil.example", "/%2F%2Fevil.example", "/a?b=../c", "/x:80"])
async def test_a_path_cannot_change_the_host(path):
    async with hostile.serving(hostile.replies(200)) as server:
        assert isinstance(await send(server.url, get(path)), Reply)
    assert server.received[0].startswith(f"GET {path} HTTP/1.1\r\n".encode())


async def test_a_header_cannot_carry_a_second_one():
    request = Request(method="GET", path="/x", template="/x", headers={"authorization": "a\r\nx-evil: 1"})
    async with hostile.serving(hostile.replies(200)) as server:
        with pytest.raises(ValueError, match="header values"):
            await send(server.url, request)
    assert server.received == []


async def test_an_absolute_url_stands_for_itself():
    async with hostile.serving(hostile.replies(200)) as server:
        paths = ["/oauth2/token?a=b", "", "/hooks/a|b?c={d}#part"]
        answers = [await send("", get(server.url + path)) for path in paths]
    assert {answer.status for answer in answers if isinstance(answer, Reply)} == {200}
    assert [sent.split(b" ", 2)[1] for sent in server.received] == [b"/oauth2/token?a=b", b"/", b"/hooks/a|b?c={d}"]


@pytest.mark.parametrize("url", ["https://api.example:CANARY/", "https://api.example/CANARY\n"])
async def test_an_absolute_url_that_can_not_be_read_is_named_without_being_quoted(url):
    with pytest.raises(ValueError, match="URL can't be read") as caught:
        await send("", get(url))
    assert "CANARY" not in str(caught.value)
    assert caught.value.__suppress_context__


def raising(error):
    def handle(request):
        raise error

    return httpx.MockTransport(handle)


CUSTOM = {
    "read timeout": (httpx.ReadTimeout("CANARY"), NetworkFault.TIMEOUT),
    "connect error": (httpx.ConnectError("CANARY"), NetworkFault.REFUSED),
    "read error": (httpx.ReadError("CANARY"), NetworkFault.RESET),
    "protocol error": (httpx.RemoteProtocolError("CANARY"), NetworkFault.PROTOCOL),
    "proxy error": (httpx.ProxyError("CANARY"), NetworkFault.REFUSED),
}


@pytest.mark.parametrize(("error", "fault"), CUSTOM.values(), ids=CUSTOM)
async def test_a_custom_transports_errors_are_told_apart_too(error, fault):
    answer = await send("https://api.example", transport=raising(error))
    assert isinstance(answer, WireFault)
    assert answer.fault is fault
    assert "CANARY" not in answer.text


async def test_a_custom_transport_may_answer():
    packed = gzip.compress(b"ok")
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, stream=httpx.ByteStream(packed), headers={"content-encoding": "gzip"})
    )
    answer = await send("https://api.example", transport=transport)
    assert isinstance(answer, Reply)
    assert answer.body == b"ok"
