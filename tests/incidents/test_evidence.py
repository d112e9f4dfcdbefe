from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.evidence import INHIBITS, MAX_SAMPLES, EvidenceCollector, mark_inhibited
from monitor.model import REQUEST_CAUSES, WEIGHED_CAUSES, Cause, Evidence, ItemState, Outcome, Reason, rank
from monitor.model.http import ApiError, NetworkFault
from monitor.model.items import TrackedItem

AT = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def item(item_id, *, known_missing=False, first_seen_at=AT - DAY, **more):
    return TrackedItem(item_id=item_id, first_seen_at=first_seen_at, known_missing=known_missing, **more)


def unknown(item_id, reason, error):
    return Outcome(item_id=item_id, state=ItemState.UNKNOWN, reason=reason, error=error, answered=False, at=AT)


def answered(item_id, state, status=None):
    error = ApiError(status=status) if status else None
    return Outcome(item_id=item_id, state=state, error=error, answered=True, at=AT)


def tally(*outcomes, missing=()):
    gathered = EvidenceCollector()
    for outcome in outcomes:
        gathered.add(item(outcome.item_id, known_missing=outcome.item_id in missing), outcome)
    return gathered


def causes(gathered):
    return [piece.cause for piece in gathered.evidence(requests=0)]


def test_a_mixed_outage_is_one_piece_of_evidence_with_its_breakdown():
    errors = [
        ApiError(status=502), ApiError(status=504), ApiError(status=None, network=NetworkFault.TIMEOUT),
        ApiError(status=None, network=NetworkFault.RESET), ApiError(status=502, from_token_endpoint=True),
        ApiError(status=None, code="breaker_open"),
    ]  # fmt: skip
    (piece,) = tally(*(unknown(str(n), Cause.OUTAGE, e) for n, e in enumerate(errors))).evidence(requests=0)
    assert piece.cause is Cause.OUTAGE
    assert piece.count == 6
    assert piece.breakdown == {
        "502": 1,
        "504": 1,
        "timeout": 1,
        "reset": 1,
        "502 from the token endpoint": 1,
        "not sent": 1,
    }


def test_evidence_has_samples_request_ids_code_and_the_api_s_message():
    errors = [ApiError(status=403, code="publisher_mismatch", request_id="req_1", message="not yours")] * 2
    (piece,) = tally(*(unknown(name, Cause.FORBIDDEN, e) for name, e in zip("ba", errors, strict=True))).evidence(
        requests=0
    )
    assert piece.sample_ids == ("a", "b")
    assert piece.request_ids == ("req_1",)
    assert (piece.code, piece.api_message) == ("publisher_mismatch", "not yours")


def test_an_outcome_without_an_error_counts_without_a_label():
    (piece,) = tally(unknown("a", Cause.OUTAGE, None)).evidence(requests=0)
    assert (piece.count, piece.breakdown, piece.sample_ids) == (1, {}, ("a",))


def test_requests_cut_short_are_no_evidence():
    assert tally(unknown("a", Reason.DEADLINE, None), unknown("b", Reason.INTERRUPTED, None)).evidence(requests=0) == ()


NOT_FOUND = [
    ("half of five", 3, 2, True),
    ("all of five", 5, 0, True),
    ("exactly half of six", 3, 3, True),
    ("less than half", 2, 3, False),
    ("all of four: too few to judge", 4, 0, False),
]


@pytest.mark.parametrize(("absent", "present", "expected"), [r[1:] for r in NOT_FOUND], ids=[r[0] for r in NOT_FOUND])
def test_many_404s_are_evidence_of_a_wrong_scope(absent, present, expected):
    outcomes = [answered(f"a{n}", ItemState.NOT_FOUND, 404) for n in range(absent)]
    outcomes += [answered(f"p{n}", ItemState.COMPLETED) for n in range(present)]
    assert (Cause.WRONG_SCOPE in causes(tally(*outcomes))) is expected


def test_items_known_to_be_missing_are_no_evidence():
    outcomes = [answered(f"a{n}", ItemState.NOT_FOUND, 404) for n in range(9)]
    assert causes(tally(*outcomes, missing={f"a{n}" for n in range(6)})) == []


def test_an_unknown_publisher_and_missing_items_are_one_wrong_scope():
    outcomes = [answered(f"a{n}", ItemState.NOT_FOUND, 404) for n in range(5)]
    outcomes.append(unknown("b", Cause.WRONG_SCOPE, ApiError(status=400, code="publisher_not_found")))
    (piece,) = tally(*outcomes).evidence(requests=0)
    assert (piece.cause, piece.count) == (Cause.WRONG_SCOPE, 6)
    assert piece.breakdown == {"400": 1, "404": 5}


outcomes = st.builds(
    lambda n, kind: kind(f"{n:04}"),
    st.integers(0, 300),
    st.sampled_from(
        [
            lambda i: answered(i, ItemState.COMPLETED),
            lambda i: answered(i, ItemState.NOT_FOUND, 404),
            lambda i: answered(i, ItemState.INVALID, 400),
            lambda i: unknown(i, Cause.OUTAGE, ApiError(status=503, request_id=i, code="X", message="m")),
            lambda i: unknown(i, Cause.FORBIDDEN, ApiError(status=403)),
        ]
    ),
)


@given(st.lists(outcomes, unique_by=lambda o: o.item_id), st.randoms())
def test_the_order_of_outcomes_does_not_matter(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    assert tally(*found).evidence(requests=0) == tally(*shuffled).evidence(requests=0)
    assert tally(*found).answered == sum(o.answered for o in found)
    for piece in tally(*found).evidence(requests=0):
        assert len(piece.sample_ids) <= MAX_SAMPLES
        assert piece.count == sum(piece.breakdown.values())


def test_a_higher_cause_inhibits_its_lower_causes_and_nothing_else():
    seen = tuple(Evidence(cause=cause, count=1) for cause in REQUEST_CAUSES)
    marked = {piece.cause: piece.inhibited_by for piece in mark_inhibited(seen, seen)}
    assert marked[Cause.RATE_LIMITED] is Cause.SPENDING_LIMIT
    assert marked[Cause.FORBIDDEN] is Cause.UNAUTHORIZED
    assert marked[Cause.BAD_RESPONSE] is Cause.OUTAGE
    assert marked[Cause.SPENDING_LIMIT] is None
    assert marked[Cause.OUTAGE] is None


def test_no_cause_inhibits_a_higher_one():
    for higher, lower in INHIBITS.items():
        assert all(rank(higher) < rank(cause) for cause in lower)


def recovering(failures, *outcomes):
    gathered = tally(*outcomes)
    for outcome in failures:
        gathered.recover(outcome)
    return gathered


def failed(count, status=503, reason=Cause.OUTAGE, start=0):
    return [unknown(f"f{n:03}", reason, ApiError(status=status)) for n in range(start, start + count)]


def of_run(*, unknown_items, answered_items, cause=Cause.OUTAGE, status=500):
    left = [unknown(f"u{n:04}", cause, ApiError(status=status)) for n in range(unknown_items)]
    return tally(*left, *(answered(f"a{n:04}", ItemState.COMPLETED) for n in range(answered_items)))


WEIGHT = [
    ("one of 200: a poison document", 1, 199, False),
    ("nine of 200: below 5%", 9, 191, False),
    ("ten of 200: 5%", 10, 190, True),
    ("two of 40: 5%", 2, 38, True),
    ("two of 41: below 5%", 2, 39, False),
    ("one of two: fewer than two", 1, 1, False),
    ("two of three", 2, 1, True),
    ("the only item, and nothing was answered", 1, 0, True),
]


@pytest.mark.parametrize("cause", sorted(WEIGHED_CAUSES))
@pytest.mark.parametrize(("left", "others", "evidence"), [row[1:] for row in WEIGHT], ids=[row[0] for row in WEIGHT])
def test_a_request_cause_needs_weight(cause, left, others, evidence):
    gathered = of_run(unknown_items=left, answered_items=others, cause=cause)
    assert causes(gathered) == ([cause] if evidence else [])
    assert gathered.lightweight(requests=0) == (frozenset() if evidence else {cause})
    assert gathered.of_their_own(requests=0) == (0 if evidence else left)


@pytest.mark.parametrize("cause", sorted(set(REQUEST_CAUSES) - WEIGHED_CAUSES))
def test_refusals_and_the_spending_limit_count_from_the_first_item_on(cause):
    gathered = of_run(unknown_items=1, answered_items=199, cause=cause)
    assert causes(gathered) == [cause]
    assert gathered.lightweight(requests=0) == frozenset()


def test_what_stopped_the_target_has_weight_even_in_one_item():
    gathered = of_run(unknown_items=1, answered_items=199, cause=Cause.RATE_LIMITED)
    (piece,) = gathered.evidence(requests=0, stopped_by=Cause.RATE_LIMITED)
    assert piece.cause is Cause.RATE_LIMITED
    assert gathered.lightweight(requests=0, stopped_by=Cause.RATE_LIMITED) == frozenset()


def test_items_that_a_list_confirms_are_answered_and_asked():
    gathered = of_run(unknown_items=2, answered_items=0)
    assert causes(gathered) == [Cause.OUTAGE]
    gathered.confirm(100)
    assert causes(gathered) == []


def test_causes_are_weighed_one_by_one():
    """One 500, one odd body and one 429 among others are three documents, and no outage."""
    mixed = [
        unknown("a", Cause.OUTAGE, ApiError(status=500)),
        unknown("b", Cause.BAD_RESPONSE, ApiError(status=200)),
        unknown("c", Cause.RATE_LIMITED, ApiError(status=429)),
    ]
    gathered = tally(*mixed, *(answered(f"p{n}", ItemState.COMPLETED) for n in range(7)))
    assert causes(gathered) == []
    assert gathered.of_their_own(requests=0) == 3


def test_a_403_of_its_own_needs_no_answer_while_others_are_accepted():
    denied = [unknown("d", Cause.FORBIDDEN, ApiError(status=403))]
    assert tally(*denied, answered("ok", ItemState.COMPLETED)).of_their_own(requests=0) == 1
    assert tally(*denied).of_their_own(requests=0) == 0


GRACE = [
    ("uploaded a minute ago", {"submitted_at": AT - timedelta(minutes=1)}, False),
    ("uploaded an hour ago", {"submitted_at": AT - timedelta(hours=1)}, True),
    ("without a time, in the log for a minute", {"first_seen_at": AT - timedelta(minutes=1)}, False),
    ("without a time, in the log for an hour", {"first_seen_at": AT - timedelta(hours=1)}, True),
    ("returned before", {"submitted_at": AT - timedelta(minutes=1), "seen_at": AT - timedelta(minutes=1)}, True),
]


@pytest.mark.parametrize(("more", "expected"), [row[1:] for row in GRACE], ids=[row[0] for row in GRACE])
def test_uploads_that_have_not_arrived_yet_are_no_wrong_scope(more, expected):
    gathered = EvidenceCollector(missing_after=timedelta(minutes=15))
    for n in range(9):
        gathered.add(item(f"i{n}", **more), answered(f"i{n}", ItemState.NOT_FOUND, 404))
    assert causes(gathered) == ([Cause.WRONG_SCOPE] if expected else [])


FAILED_FOR_GOOD = [
    ("two of forty requests", 2, 0, 40, 2),
    ("two of forty-one: below 5%", 2, 0, 41, None),
    ("one of three: fewer than two", 1, 0, 3, None),
    ("one item left unknown, and nothing was answered", 0, 1, 1000, 1),
    ("below 5% the recovered ones are not counted", 2, 1, 1000, 1),
    ("together they are 5%", 3, 2, 100, 5),
]


@pytest.mark.parametrize(
    ("recovered", "left", "requests", "count"), [r[1:] for r in FAILED_FOR_GOOD], ids=[r[0] for r in FAILED_FOR_GOOD]
)
def test_requests_that_failed_after_all_retries_are_evidence_above_a_threshold(recovered, left, requests, count):
    gathered = recovering(failed(recovered), *failed(left, start=500))
    pieces = gathered.evidence(requests=requests)
    assert [piece.count for piece in pieces] == ([] if count is None else [count])
    assert gathered.all_recovered(Cause.OUTAGE) is (recovered > 0 and left == 0)


def test_counts_of_different_causes_are_not_added_up():
    gathered = recovering([*failed(1), *failed(1, 429, Cause.RATE_LIMITED, start=9)])
    assert gathered.evidence(requests=10) == ()
    assert recovering([unknown("a", Reason.DEADLINE, None)] * 9).evidence(requests=10) == ()


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 500), st.randoms())
def test_the_order_of_recoveries_does_not_matter_and_memory_is_bounded(recovered, left, requests, random):
    failures, rest = failed(recovered), failed(left, start=500)
    shuffled = list(failures)
    random.shuffle(shuffled)
    one, other = recovering(failures, *rest), recovering(shuffled, *reversed(rest))
    assert one.evidence(requests=requests) == other.evidence(requests=requests)
    for piece in one.evidence(requests=requests):
        assert piece.count == sum(piece.breakdown.values())
        assert len(piece.sample_ids) <= MAX_SAMPLES


def test_items_that_came_back_say_nothing_about_the_scope():
    gathered = EvidenceCollector(missing_after=timedelta(minutes=15))
    for n in range(5):
        gathered.add(item(f"i{n}", known_missing=True), answered(f"i{n}", ItemState.COMPLETED))
    assert causes(gathered) == []
