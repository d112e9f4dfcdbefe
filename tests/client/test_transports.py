"""The contract of `Transport` for both implementations, against a server with bad behaviour."""

import asyncio
import gzip
import itertools
import logging
import os
import sys
import time
import traceback
from pathlib import Path

import httpx
import pytest
from client import hostile
from client.asking import CANARY, get

from monitor.client.transports import HttpxTransport
from monitor.model.http import NetworkFault, Reply, Request, TransportFault

ROOT = Path(__file__).resolve().parents[2]


async def test_a_request_is_sent_unchanged_and_the_complete_reply_returned(transport_type):
    behave = hostile.answers(
        b"HTTP/1.1 418 x\r\nContent-Length: 2\r\nX-Two: a\r\nx-two: b\r\nset-cookie: id=1\r\n\r\nhi"
    )
    async with hostile.serving(behave) as server:
        transport = transport_type(base_url=server.url + "/gateway/")
        request = Request(
            method="POST", path="/a%2Fb?q=1", template="/", headers={"content-type": "text/plain"}, body=b"body"
        )
        replies = [await transport.send(request, timeout_s=5), await transport.send(request, timeout_s=5)]
        await transport.close()
        await transport.close()
    assert replies[0] == replies[1]
    assert (replies[0].status, replies[0].body, replies[0].headers["x-two"]) == (418, b"hi", "a, b")
    first, second = (sent.lower() for sent in server.received)
    assert first.startswith(b"post /gateway/a%2fb?q=1 http/1.1\r\n")
    assert first.endswith(b"\r\n\r\nbody")
    assert b"accept-encoding: gzip\r\n" in first
    assert b"user-agent: ingestion-monitor/" in first
    assert b"cookie" not in second


@pytest.mark.parametrize("timeout_s", [0.0, -1e-6, -5.0])
async def test_nothing_is_sent_after_the_deadline(transport_type, timeout_s):
    async with hostile.serving(hostile.replies(200)) as server:
        transport = transport_type(base_url=server.url)
        answer = await transport.send(get(), timeout_s=timeout_s)
        await transport.close()
    assert isinstance(answer, TransportFault)
    assert answer.fault is NetworkFault.TIMEOUT
    assert server.received == []


@pytest.mark.parametrize("coding", ["br", "gzip", "nonsense"])
async def test_an_empty_answer_is_valid_with_any_content_encoding(transport_type, coding):
    async with hostile.serving(hostile.replies(503, content_encoding=coding)) as server:
        transport = transport_type(base_url=server.url)
        answer = await transport.send(get(), timeout_s=5)
        await transport.close()
    assert (answer.status, answer.body) == (503, b"")


BROKEN = {
    "reset in mid-body": (hostile.reset_mid_body, NetworkFault.RESET),
    "short of its content-length": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", close=True),
        NetworkFault.RESET,
    ),
    "closed without an answer": (hostile.answers(b"", close=True), NetworkFault.RESET),
    "garbage": (hostile.answers(b"\x00\x01garbage\r\n\r\n"), NetworkFault.PROTOCOL),
    "half a chunk": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", close=True),
        NetworkFault.RESET,
    ),
    "no status": (hostile.answers(b"HTTP/1.1 OK\r\n\r\n"), NetworkFault.PROTOCOL),
    "HTTP/0.9": (hostile.answers(b"<html>hello</html>", close=True), NetworkFault.PROTOCOL),
    "broken chunks": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        NetworkFault.PROTOCOL,
    ),
    "two lengths": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde"),
        NetworkFault.PROTOCOL,
    ),
    "a megabyte of headers": (
        hostile.answers(b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 1_000_000 + b"\r\n\r\n"),
        NetworkFault.TOO_LARGE,
    ),
    "a thousand headers": (
        hostile.answers(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 1000 + b"content-length: 0\r\n\r\n"),
        NetworkFault.TOO_LARGE,
    ),
    "endless body": (hostile.endless, NetworkFault.TOO_LARGE),
    "endless chunks": (hostile.chunks(itertools.repeat(bytes(10_000))), NetworkFault.TOO_LARGE),
    "a bomb": (hostile.replies(200, hostile.gzip_bomb(20), content_encoding="gzip"), NetworkFault.TOO_LARGE),
    "a bomb in chunks": (
        hostile.chunks(hostile.piecewise(hostile.gzip_bomb(20), 1000), content_encoding="gzip"),
        NetworkFault.TOO_LARGE,
    ),
    "a thousand small bombs": (
        hostile.replies(200, gzip.compress(bytes(2000)) * 1000, content_encoding="gzip"),
        NetworkFault.TOO_LARGE,
    ),
    "a coding that was not asked for": (hostile.replies(200, b"x", content_encoding="br"), NetworkFault.PROTOCOL),
    "gzip twice": (hostile.replies(200, b"x", content_encoding="gzip, gzip"), NetworkFault.PROTOCOL),
    "gzip that is none": (hostile.replies(200, b"not gzip", content_encoding="gzip"), NetworkFault.PROTOCOL),
    "gzip cut short": (
        hostile.replies(200, gzip.compress(b"x" * 100)[:-9], content_encoding="gzip"),
        NetworkFault.RESET,
    ),
    "a second gzip member cut short": (
        hostile.replies(200, gzip.compress(b"a") + gzip.compress(b"b" * 99)[:-9], content_encoding="gzip"),
        NetworkFault.RESET,
    ),
    "a broken checksum": (
        hostile.replies(200, gzip.compress(b"x" * 99)[:-8] + bytes(8), content_encoding="gzip"),
        NetworkFault.PROTOCOL,
    ),
}


@pytest.mark.parametrize(("behave", "fault"), BROKEN.values(), ids=BROKEN)
async def test_a_malformed_answer_is_a_fault_with_our_own_message(answer_of, behave, fault):
    answer = await answer_of(behave)
    assert isinstance(answer, TransportFault)
    assert answer.fault is fault
    assert "127.0.0.1" not in answer.text
    assert CANARY not in answer.text


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
SLOW = {
    "hang": hostile.hang,
    "dripped headers": hostile.drip(OK + b"x-a: "),
    "dripped body": hostile.drip(OK + b"content-length: 100000\r\n\r\n"),
    "dripped body without a length": hostile.drip(OK + b"\r\n"),
    "dripped chunks": hostile.drip(CHUNKED, pieces=b"1\r\na\r\n"),
    "dripped size of a chunk": hostile.drip(CHUNKED, pieces=b"0"),
    "dripped trailers": hostile.drip(CHUNKED + b"0\r\n", pieces=b"x-a: b\r\n"),
    "dripped interim answers": hostile.drip(b"", pieces=b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a flood of interim answers": hostile.drip(b"", pieces=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10, every_s=0),
    "dripped gzip": hostile.drip(
        OK + b"content-encoding: gzip\r\ncontent-length: 100000\r\n\r\n",
        pieces=hostile.piecewise(gzip.compress(os.urandom(100_000)), 1),
    ),
    "half a body": hostile.answers(OK + b"content-length: 100\r\n\r\nabc"),
}


@pytest.mark.parametrize("behave", SLOW.values(), ids=SLOW)
async def test_the_wall_clock_ends_an_attempt(answer_of, behave):
    started = time.monotonic()
    answer = await answer_of(behave, timeout_s=0.3)
    assert isinstance(answer, TransportFault)
    assert answer.fault is NetworkFault.TIMEOUT
    assert 0.29 <= time.monotonic() - started < 60


SILENT = {
    "accepts and says nothing": ("http", hostile.hang),
    "no TLS handshake": ("https", hostile.hang),
    "dripped TLS handshake": ("https", hostile.drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")),
}


@pytest.mark.parametrize(("scheme", "greet"), SILENT.values(), ids=SILENT)
async def test_the_wall_clock_covers_connecting(send, scheme, greet):
    before = asyncio.all_tasks()
    async with hostile.serving(hostile.hang, greet=greet) as server:
        started = time.monotonic()
        answer = await send(f"{scheme}://127.0.0.1:{server.port}", timeout_s=0.3)
        assert 0.29 <= time.monotonic() - started < 60
    assert answer == TransportFault(fault=NetworkFault.TIMEOUT, text="no complete answer in time")
    assert server.received == []
    assert asyncio.all_tasks() == before


async def test_the_wall_clock_covers_a_connection_that_is_never_accepted(send):
    with hostile.full_backlog() as port:
        started = time.monotonic()
        answer = await send(f"http://127.0.0.1:{port}", timeout_s=0.3)
        assert 0.29 <= time.monotonic() - started < 60
    assert answer.fault is NetworkFault.TIMEOUT


def in_a_process(script, *arguments, **kwargs):
    command = [sys.executable, "-c", script, *arguments]
    return asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT, **kwargs)


# it ends without Python's teardown, as the command does: see `monitor.cli.command`
LOOK_UP = """
import asyncio, os, sys, time
from monitor.client import transports as transports
from monitor.model.http import Request

async def main():
    sender = getattr(transports, sys.argv[1])()
    started = time.monotonic()
    answer = await sender.send(Request(method="GET", path="http://api/", template="/"), timeout_s=0.3)
    await sender.close()
    print(answer.fault, time.monotonic() - started, flush=True)

asyncio.run(main())
sys.stdin.read()
os._exit(0)
"""


async def test_the_wall_clock_covers_a_hanging_dns_lookup(transport_type, tmp_path):
    # the C library opens this file for a name without dots; an unwritten pipe blocks it there
    os.mkfifo(aliases := tmp_path / "aliases")
    environment = {**os.environ, "HOSTALIASES": str(aliases)}
    looking = await in_a_process(LOOK_UP, transport_type.__name__, env=environment, stdin=asyncio.subprocess.PIPE)
    fault, took_s = (await looking.stdout.readline()).decode().split()
    os.close(os.open(aliases, os.O_WRONLY | os.O_NONBLOCK))  # fails unless the lookup still waits there
    await looking.communicate(b"")
    assert (fault, looking.returncode) == ("timeout", 0)
    assert 0.3 <= float(took_s) < 5


def threads():
    return len(list(Path("/proc/self/task").iterdir()))


async def test_faults_leave_no_threads_behind(answer_of):
    counts = []
    for _ in range(12):
        await answer_of(hostile.hang, timeout_s=0.1)
        await answer_of(hostile.reset_mid_body)
        counts.append(threads())
    assert max(counts[6:]) <= counts[2] + 1


async def test_cancellation_passes_through(send):
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


JSON = b'{"a": 1}'
PACKED = gzip.compress(JSON)
GZIP = {
    "one member": hostile.replies(200, PACKED, content_encoding="gzip"),
    "its older name, shouted": hostile.replies(200, PACKED, content_encoding="X-GZIP"),
    "two members": hostile.replies(200, gzip.compress(JSON[:3]) + gzip.compress(JSON[3:]), content_encoding="gzip"),
    "two members, byte by byte": hostile.chunks(
        hostile.piecewise(gzip.compress(JSON[:3]) + gzip.compress(JSON[3:]), 1), content_encoding="gzip"
    ),
    "beside names that are no codings": hostile.replies(200, PACKED, content_encoding="identity, gzip, utf-8"),
    "a charset in place of a coding": hostile.replies(200, JSON, content_encoding="UTF-8"),
    "no coding by name": hostile.replies(200, JSON, content_encoding="none"),
    "zeros after it": hostile.replies(200, PACKED + bytes(512), content_encoding="gzip"),
    "garbage after it": hostile.replies(200, PACKED + b"garbage", content_encoding="gzip"),
    "an empty member after it": hostile.replies(200, PACKED + gzip.compress(b""), content_encoding="gzip"),
}


@pytest.mark.parametrize("behave", GZIP.values(), ids=GZIP)
async def test_a_gzip_answer_is_decoded(answer_of, behave):
    answer = await answer_of(behave)
    assert isinstance(answer, Reply)
    assert answer.body == JSON


# in a separate process: otherwise the peak memory of other tests would hide this one's
MEASURE = """
import asyncio, resource, sys
from monitor.client import transports as transports
from monitor.model.http import Request

async def main():
    sender, peaks_kb = getattr(transports, sys.argv[1])(), []
    for url in sys.argv[2:]:
        answer = await sender.send(Request(method="GET", path=url, template="/"), timeout_s=20)
        peaks_kb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    await sender.close()
    print(answer.fault, peaks_kb[1] - peaks_kb[0])

asyncio.run(main())
"""
BOMB = hostile.gzip_bomb(300)
BOMBS = {
    "a gzip bomb": hostile.replies(200, BOMB, content_encoding="gzip"),
    "a gzip bomb in chunks": hostile.chunks(hostile.piecewise(BOMB, 10_000), content_encoding="gzip"),
    "an endless body": hostile.endless,
    "an endless chunk": hostile.drip(CHUNKED + b"ffffffffffff\r\n", pieces=bytes(65_536), every_s=0),
    "endless chunks": hostile.chunks(itertools.repeat(bytes(65_536))),
}


@pytest.mark.parametrize("wild", BOMBS.values(), ids=BOMBS)
async def test_an_oversized_body_is_refused_within_twenty_megabytes(transport_type, wild):
    assert len(BOMB) < 1 << 20
    mild = hostile.replies(200, gzip.compress(b"x"), content_encoding="gzip")
    async with hostile.serving(mild) as first, hostile.serving(wild) as second:
        measuring = await in_a_process(MEASURE, transport_type.__name__, first.url, second.url)
        printed, _ = await measuring.communicate()
    fault, growth_kb = printed.decode().split()
    assert fault == "too_large"
    assert int(growth_kb) < 20 * 1024


async def test_a_closed_transport_sends_nothing(transport_type):
    transport = transport_type(base_url="http://127.0.0.1:9")
    await transport.close()
    with pytest.raises(RuntimeError, match="closed"):
        await transport.send(get(), timeout_s=5)


async def test_a_connection_closed_while_idle_is_replaced(transport_type):
    closing = hostile.answers(OK + b"content-length: 2\r\n\r\nhi", close=True)
    async with hostile.serving(closing) as server:
        transport = transport_type(base_url=server.url)
        answers = []
        for _ in range(5):
            answers.append(await transport.send(get(), timeout_s=5))
            await asyncio.sleep(0.05)
        await transport.close()
    assert [answer.body for answer in answers if isinstance(answer, Reply)] == [b"hi"] * 5
    assert server.accepted == 5


async def test_connections_are_reused_during_a_run_and_closed_cleanly_at_its_end(transport_type):
    requests, at_once = 500, 8

    async def ask(transport, turns):
        return [(await transport.send(get(), timeout_s=20)).status for _ in turns]

    async with hostile.serving(hostile.replies(200, b"{}")) as server:
        transport, turns = transport_type(base_url=server.url), iter(range(requests))
        answers = await asyncio.gather(*(ask(transport, turns) for _ in range(at_once)))
        await transport.close()
        await server.until_ended()
    assert [status for each in answers for status in each] == [200] * requests
    assert server.accepted <= at_once


@pytest.mark.parametrize(("size", "kind"), [(1000, Reply), (1001, TransportFault)])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_the_cap_is_exact(answer_of, size, kind, coding):
    body = bytes(size)
    body = gzip.compress(body) if coding == "gzip" else body
    answer = await answer_of(hostile.replies(200, body, content_encoding=coding), get(max_bytes=1000))
    assert isinstance(answer, kind)


async def test_a_redirect_to_garbage_is_a_reply_like_any_other(answer_of):
    answer = await answer_of(hostile.replies(302, location="http://[bad"))
    assert isinstance(answer, Reply)
    assert answer.headers["location"] == "http://[bad"


async def test_a_refused_connection_is_distinguished_from_an_unknown_host(send):
    async with hostile.serving(hostile.replies(200)) as gone:
        pass
    refused = await send(gone.url)
    unknown = await send("http://nonexistent.invalid")
    assert isinstance(refused, TransportFault)
    assert isinstance(unknown, TransportFault)
    assert (refused.fault, unknown.fault) == (NetworkFault.REFUSED, NetworkFault.DNS)


async def test_no_library_logs_a_header_or_a_body(answer_of, caplog):
    caplog.set_level(logging.DEBUG)
    request = Request(method="POST", path="/x", template="/x", headers={"x-api-key": CANARY}, body=CANARY.encode())
    assert isinstance(await answer_of(hostile.replies(200, CANARY.encode()), request), Reply)
    assert CANARY not in caplog.text


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
async def test_a_path_that_could_change_the_host_is_never_sent(send, path):
    async with hostile.serving(hostile.replies(200)) as server:
        with pytest.raises(ValueError, match="path must be escaped"):
            await send(server.url, get(path))
    assert server.received == []


@pytest.mark.parametrize("path", ["//evil.example/x", "/@evil.example", "/%2F%2Fevil.example", "/a?b=../c", "/x:80"])
async def test_a_path_cannot_change_the_host(send, path):
    async with hostile.serving(hostile.replies(200)) as server:
        assert isinstance(await send(server.url, get(path)), Reply)
    assert server.received[0].startswith(f"GET {path} HTTP/1.1\r\n".encode())


async def test_a_header_cannot_inject_another_header(send):
    request = Request(method="GET", path="/x", template="/x", headers={"authorization": "a\r\nx-evil: 1"})
    async with hostile.serving(hostile.replies(200)) as server:
        with pytest.raises(ValueError, match="a header's value"):
            await send(server.url, request)
    assert server.received == []


async def test_an_absolute_url_is_used_unchanged(send):
    async with hostile.serving(hostile.replies(200)) as server:
        paths = ["/oauth2/token?a=b", "", "/hooks/a|b?c={d}#part"]
        answers = [await send("", get(server.url + path)) for path in paths]
    assert {answer.status for answer in answers if isinstance(answer, Reply)} == {200}
    assert [sent.split(b" ", 2)[1] for sent in server.received] == [b"/oauth2/token?a=b", b"/", b"/hooks/a|b?c={d}"]


@pytest.mark.parametrize("url", ["https://api.example:CANARY/", "https://api.example/CANARY\n"])
async def test_an_invalid_absolute_url_is_reported_without_quoting_it(send, url):
    with pytest.raises(ValueError, match="URL can't be read") as caught:
        await send("", get(url))
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))


async def send_through(transport):
    transport = HttpxTransport(base_url="https://api.example", transport=transport)
    try:
        return await transport.send(get(), timeout_s=5)
    finally:
        await transport.close()


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
async def test_a_custom_transports_errors_map_to_faults_too(error, fault):
    answer = await send_through(raising(error))
    assert isinstance(answer, TransportFault)
    assert answer.fault is fault
    assert "CANARY" not in answer.text


async def test_a_custom_transport_can_answer():
    packed = gzip.compress(b"ok")
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, stream=httpx.ByteStream(packed), headers={"content-encoding": "gzip"})
    )
    answer = await send_through(transport)
    assert isinstance(answer, Reply)
    assert answer.body == b"ok"


async def test_large_answers_are_limited_in_memory_and_all_are_returned(transport_type):
    body = os.urandom(1 << 19)
    async with hostile.serving(hostile.replies(200, body)) as server:
        transport = transport_type(base_url=server.url)
        answers = await asyncio.gather(*(transport.send(get(), timeout_s=30) for _ in range(40)))
        await transport.close()
    assert [answer.body == body for answer in answers] == [True] * 40


async def test_a_large_body_that_waits_for_memory_ends_at_its_deadline(transport_type):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(200_000)
    async with hostile.serving(hostile.answers(head)) as server:
        transport = transport_type(base_url=server.url)
        started = time.monotonic()
        answers = await asyncio.gather(*(transport.send(get(), timeout_s=0.5) for _ in range(80)))
        took_s = time.monotonic() - started
        await transport.close()
    assert {answer.fault for answer in answers} == {NetworkFault.TIMEOUT}
    assert took_s < 4.5  # one after the other they would need 80 / 8 × 0.5 s
