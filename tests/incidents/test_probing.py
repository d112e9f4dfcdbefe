import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.backoff import order_probe_candidates, probe_for
from monitor.model import Cause

WHEN = [
    ("nothing is wrong", set(), None, None),
    ("unauthorized is open", {Cause.UNAUTHORIZED}, None, Cause.UNAUTHORIZED),
    ("unauthorized is open, and the last run got through", {Cause.UNAUTHORIZED}, Cause.OUTAGE, Cause.UNAUTHORIZED),
    ("the spending limit is reached", {Cause.SPENDING_LIMIT}, Cause.SPENDING_LIMIT, Cause.SPENDING_LIMIT),
    ("both: the higher one", {Cause.UNAUTHORIZED, Cause.SPENDING_LIMIT}, None, Cause.SPENDING_LIMIT),
    ("a single item is forbidden", {Cause.FORBIDDEN}, None, None),
    ("forbidden is open, the outage stopped the last run", {Cause.FORBIDDEN}, Cause.OUTAGE, None),
    ("everything is forbidden", {Cause.FORBIDDEN}, Cause.FORBIDDEN, Cause.FORBIDDEN),
    ("forbidden stopped the last run, and nothing is open yet", set(), Cause.FORBIDDEN, None),
    ("the rate is limited", {Cause.RATE_LIMITED}, Cause.RATE_LIMITED, None),
    ("an outage: the breaker has a probe of its own", {Cause.OUTAGE}, Cause.OUTAGE, None),
]


@pytest.mark.parametrize(("unresolved", "last", "expected"), [row[1:] for row in WHEN], ids=[row[0] for row in WHEN])
def test_when_a_run_begins_with_one_probe(unresolved, last, expected):
    assert probe_for(unresolved, last_abort=last) is expected


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 9), min_size=1), st.integers(1, 60))
def test_every_candidate_is_probed_in_turn(asked, rounds):
    ahead = len(asked) - 1
    probed = []
    for run_id in range(10, 10 + ahead + rounds):
        line = order_probe_candidates(list(asked.items()))
        assert sorted(line) == sorted(asked)
        probed.append(line[0])
        asked[line[0]] = run_id
    assert set(probed[: ahead + 1]) == set(asked)
