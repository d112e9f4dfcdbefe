from datetime import UTC, datetime, timedelta

import pytest

from monitor.cli.doctor.api_probe import RecordingWire, check_clock, clock_offset
from monitor.cli.doctor.findings import Level
from monitor.model.http import NetworkFault, Reply, Request, TransportFault

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

HEADERS = {
    "the same": ("Sun, 01 Mar 2026 12:00:00 GMT", "", timedelta(0)),
    "ahead": ("Sun, 01 Mar 2026 12:01:30 GMT", "", timedelta(seconds=90)),
    "behind": ("Sun, 01 Mar 2026 11:00:00 GMT", "", timedelta(hours=-1)),
    "kept in a cache for a minute": ("Sun, 01 Mar 2026 11:59:00 GMT", "60", timedelta(0)),
    "an age that is none": ("Sun, 01 Mar 2026 12:00:00 GMT", "²", timedelta(0)),
    "without a zone": ("Sun, 01 Mar 2026 12:00:00 -0000", "", timedelta(0)),
    "none": ("", "", None),
    "no date": ("yesterday", "", None),
    "two at once": ("Sun, 01 Mar 2026 12:00:00 GMT, Sun, 01 Mar 2026 12:00:00 GMT", "", timedelta(0)),
}


@pytest.mark.parametrize(("date", "age", "ahead"), HEADERS.values(), ids=HEADERS)
def test_clock_skew_is_computed_from_the_date_of_an_answer(date, age, ahead):
    assert clock_offset(date, age, now=NOW) == ahead


OFFSETS = {
    "not said": (None, Level.NOT_TRIED, "not tried: no answer had the API's time."),
    "agree": (timedelta(0), Level.OK, "ours and the API's agree within 1 s."),
    "just within": (timedelta(seconds=-30), Level.OK, "ours and the API's agree within 30 s."),
    "ours is behind": (timedelta(seconds=95), Level.WARNING, "ours is 95 s behind the API's: "),
    "ours is ahead": (timedelta(seconds=-31), Level.WARNING, "ours is 31 s ahead of the API's: "),
}


@pytest.mark.parametrize(("ahead", "level", "message"), OFFSETS.values(), ids=OFFSETS)
def test_more_than_half_a_minute_is_a_warning_with_the_number(ahead, level, message):
    finding = check_clock(ahead)
    assert finding.level is level
    assert finding.message.startswith(message)


class Scripted:
    """A transport with fixed results."""

    def __init__(self, *results):
        self.results, self.closed = list(results), False

    async def send(self, request, *, timeout_s, sink=None, read_timeout_s=None):
        return self.results.pop(0)

    async def close(self):
        self.closed = True


async def test_the_transport_records_answers_and_the_last_fault():
    reply = Reply(status=503, headers={"date": "Sun, 01 Mar 2026 12:00:00 GMT"}, body=b"")
    silent = Reply(status=200, headers={}, body=b"")
    under = Scripted(TransportFault(fault=NetworkFault.TLS, text="no"), reply, silent)
    transport, request = RecordingWire(transport=under), Request(method="GET", path="/", template="/")
    await transport.send(request, timeout_s=1)
    assert (transport.replies, transport.fault, transport.ahead) == (0, NetworkFault.TLS, None)
    assert await transport.send(request, timeout_s=1) is reply
    skew = transport.ahead
    assert (transport.replies, transport.fault) == (1, None)
    assert skew is not None
    assert await transport.send(request, timeout_s=1) is silent
    assert transport.ahead == skew
    await transport.close()
    assert under.closed
