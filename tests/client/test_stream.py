"""Streamed bodies: by the transport over real sockets, and by the client's retry loop."""

import asyncio
import gzip
import itertools
import os
import sys
import time

import pytest
from client import hostile
from client.scripted import Clock

from monitor.client.auth import ApiKey
from monitor.client.client import Client
from monitor.client.transports.body import BodyReader
from monitor.model.http import DEADLINE_EXCEEDED, NetworkFault, Reply, Request, TransportFault

MIB = 1 << 20


class Taken:
    """A sink that keeps its input and stops after some pieces."""

    def __init__(self, most_pieces=None):
        self.pieces, self._most = [], most_pieces

    def __call__(self, piece):
        self.pieces.append(piece)
        return self._most is None or len(self.pieces) < self._most

    @property
    def whole(self):
        return b"".join(self.pieces)


def get(url, **kwargs):
    return Request(method="GET", path=url, template="/list", **kwargs)


@pytest.fixture
def stream(transport_type):
    """The result of a stream from a server with this behaviour, and its sink; checks that no task is left."""

    async def stream(behave, *, timeout_s=5.0, read_timeout_s=None, max_bytes=16 * MIB, sink=None):
        sink, transport, before = sink or Taken(), transport_type(), asyncio.all_tasks()
        async with hostile.serving(behave) as server:
            try:
                kwargs = {"timeout_s": timeout_s, "sink": sink, "read_timeout_s": read_timeout_s}
                answer = await transport.send(get(server.url, max_bytes=max_bytes), **kwargs)
            finally:
                await transport.close()
        assert asyncio.all_tasks() == before
        return answer, sink

    return stream


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_large_body_is_passed_on_completely_in_few_pieces(stream, coding):
    body = os.urandom(3 * MIB + 17)
    sent = gzip.compress(body, 1) if coding == "gzip" else body
    answer, sink = await stream(hostile.replies(200, sent, content_encoding=coding, link="</next>"))
    assert sink.whole == body
    assert len(sink.pieces) <= 25
    assert (answer.status, answer.body, answer.headers["link"]) == (200, b"", "</next>")


def test_a_large_piece_is_passed_on_without_a_copy():
    reader, sink = BodyReader("", 16 * MIB), Taken()
    small, large = os.urandom(1000), os.urandom(MIB)
    assert reader.feed(large, sink) is None
    assert sink.pieces[0] is large
    for piece in (small, large, small):
        assert reader.feed(piece, sink) is None
    assert reader.finish(sink) is None
    assert sink.whole == large + small + large + small


async def test_an_empty_body_passes_nothing_on(stream):
    answer, sink = await stream(hostile.replies(200, b""))
    assert (answer.status, sink.pieces) == (200, [])


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_only_the_body_of_a_success_is_sent_to_the_sink(stream, status):
    answer, sink = await stream(hostile.replies(status, b'{"code": "no"}'))
    assert (answer.status, answer.body, sink.pieces) == (status, b'{"code": "no"}', [])


async def test_an_error_body_is_capped_below_the_cap_of_a_list(stream):
    answer, sink = await stream(hostile.replies(500, bytes(MIB + 1)), max_bytes=16 * MIB)
    assert (answer.fault, sink.pieces) == (NetworkFault.TOO_LARGE, [])


@pytest.mark.parametrize(("size", "kind"), [(2 * MIB, Reply), (2 * MIB + 1, TransportFault)])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_the_cap_of_a_stream_is_exact(stream, size, kind, coding):
    body = bytes(size)
    sent = gzip.compress(body) if coding == "gzip" else body
    answer, _ = await stream(hostile.replies(200, sent, content_encoding=coding), max_bytes=2 * MIB)
    assert isinstance(answer, kind)


BROKEN = {
    "endless": (hostile.endless, NetworkFault.TOO_LARGE),
    "endless chunks": (hostile.chunks(itertools.repeat(bytes(100_000))), NetworkFault.TOO_LARGE),
    "short of its content-length": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", close=True),
        NetworkFault.RESET,
    ),
    "broken chunks": (
        hostile.answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        NetworkFault.PROTOCOL,
    ),
    "a bomb": (hostile.replies(200, hostile.gzip_bomb(300), content_encoding="gzip"), NetworkFault.TOO_LARGE),
    "reset in mid-body": (hostile.reset_mid_body, NetworkFault.RESET),
    "gzip that is none": (hostile.replies(200, b"not gzip", content_encoding="gzip"), NetworkFault.PROTOCOL),
    "gzip cut short": (
        hostile.replies(200, gzip.compress(b"x" * 99)[:-9], content_encoding="gzip"),
        NetworkFault.RESET,
    ),
    "a coding not asked for": (hostile.replies(200, b"x", content_encoding="br"), NetworkFault.PROTOCOL),
}


@pytest.mark.parametrize(("behave", "fault"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_stream_is_a_fault(stream, behave, fault):
    answer, sink = await stream(behave, max_bytes=4 * MIB)
    assert answer.fault is fault
    assert len(sink.whole) <= 4 * MIB


async def test_a_sink_can_end_the_stream(stream):
    answer, sink = await stream(hostile.endless, max_bytes=1 << 40, sink=Taken(most_pieces=2))
    assert (answer.status, len(sink.pieces)) == (200, 2)


SILENT = {
    "before the headers": hostile.hang,
    "in mid-chunk": hostile.answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc"),
    "in mid-body": hostile.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc"),
}


@pytest.mark.parametrize("behave", SILENT.values(), ids=SILENT)
async def test_a_silent_stream_ends_long_before_its_deadline(stream, behave):
    started = time.monotonic()
    answer, _ = await stream(behave, timeout_s=200, read_timeout_s=0.2)
    assert answer.fault is NetworkFault.TIMEOUT
    assert time.monotonic() - started < 100


async def test_a_dripping_stream_ends_at_the_wall_clock_limit(stream):
    started = time.monotonic()
    answer, _ = await stream(
        hostile.drip(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"), timeout_s=0.5, read_timeout_s=0.4
    )
    assert answer.fault is NetworkFault.TIMEOUT
    assert 0.49 <= time.monotonic() - started < 60


async def test_a_dripping_stream_ends_even_if_the_library_swallows_a_cancellation(transport_type):
    dripping = hostile.drip(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", every_s=0.0005)
    transport = transport_type()
    async with hostile.serving(dripping) as server:
        for _ in range(10):
            sent = (
                transport.send(get(server.url), timeout_s=0.1 + n / 500, sink=Taken(), read_timeout_s=5)
                for n in range(10)
            )
            async with asyncio.timeout(30):
                answers = await asyncio.gather(*sent)
            assert {answer.fault for answer in answers} == {NetworkFault.TIMEOUT}
    await transport.close()


async def test_a_broken_stream_is_read_again_into_a_new_sink(transport_type):
    turns = iter([hostile.reset_mid_body, hostile.replies(503), hostile.replies(200, b"whole")])

    async def behave(reader, writer):
        await next(turns)(reader, writer)

    sinks = []

    def sink_factory():
        sinks.append(Taken())
        return sinks[-1]

    async with hostile.serving(behave) as server:
        client = Client(transport=transport_type(base_url=server.url), sleep=lambda _: asyncio.sleep(0))
        answer = await client.send(get("/list"), deadline_s=time.monotonic() + 20, sink_factory=sink_factory)
        await client.transport.close()
    assert (answer.attempts, answer.reply.status) == (3, 200)
    assert [sink.whole for sink in sinks][1:] == [b"", b"whole"]


async def test_a_call_repeated_with_a_new_key_reads_into_a_new_sink(transport_type):
    keys, sinks = iter(["old", "new"]), []

    async def behave(reader, writer):
        fresh = b"new" in server.received[-1]
        await (hostile.replies(200, b"whole") if fresh else hostile.replies(401, b"{}"))(reader, writer)

    def sink_factory():
        sinks.append(Taken())
        return sinks[-1]

    async with hostile.serving(behave) as server:
        client = Client(transport=transport_type(base_url=server.url), auth=ApiKey(lambda: next(keys)))
        answer = await client.send(get("/list"), deadline_s=time.monotonic() + 20, sink_factory=sink_factory)
        await client.transport.close()
    assert (answer.attempts, answer.reply.status) == (2, 200)
    assert [sink.whole for sink in sinks] == [b"", b"whole"]


async def test_the_caller_can_limit_attempts(transport_type):
    async with hostile.serving(hostile.replies(503)) as server:
        client = Client(transport=transport_type(base_url=server.url), sleep=lambda _: asyncio.sleep(0))
        answer = await client.send(get("/list"), deadline_s=time.monotonic() + 20, sink_factory=Taken, max_attempts=2)
        await client.transport.close()
    assert (answer.attempts, answer.error.status) == (2, 503)


class StreamTransport:
    """A transport that keeps the timeout it was given, and uses all of it."""

    def __init__(self, clock, fault):
        self.clock, self.fault, self.given = clock, fault, []

    async def send(self, request, *, timeout_s, sink=None, read_timeout_s=None):
        self.given.append((timeout_s, read_timeout_s))
        self.clock.now_s += timeout_s if self.fault is NetworkFault.TIMEOUT else 1.0
        return TransportFault(fault=self.fault, text="")

    async def close(self):
        """There is nothing to close."""


async def test_a_stream_cut_at_the_deadline_is_a_deadline_error():
    clock = Clock()
    transport = StreamTransport(clock, NetworkFault.TIMEOUT)
    client = Client(transport=transport, monotonic=clock, sleep=clock.sleep, attempt_timeout_s=5.0)
    answer = await client.send(get("/list"), deadline_s=clock.now_s + 100, sink_factory=Taken)
    assert transport.given == [(100.0, 5.0)]
    assert answer.error.code == DEADLINE_EXCEEDED


# in a separate process: otherwise the peak memory of other tests would hide this one's
MEASURE = """
import asyncio, resource, sys
from monitor.client import transports as transports
from monitor.model.http import Request

async def main():
    sender, peaks_kb = getattr(transports, sys.argv[1])(), []
    for url in sys.argv[2:]:
        request = Request(method="GET", path=url, template="/", max_bytes=1 << 30)
        answer = await sender.send(request, timeout_s=60, sink=lambda piece: True)
        peaks_kb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    await sender.close()
    print(answer.status, peaks_kb[1] - peaks_kb[0])

asyncio.run(main())
"""


async def test_a_300_megabyte_stream_needs_ten_megabytes(transport_type):
    mild = hostile.replies(200, gzip.compress(b"x"), content_encoding="gzip")
    wild = hostile.replies(200, hostile.gzip_bomb(300), content_encoding="gzip")
    async with hostile.serving(mild) as first, hostile.serving(wild) as second:
        measuring = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            MEASURE,
            transport_type.__name__,
            first.url,
            second.url,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await measuring.communicate()
    status, growth_kb = printed.decode().split()
    assert status == "200"
    assert int(growth_kb) < 10 * 1024
