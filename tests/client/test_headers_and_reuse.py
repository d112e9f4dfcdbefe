"""What all transports make of odd header fields, and of connections that a server closes under a request."""

import asyncio
import contextlib
import os
import socket
import time

import pytest
from client import hostile
from client.asking import get

from monitor.model.http import NetworkFault, Operation, Reply, TransportFault

HEADERS = {
    "UTF-8": 'content-disposition: inline; filename="Prédication.pdf"'.encode(),
    "Latin-1": "x-title: Prédication".encode("latin-1"),
    "any bytes": bytes([*b"x-title: ", *range(0x80, 0x100)]),
    "one of two": b"x-title: plain\r\nx-title: \xff",
    "a date": b"date: \xff",
    "a media type": b"content-type: text/\xff",
    "a cookie": b"set-cookie: a=\xff",
    "a place": b"location: /\xff",
    "a coding": b"content-encoding: \xff",
    "a control character": b"x-title: a\x01b",
    "no colon": b"x-title",
    "a space before the colon": b"x-title : a",
    "a name beyond ASCII": "x-é: a".encode(),
    "no name": b": a",
}


def ok(body=b"hi", *, extra=b""):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nretry-after: 7\r\n%b\r\n%b" % (len(body), extra, body)


@pytest.mark.parametrize("field", HEADERS.values(), ids=HEADERS)
async def test_a_header_that_nobody_needs_loses_no_answer_and_no_other_header(answer_of, field):
    answer = await answer_of(hostile.answers(ok(extra=field + b"\r\n")))
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (200, b"hi", "7")
    assert all(value.isascii() for value in answer.headers.values())


async def test_a_folded_header_is_read_as_one_line(answer_of):
    answer = await answer_of(hostile.answers(ok(extra=b"x-long: one\r\n  two\r\n\tthree\r\nx-next: a\r\n")))
    assert answer.headers["x-long"].split() == ["one", "two", "three"]
    assert answer.headers["x-next"] == "a"


class Closing:
    """Answers the first `answered` requests of a connection, then closes it when the next one has come."""

    def __init__(self, answered=1, *, half=b""):
        self.answered, self.half, self.by_connection = answered, half, {}
        self.requests = self.lost = 0

    async def __call__(self, _reader, writer):
        self.requests += 1
        seen = self.by_connection[writer] = self.by_connection.get(writer, 0) + 1
        if seen > self.answered:
            self.lost += 1
            writer.write(self.half)
            await writer.drain()
            raise ConnectionAbortedError
        writer.write(ok())
        await writer.drain()


@contextlib.asynccontextmanager
async def sending(transport_type, behave):
    async with hostile.serving(behave) as server:
        transport = transport_type(base_url=server.url)
        try:
            yield transport
        finally:
            await transport.close()


@pytest.mark.parametrize("operation", [Operation.READ, Operation.POLL, Operation.TOKEN, Operation.CLOSE])
async def test_a_request_that_meets_the_closing_of_an_old_connection_is_repeated_on_a_new_one(
    transport_type, operation
):
    behave = Closing()
    async with sending(transport_type, behave) as transport:
        for _ in range(3):
            assert (await transport.send(get(), timeout_s=5)).status == 200
            assert (await transport.send(get(operation=operation), timeout_s=5)).status == 200
    assert behave.lost > 0


async def test_many_old_connections_that_close_together_lose_no_request(transport_type):
    behave = Closing()
    async with sending(transport_type, behave) as transport:
        for _ in range(3):
            answers = await asyncio.gather(*(transport.send(get(), timeout_s=5) for _ in range(16)))
            assert [each.status for each in answers] == [200] * 16
    assert behave.lost >= 16


async def test_a_request_is_not_repeated_when_its_time_is_over(transport_type):
    """A busy process sees the closing of a connection long after it happened."""

    class ClosingUnseen(Closing):
        async def __call__(self, reader, writer):
            if writer in self.by_connection:
                with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as same:
                    same.shutdown(socket.SHUT_RDWR)
                time.sleep(0.4)  # noqa: ASYNC251  # nobody can look meanwhile
            await super().__call__(reader, writer)

    behave = ClosingUnseen()
    async with sending(transport_type, behave) as transport:
        await transport.send(get(), timeout_s=5)
        answer = await transport.send(get(), timeout_s=0.3)
    assert (answer.fault, behave.requests) == (NetworkFault.TIMEOUT, 2)


async def test_a_write_is_never_repeated(transport_type):
    behave = Closing()
    async with sending(transport_type, behave) as transport:
        await transport.send(get(), timeout_s=5)
        answer = await transport.send(get(operation=Operation.WRITE), timeout_s=5)
    assert (answer.fault, behave.requests) == (NetworkFault.RESET, 2)


async def test_a_service_that_drops_every_request_is_asked_once(transport_type):
    behave = Closing(answered=0)
    async with sending(transport_type, behave) as transport:
        answers = [await transport.send(get(), timeout_s=5) for _ in range(3)]
    assert [each.fault for each in answers] == [NetworkFault.RESET] * 3
    assert behave.requests == 3


async def test_a_service_that_grants_a_token_and_drops_everything_else_is_asked_once(transport_type):
    behave = Closing()
    async with sending(transport_type, behave) as transport:
        await transport.send(get(operation=Operation.TOKEN), timeout_s=5)
        answer = await transport.send(get(), timeout_s=5)
    assert (answer.fault, behave.requests) == (NetworkFault.RESET, 2)


async def test_a_request_is_repeated_once_only(transport_type):
    class Dying(Closing):
        async def __call__(self, reader, writer):
            self.answered = 1 if self.requests == 0 else 0
            await super().__call__(reader, writer)

    behave = Dying()
    async with sending(transport_type, behave) as transport:
        assert isinstance(await transport.send(get(), timeout_s=5), Reply)
        answer = await transport.send(get(), timeout_s=5)
    assert (answer.fault, behave.requests) == (NetworkFault.RESET, 3)


async def test_an_answer_that_breaks_in_its_body_is_not_repeated(transport_type):
    behave = Closing(half=b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
    async with sending(transport_type, behave) as transport:
        await transport.send(get(), timeout_s=5)
        answer = await transport.send(get(), timeout_s=5)
    assert isinstance(answer, TransportFault)
    assert (answer.fault, answer.unanswered, behave.requests) == (NetworkFault.RESET, False, 2)


@pytest.mark.process
async def test_a_connection_is_not_kept_for_as_long_as_servers_keep_it(transport_type):
    """It waits for 2 s: that is how long gunicorn keeps an idle connection, the shortest of the common servers."""
    behave = Closing(answered=99)
    async with sending(transport_type, behave) as transport:
        for pause_s in (0.2, 2.0, 0):
            await transport.send(get(), timeout_s=5)
            await asyncio.sleep(pause_s)
    assert sorted(behave.by_connection.values()) == [1, 2]
