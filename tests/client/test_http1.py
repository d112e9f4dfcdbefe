"""HTTP/1.1 as bytes: where an answer ends, whatever its pieces, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.transports.http1 import MAX_HEAD_BYTES, AnswerReader, InvalidAnswerError, encode_head
from monitor.model.http import NetworkFault

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = b"content-length: 2\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
END, LAST = b"\r\n", b"0\r\n\r\n"


def read(raw, *, method="GET", pieces=None, ends=False):
    """The reader after these bytes, and the body."""
    reader, body = AnswerReader(method), b""
    for piece in [raw] if pieces is None else pieces:
        body += reader.feed(piece)
        if reader.complete:
            break
    if ends and not reader.complete:
        reader.end(cleanly=True)
    return reader, body


WHOLE = {
    "a length": (OK + SIZED + END + b"hi", b"hi", True),
    "no body": (OK + b"content-length: 0\r\n\r\n", b"", True),
    "the same length twice": (OK + SIZED + SIZED + END + b"hi", b"hi", True),
    "the same length in one line": (OK + b"content-length: 2, 2\r\n\r\nhi", b"hi", True),
    "more than its length": (OK + SIZED + END + b"hiHTTP/1.1 200 OK\r\n", b"hi", False),
    "that says close": (OK + SIZED + b"connection: x, Close\r\n\r\nhi", b"hi", False),
    "that keeps alive": (OK + SIZED + b"connection: keep-alive\r\n\r\nhi", b"hi", True),
    "1.0": (b"HTTP/1.0 200 OK\r\n" + SIZED + END + b"hi", b"hi", False),
    "1.0 that keeps alive": (b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n" + SIZED + END + b"hi", b"hi", True),
    "chunks": (OK + CHUNKED + END + b"1\r\nh\r\n001 ;x=y\r\ni\r\n" + LAST, b"hi", True),
    "no chunk": (OK + CHUNKED + END + LAST, b"", True),
    "trailers": (OK + CHUNKED + END + b"2\r\nhi\r\n0\r\nx-a: b\r\n\r\n", b"hi", True),
    "more than its chunks": (OK + CHUNKED + END + b"2\r\nhi\r\n" + LAST + b"x", b"hi", False),
    "a length and chunks": (OK + b"content-length: 1\r\n" + CHUNKED + END + b"2\r\nhi\r\n" + LAST, b"hi", False),
    "chunks of another coding": (OK + b"transfer-encoding: gzip, Chunked\r\n\r\n2\r\nhi\r\n" + LAST, b"hi", True),
    "204": (b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", b"", True),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\n" + SIZED + END, b"", False),
    "204 with chunks": (b"HTTP/1.1 204 No Content\r\n" + CHUNKED + END, b"", False),
    "204 with a body": (b"HTTP/1.1 204 No Content\r\n" + SIZED + END + b"hi", b"", False),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\n" + SIZED + END, b"", True),
    "another protocol": (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", b"", False),
    "no reason": (b"HTTP/1.1 200\r\n" + SIZED + END + b"hi", b"hi", True),
    "a reason beyond ASCII": ("HTTP/1.1 200 Prêt\r\n".encode() + SIZED + END + b"hi", b"hi", True),
    "empty lines before it": (b"\r\n\r\n" + OK + SIZED + END + b"hi", b"hi", True),
    "bare line feeds": (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi", b"hi", True),
    "interim answers": (b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 103\r\na: b\r\n\r\n" + OK + SIZED + END + b"hi", b"hi", True),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "body", "reusable"), WHOLE.values(), ids=WHOLE)
def test_an_answer_ends_where_it_says(raw, body, reusable):
    for pieces in ([raw], [raw[n : n + 1] for n in range(len(raw))]):
        reader, received = read(raw, pieces=pieces)
        assert (reader.complete, received) == (True, body)
    # byte by byte, nothing is read that comes after it
    assert read(raw)[0].is_reusable == reusable


def test_an_answer_to_head_has_no_body():
    assert read(OK + SIZED + END, method="HEAD")[0].complete


@pytest.mark.parametrize("head", [OK, OK + b"transfer-encoding: gzip\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_body_without_a_length_ends_with_the_connection(head):
    reader, body = read(head + END + b"hi", ends=True)
    assert (reader.complete, body, reader.is_reusable) == (True, b"hi", False)


@pytest.mark.parametrize("raw", [b"", OK, OK + SIZED + END + b"h", OK + CHUNKED + END + b"2\r\nhi\r\n"])
def test_an_answer_that_ends_too_early_is_a_broken_connection(raw):
    with pytest.raises(InvalidAnswerError) as caught:
        read(raw, ends=True)
    assert caught.value.fault is NetworkFault.RESET


def test_a_body_without_a_length_is_cut_off_where_tls_has_no_end():
    reader, _ = read(OK + END + b"hi")
    with pytest.raises(InvalidAnswerError):
        reader.end(cleanly=False)


REFUSED = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n",
    "another version": b"HTTP/2.0 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "two lengths": OK + SIZED + b"content-length: 3\r\n\r\nabc",
    "a signed length": OK + b"content-length: +2\r\n\r\nhi",
    "an empty length": OK + b"content-length: \r\n\r\nhi",
    "an endless length": OK + b"content-length: " + b"9" * 30 + b"\r\n\r\nhi",
    "a length in words": OK + b"content-length: two\r\n\r\nhi",
    "a length behind a space": OK + b"content-length : 2\r\n\r\nhi",
    "a length with a control character": OK + b"content-length: 2\x00\r\n\r\nhi",
    "a folded length": OK + b"content-length: 2\r\n 0\r\n\r\nhi",
    "a coding beyond ASCII": OK + b"transfer-encoding: chunked\xff\r\n\r\n",
    "a carriage return in a line": OK + b"x-a: b\rtransfer-encoding: chunked\r\n\r\n",
    "a nul in a name": OK + b"transfer-encoding\x00: chunked\r\n" + SIZED + END + b"hi",
    "a nul in a value": OK + b"x-a: b\x00\r\n" + SIZED + END + b"hi",
    "a nul in a folded line": OK + b"x-a: b\r\n \x00\r\n" + SIZED + END + b"hi",
    "a nul in a trailer": OK + CHUNKED + END + b"0\r\nx-a: \x00\r\n\r\n",
    "a carriage return in a trailer": OK + CHUNKED + END + b"0\r\nx-a: b\rc\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + CHUNKED + END + LAST,
    "a chunk of no size": OK + CHUNKED + b"\r\n\r\n",
    "a chunk of a signed size": OK + CHUNKED + b"\r\n-1\r\n",
    "a chunk longer than its size": OK + CHUNKED + b"\r\n1\r\nhi\r\n",
    "a chunk line without a carriage return": OK + CHUNKED + b"\r\n2\nhi\r\n",
    "an endless chunk line": OK + CHUNKED + b"\r\n" + b"0" * 20_000,
    "endless extensions": OK + CHUNKED + b"\r\n" + (b"1;" + b"x" * 4000 + b"\r\na\r\n") * 5,
    "endless trailers": OK + CHUNKED + b"\r\n0\r\n" + b"x-a: b\r\n" * 3000,
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_what_could_hide_the_end_of_an_answer_is_refused(raw):
    with pytest.raises(InvalidAnswerError) as caught:
        read(raw)
    assert caught.value.fault is NetworkFault.PROTOCOL


LONG = OK + b"x: " + b"a" * MAX_HEAD_BYTES


@pytest.mark.parametrize("raw", [LONG, LONG + END + END, OK + b"x: a\r\n" * 101 + END], ids=["open", "long", "many"])
def test_a_head_is_limited(raw):
    with pytest.raises(InvalidAnswerError) as caught:
        read(raw)
    assert caught.value.fault is NetworkFault.TOO_LARGE


HEADERS = {
    "repeated": (b"X-A: 1\r\nx-b: 2\r\nx-a: 3\r\n", {"x-a": "1, 3", "x-b": "2"}),
    "folded": (b"x-a: 1\r\n\t2\r\n  3 \r\nx-b:4\r\n", {"x-a": "1 2 3", "x-b": "4"}),
    "folded before the first": (b" 1\r\nx-a: 2\r\n", {"x-a": "2"}),
    "folded after one that is left out": (b"x-a: \xff\r\n 1\r\nx-b: 2\r\n", {"x-b": "2"}),
    "longer than the cache takes": (b"x-a: " + b"a" * 1000 + b"\r\n", {"x-a": "a" * 1000}),
    "a tab in a value": (b"x-a: a\tb\r\n", {"x-a": "a\tb"}),
    "not text": (b"x-a\r\nx b: 1\r\n: 1\r\nx-\xe9: 1\r\nx-c: a\x7fb\r\nx-d:\r\n", {"x-d": ""}),
}


@pytest.mark.parametrize(("lines", "expected"), HEADERS.values(), ids=HEADERS)
def test_headers_are_read_and_what_is_no_text_is_left_out(lines, expected):
    assert read(OK + lines + SIZED + END)[0].headers == {**expected, "content-length": "2"}


@st.composite
def answers(draw):
    """An answer in any framing, with what it means."""
    body = draw(st.binary(max_size=300))
    head = (
        draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
        + OK
        + draw(st.sampled_from([b"", b"x-a: b\r\n"]))
    )
    framing = draw(st.sampled_from(["length", "chunks", "close"]))
    if framing == "length":
        return head + b"content-length: %d\r\n\r\n" % len(body) + body, body
    if framing == "close":
        return head + END + body, body
    sizes = draw(st.lists(st.integers(1, 50)))
    pieces, rest = [], body
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    written = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, rest] if piece)
    return head + CHUNKED + END + written + LAST, body


@given(answers(), st.lists(st.integers(1, 60), min_size=1))
def test_an_answer_is_the_same_in_any_pieces(answer, sizes):
    raw, body = answer
    pieces, at = [], 0
    for size in sizes * len(raw):
        pieces.append(raw[at : at + size])
        at += size
        if at >= len(raw):
            break
    reader, received = read(raw, pieces=pieces, ends=True)
    assert (reader.complete, reader.status, received) == (True, 200, body)


@given(st.lists(st.binary() | st.sampled_from([OK, SIZED, CHUNKED, END, LAST, b"HTTP/1.", b"\n", b"2\r\nhi\r\n"])))
def test_any_bytes_are_an_answer_or_refused(pieces):
    try:
        _, body = read(b"", pieces=pieces, ends=True)
    except InvalidAnswerError:
        return
    assert body in b"".join(pieces) or len(body) < len(b"".join(pieces))


def test_a_default_header_counts_where_the_request_has_none():
    head = encode_head({"Accept": "a/b", "x-a": "1", "content-length": "9"}, defaults={"accept": "*/*", "host": "h"})
    assert head == b"host: h\r\nAccept: a/b\r\nx-a: 1\r\n"


@pytest.mark.parametrize("name", ["", "a b", "a:", "é", "a\r\nb"])
def test_a_name_that_is_no_token_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        encode_head({name: "x"}, defaults={})
