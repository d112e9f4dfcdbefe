from dataclasses import dataclass, field

import pytest

from monitor.model import BadBody
from monitor.model.http import ApiError, CallResult, Reply, Request
from monitor.providers import Listing
from monitor.runs.list_check import fetch_list


def page(path):
    return Request(method="GET", path=path, template="/list")


@dataclass
class Pages:
    """A provider and a client in one: each page is ids, then the path of the next page."""

    pages: dict
    asked: list = field(default_factory=list)
    fails: dict = field(default_factory=dict)

    def list_reader(self, request, listing):
        return Reader(self, listing)

    async def send(self, request, *, deadline_s, sink_factory=None, max_attempts=None):
        self.asked.append(request.path)
        if request.path in self.fails:
            sink_factory()(b"half")  # what a cut attempt handed over
            return CallResult(error=self.fails[request.path], attempts=2, latency_ms=7.0)
        assert sink_factory()(request.path.encode())
        return CallResult(reply=Reply(status=200, headers={}, body=b""), attempts=1, latency_ms=3.0)


@dataclass
class Reader:
    source: Pages
    listing: Listing
    read: bytes = b""

    def feed(self, piece):
        self.read += piece
        self.listing.add_completed("done", [piece.decode()])
        return True

    def finish(self, headers):
        following = self.source.pages[self.read.decode()]
        return page(following) if isinstance(following, str) else following


async def fetched(pages, max_pages=100, **fails):
    source = Pages(pages, fails={f"/{name}": error for name, error in fails.items()})
    return await fetch_list(source, source, first=page("/a"), deadline_s=10.0, max_pages=max_pages), source


async def test_it_reads_page_after_page_to_the_end():
    found, source = await fetched({"/a": "/b", "/b": "/c", "/c": None})
    assert source.asked == ["/a", "/b", "/c"]
    assert (len(found.listing), found.error, found.bad_body) == (3, None, None)
    assert (found.requests, found.retries, found.latencies_ms) == (3, 0, [3.0] * 3)


async def test_pages_in_a_circle_are_a_bad_body_and_not_an_endless_loop():
    found, source = await fetched({"/a": "/b", "/b": "/a"})
    assert source.asked == ["/a", "/b"]
    assert found.bad_body == BadBody(reason="the list's pages lead in a circle")


async def test_a_list_that_never_ends_is_given_up():
    found, _ = await fetched({"/a": "/b", "/b": "/c", "/c": "/d", "/d": "/e"}, max_pages=3)
    assert found.bad_body == BadBody(reason="the list never ends")


@pytest.mark.parametrize("failing", ["a", "b"])
async def test_a_page_that_fails_ends_it_with_the_error(failing):
    error = ApiError(status=503)
    found, source = await fetched({"/a": "/b", "/b": None}, **{failing: error})
    assert found.error is error
    assert source.asked[-1] == f"/{failing}"
    assert found.retries == 1


async def test_a_page_that_can_t_be_read_ends_it_with_the_reason():
    found, _ = await fetched({"/a": BadBody(reason="no array")})
    assert found.bad_body == BadBody(reason="no array")
