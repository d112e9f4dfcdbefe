import json
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW

from monitor.incidents.evidence import EvidenceCollector
from monitor.model import REQUEST_CAUSES, Cause, ItemState, Outcome, Reason, RunLimits
from monitor.model.http import ApiError, ErrorDetail, Meaning, NetworkFault
from monitor.model.items import TrackedItem
from monitor.runs.latencies import LatencyHistogram
from monitor.runs.partial_report import PartialReport, merge

ERRORS = st.builds(
    ApiError,
    status=st.sampled_from([None, 401, 403, 404, 429, 500, 503]),
    code=st.sampled_from([None, "breaker_open", "x"]),
    message=st.sampled_from([None, "Who are you?", "ä\0\ud800"]),
    request_id=st.sampled_from([None, "r1", "r2"]),
    network=st.sampled_from([None, *NetworkFault]),
    gateway=st.sampled_from([(), (("server", "nginx"),)]),
    details=st.sampled_from([(), (ErrorDetail(loc="id", msg="no"),)]),
    retry_after=st.sampled_from([None, timedelta(seconds=30)]),
    meaning=st.sampled_from([None, Meaning.OUTAGE]),
    page=st.sampled_from([None, "", "Bad gateway"]),
)


@st.composite
def outcomes(draw):
    """What happened in one part: calls of a collector."""
    answered = draw(st.booleans())
    unknown = not answered and draw(st.booleans())
    error = None if answered and draw(st.booleans()) else draw(ERRORS)
    state = (
        ItemState.UNKNOWN
        if unknown
        else draw(st.sampled_from([ItemState.NOT_FOUND, ItemState.INVALID, ItemState.COMPLETED]))
    )
    return Outcome(
        item_id=f"i{draw(st.integers(0, 40))}", state=state, at=NOW, answered=answered, error=error,
        reason=draw(st.sampled_from(REQUEST_CAUSES)) if unknown else None,
    )  # fmt: skip


def item(item_id):
    return TrackedItem(item_id=item_id, first_seen_at=NOW - timedelta(days=1))


def collected(found, recovered=(), blocked=()):
    tally = EvidenceCollector()
    for each in found:
        tally.add(item(each.item_id), each)
    for each in recovered:
        tally.recover(each)
    for cause, error, count in blocked:
        tally.block(cause, error, count)
    return tally


CALLS = st.tuples(
    st.lists(outcomes(), max_size=12),
    st.lists(outcomes(), max_size=3),
    st.lists(st.tuples(st.sampled_from(REQUEST_CAUSES), ERRORS, st.integers(1, 9)), max_size=2),
)
LIMITS = st.builds(
    lambda rate, **others: RunLimits(rate_per_s=rate[0], rate_source=rate[1], **others),
    st.sampled_from([(None, "learned"), (2.0, "learned"), (2.0, "configured"), (5.0, "stated")]),
    next_rate_per_s=st.sampled_from([None, 3.0]),
    rate_wait_s=st.sampled_from([0.0, 1.5]),
    unretried=st.integers(0, 3),
)


@st.composite
def reports(draw):
    histogram = LatencyHistogram()
    for latency_ms in draw(st.lists(st.sampled_from([0.0, 1.0, 30.0, 31.0, 900.0]), max_size=5)):
        histogram.add(latency_ms)
    stopped_by = draw(st.none() | st.sampled_from(REQUEST_CAUSES))
    return PartialReport(
        tally=collected(*draw(CALLS)),
        histogram=histogram,
        asked=draw(st.integers(0, 9)),
        requests=draw(st.integers(0, 9)),
        retries=draw(st.integers(0, 9)),
        left=draw(st.booleans()),
        stopped_by=stopped_by,
        tripped=stopped_by is Cause.OUTAGE and draw(st.booleans()),
        cut_short_by=draw(st.none() | st.sampled_from(Reason)),
        any_event=draw(st.booleans()),
        limits=draw(LIMITS),
        attempts=draw(st.dictionaries(st.sampled_from(["2xx", "4xx", "none"]), st.integers(1, 9))),
    )


def shown(report):
    """All that a report says."""
    checked = report.check_report()
    read = {each.name: getattr(report, each.name) for each in fields(report) if each.name not in {"tally", "histogram"}}
    return report.histogram.to_json(), counts(report.tally), read, checked.evidence, checked.lightweight


def counts(tally):
    """A collector's JSON, whatever the order in which causes came."""
    return json.dumps(tally.to_json(), sort_keys=True)


@given(parts=st.lists(reports(), max_size=5), data=st.data())
def test_parts_are_merged_in_any_order_to_the_same_report(parts, data):
    other = data.draw(st.permutations(parts))
    cut = data.draw(st.integers(0, len(parts)))
    at_once = shown(merge(parts))
    assert shown(merge(other)) == at_once
    assert shown(merge([merge(parts[:cut]), merge(parts[cut:])])) == at_once


@given(report=reports())
def test_a_report_is_the_same_after_it_was_stored_as_json(report):
    assert shown(PartialReport.from_json(json.loads(json.dumps(report.to_json())))) == shown(report)


@given(report=reports())
def test_a_merged_report_of_one_part_is_that_part(report):
    assert shown(merge([report])) == shown(report)


@given(found=st.lists(outcomes(), max_size=30, unique_by=lambda each: each.item_id), cut=st.integers(0, 30))
def test_two_collectors_merged_count_what_one_would_have(found, cut):
    one, parts = collected(found), collected(found[:cut]).merged(collected(found[cut:]))
    assert counts(parts) == counts(one)
    assert parts.evidence(requests=9) == one.evidence(requests=9)


def report_of(**fields):
    return PartialReport(**{"asked": 10, "requests": 10, **fields})


def one_failed():
    """One item of many for which the API failed: a trouble of its own."""
    error = ApiError(status=503)
    fine = [Outcome(item_id=f"f{n}", state=ItemState.COMPLETED, stage="done", answered=True, at=NOW) for n in range(99)]
    bad = Outcome(item_id="x", state=ItemState.UNKNOWN, reason=Cause.OUTAGE, answered=False, error=error, at=NOW)
    return collected([*fine, bad])


ENDS = {
    "all was asked about": ({}, (None, None)),
    "a cause stopped it": ({"left": True, "stopped_by": Cause.UNAUTHORIZED}, (Cause.UNAUTHORIZED, None)),
    "the deadline came, and items are left": ({"left": True, "cut_short_by": Reason.DEADLINE}, (None, Reason.DEADLINE)),
    "the deadline came when all was asked about": ({"cut_short_by": Reason.DEADLINE}, (None, None)),
    "stopped after the deadline came": (
        {"left": True, "stopped_by": Cause.OUTAGE, "cut_short_by": Reason.DEADLINE}, (Cause.OUTAGE, None)
    ),
    "the breaker opened, and items are left": (
        {"left": True, "stopped_by": Cause.OUTAGE, "tripped": True, "tally": one_failed()}, (Cause.OUTAGE, None)
    ),
    "the breaker opened over the last items": (
        {"stopped_by": Cause.OUTAGE, "tripped": True, "tally": one_failed()}, (None, None)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "end"), ENDS.values(), ids=ENDS)
def test_a_report_says_what_ended_the_check(given, end):
    checked = report_of(**given).check_report()
    assert (checked.stopped_by, checked.cut_short_by) == end


def test_the_breaker_counts_only_where_nothing_else_stopped_a_part():
    tripped = report_of(stopped_by=Cause.OUTAGE, tripped=True)
    assert merge([tripped, report_of()]).tripped
    refused = report_of(stopped_by=Cause.UNAUTHORIZED)
    both = merge([tripped, refused])
    assert (both.stopped_by, both.tripped) == (Cause.UNAUTHORIZED, False)


def test_what_was_stored_of_each_share_adds_up():
    parts = [
        report_of(left=True, stopped_by=Cause.OUTAGE, cut_short_by=Reason.DEADLINE, tally=one_failed()),
        report_of(),
    ]
    parts[1].tally.recover(Outcome(item_id="y", state=ItemState.UNKNOWN, reason=Cause.OUTAGE, answered=False, at=NOW))
    parts[1].histogram.add(30.0)
    whole = merge([PartialReport.from_json(json.loads(json.dumps(each.to_json()))) for each in parts])
    assert (whole.asked, whole.tally.answered, whole.histogram.quantile(0.5)) == (
        20,
        99,
        parts[1].histogram.quantile(0.5),
    )
    (evidence,) = whole.check_report().evidence
    assert (evidence.cause, evidence.count, evidence.sample_ids) == (Cause.OUTAGE, 2, ("x", "y"))


def test_a_share_that_goes_on_forgets_what_ended_its_last_attempt():
    ended = report_of(left=True, stopped_by=Cause.OUTAGE, tripped=True, cut_short_by=Reason.INTERRUPTED)
    assert ended.resumed() == replace(ended, left=False, stopped_by=None, tripped=False, cut_short_by=None)


def test_the_highest_limit_counts_and_refused_retries_add_up():
    low, high = RunLimits(rate_per_s=2.0, rate_wait_s=3.0, unretried=1), RunLimits(rate_per_s=5.0, next_rate_per_s=4.0)
    expected = RunLimits(rate_per_s=5.0, next_rate_per_s=4.0, rate_wait_s=3.0, unretried=1)
    assert merge([report_of(limits=low), report_of(limits=high)]).limits == expected
