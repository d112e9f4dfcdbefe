import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.sandbox.faults import Fault, FaultPlan, read_fault


def plan(*faults, seed=0):
    made = FaultPlan(seed)
    for fault in faults:
        made.add(read_fault(fault))
    return made


CALL = ("GET", "/engine/v2/items/1")
MATCHES = {
    "everything": ({}, True),
    "prefix": ({"path": "/engine"}, True),
    "another path": ({"path": "/oauth2"}, False),
    "its method": ({"method": "GET"}, True),
    "its method in lower case": ({"method": "get"}, True),
    "another method": ({"method": "POST"}, False),
    "no share": ({"share": 0}, False),
    "whole share": ({"share": 1}, True),
}


@pytest.mark.parametrize(("fault", "hits"), MATCHES.values(), ids=MATCHES)
def test_a_fault_affects_only_matching_calls(fault, hits):
    assert (plan(fault).match_request(*CALL) is not None) is hits


def test_the_next_fault_applies_when_a_counted_one_is_used_up():
    faults = plan({"status": 500, "count": 2}, {"status": 502, "count": 1})
    hits = [faults.match_request(*CALL) for _ in range(4)]
    assert [fault and fault.status for fault in hits] == [500, 500, 502, None]


def test_the_first_matching_fault_applies():
    assert plan({"path": "/oauth2", "status": 500}, {"status": 502}, {"status": 504}).match_request(*CALL).status == 502


def test_clearing_ends_all_faults():
    faults = plan({}, {"count": 3})
    faults.clear()
    assert faults.match_request(*CALL) is None


@given(share=st.floats(min_value=0.05, max_value=0.95), seed=st.integers(min_value=0, max_value=1000))
def test_a_share_affects_about_that_share_and_is_reproducible(share, seed):
    first, second = plan({"share": share}, seed=seed), plan({"share": share}, seed=seed)
    hits = [first.match_request(*CALL) is not None for _ in range(2000)]
    assert hits == [second.match_request(*CALL) is not None for _ in range(2000)]
    assert sum(hits) / 2000 == pytest.approx(share, abs=0.07)


@given(count=st.integers(min_value=1, max_value=50), share=st.floats(min_value=0.1, max_value=1))
def test_a_count_is_never_exceeded_with_any_share(count, share):
    faults = plan({"count": count, "share": share})
    assert sum(faults.match_request(*CALL) is not None for _ in range(1500)) == count


CONTENTS = {
    "nothing": (None, b"", "application/json"),
    "object": ({"code": "x"}, b'{"code":"x"}', "application/json"),
    "list": ([1], b"[1]", "application/json"),
    "text": ("<h1>502</h1>", b"<h1>502</h1>", "text/html"),
    "bytes": (b"\xff\xfe", b"\xff\xfe", "text/html"),
}


@pytest.mark.parametrize(("body", "content", "media_type"), CONTENTS.values(), ids=CONTENTS)
def test_an_object_body_is_sent_as_json_and_a_text_unchanged(body, content, media_type):
    assert Fault(body=body).content() == (content, media_type)


WRONG = {
    "a list": ([], "Expected `object`, got `array`"),
    "an unknown field": ({"stauts": 503}, "unknown field `stauts`"),
    "a path that matches nothing": ({"path": "engine"}, "`$.path`"),
    "an informational status": ({"status": 100}, ">= 200"),
    "a status beyond all": ({"status": 600}, "<= 599"),
    "a share above one": ({"share": 1.5}, "<= 1.0"),
    "no calls": ({"count": 0}, ">= 1"),
    "a negative delay": ({"delay_s": -1}, ">= 0.0"),
    "an endless delay": ({"delay_s": float("nan")}, ">= 0.0"),
    "a header that is a number": ({"headers": {"retry-after": 5}}, "Expected `str`"),
    "a header with a line break": ({"headers": {"x": "a\r\nset-cookie: b"}}, "the header 'x'"),
    "a header beyond Latin-1": ({"headers": {"x": "\u0665"}}, "the header 'x'"),
    "a header without a name": ({"headers": {"": "x"}}, "the header ''"),
    "a header that frames": ({"headers": {"Content-Length": "7"}}, "'Content-Length' frames the body"),
    "a body that is no JSON": ({"body": object()}, "neither a JSON value nor a text"),
    "a body that is no text": ({"body": "\ud800"}, "neither a JSON value nor a text"),
    "a body where none can be": ({"status": 204, "body": {}}, "status 204 has no body"),
    "a time that is none": ({"for_s": 0}, "> 0"),
    "no bytes per second": ({"drip": 0}, ">= 1"),
    "a cut before the beginning": ({"cut_after": -1}, ">= 0"),
    "nothing to drip": ({"drip": 5}, "no body to drip or cut"),
    "nothing to cut": ({"cut_after": 0, "drip": 5, "drip_headers": True}, "no body to drip or cut"),
    "headers that drip at no pace": ({"drip_headers": True}, "headers drip only with drip"),
    "fading without an end": ({"fades": True, "delay_s": 1}, "only a delay_s fades, and only over for_s"),
    "fading without a delay": ({"fades": True, "for_s": 1}, "only a delay_s fades, and only over for_s"),
    "closing and dripping": ({"close": True, "drip": 5}, "either closes or passes, drips and cuts"),
    "closing and passing": ({"close": True, "passes": True}, "either closes or passes"),
}


@pytest.mark.parametrize(("raw", "why"), WRONG.values(), ids=WRONG)
def test_an_invalid_fault_is_refused_in_one_sentence(raw, why):
    with pytest.raises(ValueError, match="invalid fault: ") as refused:
        read_fault(raw)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "raw", [{"drip": 5, "drip_headers": True}, {"drip": 5, "passes": True}], ids=["headers", "passes"]
)
def test_a_drip_of_headers_or_of_a_normal_answer_needs_a_raw_write(raw):
    assert read_fault(raw).needs_raw_write


def test_an_empty_status_without_a_body_is_a_fault():
    assert read_fault({"status": 204}).content()[0] == b""


def test_a_fault_with_a_duration_ends_after_it():
    faults = FaultPlan()
    faults.add(read_fault({"for_s": 10}), now_s=100.0)
    assert [faults.match_request(*CALL, now_s) is not None for now_s in (100.0, 109.9, 110.0)] == [True, True, False]


def test_a_fading_delay_shrinks_linearly_to_zero():
    faults = FaultPlan()
    faults.add(read_fault({"delay_s": 8, "for_s": 10, "fades": True, "passes": True}), now_s=100.0)
    hits = [faults.match_request(*CALL, now_s) for now_s in (100.0, 105.0, 107.5, 110.0)]
    assert [fault and fault.delay_s for fault in hits] == [8.0, 4.0, 2.0, None]
