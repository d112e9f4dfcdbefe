import io
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.failure_log import OTHER, FailureSummary, log_failures
from monitor.logs import configure
from monitor.model.http import ApiError, NetworkFault

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ITEM = "/items/{item_id}"


def failed(status=503, **said):
    return ApiError(status=status, **said)


def added(*errors, **said):
    failure_summary = FailureSummary()
    for number, error in enumerate(errors):
        at = NOW + timedelta(seconds=number)
        failure_summary.add(error, **{"template": ITEM, "item_id": f"i{number}", "at": at, **said})
    return failure_summary


def report(*errors, **said):
    return list(added(*errors, **said).report())


def test_a_run_without_failures_reports_nothing():
    assert report() == []


def test_a_class_of_failures_has_count_first_last_and_samples():
    storm = [failed(code="overloaded", request_id=f"r{number}") for number in range(1000)]
    assert report(*storm, latency_ms=12.34) == [
        {
            "endpoint": ITEM,
            "http_status": 503,
            "network": None,
            "code": "overloaded",
            "count": 1000,
            "retry_count": 0,
            "timed_out": 0,
            "latency_ms": 12.3,
            "first_at": "2026-03-01T12:00:00.000Z",
            "last_at": "2026-03-01T12:16:39.000Z",
            "sample_ids": ["i0", "i1", "i2", "i3", "i4"],
            "request_ids": ["r0", "r1", "r2", "r3", "r4"],
        }
    ]


APART = {
    "endpoint": (failed(), "/token"),
    "status": (failed(502), ITEM),
    "code": (failed(code="x"), ITEM),
    "network fault": (failed(None, network=NetworkFault.RESET), ITEM),
}


@pytest.mark.parametrize(("error", "template"), APART.values(), ids=APART)
def test_failures_of_different_classes_are_separate(error, template):
    failure_summary = added(failed(), failed())
    failure_summary.add(error, template=template, item_id="x", at=NOW)
    assert [each["count"] for each in failure_summary.report()] == [2, 1]


def test_the_apis_message_is_not_part_of_a_class_and_not_logged():
    said = [failed(message=f"secret {n}", error=f"secret {n}", type=f"secret {n}") for n in range(3)]
    (only,) = report(*said)
    assert only["count"] == 3
    assert "secret" not in repr(only)


def test_timeouts_and_retries_are_counted():
    late = failed(None, network=NetworkFault.TIMEOUT)
    failure_summary = added(late, late)
    failure_summary.add(late, template=ITEM, item_id="i0", at=NOW, latency_ms=30_000.0, retry_count=4)
    (only,) = failure_summary.report()
    assert (only["network"], only["count"], only["timed_out"], only["retry_count"]) == ("timeout", 3, 3, 1)
    assert (only["http_status"], only["latency_ms"]) == (None, 30_000.0)


def test_samples_are_listed_once_and_only_for_item_requests():
    (only,) = report(failed(request_id="r"), failed(request_id="r"), failed(), item_id="same")
    assert (only["sample_ids"], only["request_ids"]) == (["same"], ["r"])
    (only,) = report(failed(), item_id="")
    assert (only["sample_ids"], only["request_ids"]) == ([], [])


def test_the_first_gateway_that_answered_is_reported():
    seen = [(), (("server", "nginx"), ("via", "1.1 google")), (("server", "other"),)]
    (only,) = report(*(failed(502, gateway=gateway) for gateway in seen))
    assert only["gateway"] == {"server": "nginx", "via": "1.1 google"}


def test_times_are_in_utc():
    (only,) = report(failed(), at=datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2))))
    assert only["first_at"] == only["last_at"] == "2026-03-01T12:00:00.000Z"


def test_a_thousand_classes_are_fifty_and_a_remainder():
    errors = [failed(code=f"code-{number:04}") for number in range(1000)]
    failures = report(*errors, *errors[:50])
    assert len(failures) == 51
    assert failures[0] | {"endpoint": OTHER, "http_status": None, "code": None, "count": 950} == failures[0]
    assert [each["code"] for each in failures[1:]] == [f"code-{number:04}" for number in range(50)]
    assert {each["count"] for each in failures[1:]} == {2}


ERRORS = st.builds(
    ApiError,
    status=st.sampled_from([None, 429, 500, 503]),
    code=st.sampled_from([None, "a", "b"]),
    network=st.sampled_from([None, NetworkFault.TIMEOUT, NetworkFault.DNS]),
)
ATTEMPTS = st.lists(
    st.tuples(ERRORS, st.sampled_from([ITEM, "/list"]), st.datetimes(timezones=st.just(UTC)), st.floats(0, 1e6))
)


@given(st.data(), ATTEMPTS)
def test_counts_and_times_do_not_depend_on_the_order_and_nothing_is_lost(data, attempts):
    def failures(order):
        failure_summary = FailureSummary()
        for error, template, at, latency_ms in order:
            failure_summary.add(error, template=template, item_id="", at=at, latency_ms=latency_ms)
        return list(failure_summary.report())

    first = failures(attempts)
    assert failures(data.draw(st.permutations(attempts))) == first
    assert sum(each["count"] for each in first) == len(attempts)
    assert [each["count"] for each in first] == sorted((each["count"] for each in first), reverse=True)
    assert all(each["first_at"] <= each["last_at"] for each in first)


def test_one_warning_per_class_is_logged_with_the_runs_context():
    written = io.BytesIO()
    with io.TextIOWrapper(written, write_through=True) as stream:
        configure(stream=stream, level="WARNING", json=True)
        with structlog.contextvars.bound_contextvars(run_id=7, integration="gloo-prod"):
            log_failures(
                added(failed(502, gateway=(("server", "nginx"), ("x-request-id", "g1"))), failed(502), failed())
            )
            log_failures(FailureSummary())
        events = [json.loads(line) for line in written.getvalue().splitlines()]

    assert [(each["event"], each["level"], each["run_id"], each["integration"]) for each in events] == [
        ("requests_failed", "warning", 7, "gloo-prod")
    ] * 2
    assert [(each["http_status"], each["count"]) for each in events] == [(502, 2), (503, 1)]
    assert events[0]["gateway"] == {"server": "nginx", "x-request-id": "g1"}
    assert (events[0]["sample_ids"], events[0]["endpoint"]) == (["i0", "i1"], ITEM)
