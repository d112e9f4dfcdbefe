import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.backoff import MIN_FACTOR, ThrottleFactor, ThrottleReason, next_throttle_factor

SAYS = {"refused": False, "inhibited": False, "unresolved": False, "replied": True}
REFUSED = {"refused": True, "unresolved": True, "replied": True}

STEPS = [
    ("nothing was ever limited", 1.0, {}, 1.0, ThrottleReason.NOT_LIMITED),
    ("refused, and the incident is not open yet", 1.0, {"refused": True}, 1.0, ThrottleReason.NOT_LIMITED),
    ("the incident opens", 1.0, REFUSED, 0.5, ThrottleReason.REFUSED),
    ("a further run with evidence", 0.5, REFUSED, 0.25, ThrottleReason.REFUSED),
    ("at the floor", MIN_FACTOR, REFUSED, MIN_FACTOR, ThrottleReason.REFUSED),
    (
        "a run that sent nothing",
        0.5,
        {"inhibited": True, "unresolved": True, "replied": False},
        0.5,
        ThrottleReason.INCONCLUSIVE,
    ),
    (
        "429s that a higher cause inhibits",
        0.5,
        {"inhibited": True, "unresolved": True},
        0.5,
        ThrottleReason.INCONCLUSIVE,
    ),
    ("no answer at all", 0.5, {"unresolved": True, "replied": False}, 0.5, ThrottleReason.INCONCLUSIVE),
    ("refused once more after it was resolved", 0.5, {"refused": True}, 0.5, ThrottleReason.INCONCLUSIVE),
    ("clean, and the incident is still open", 0.5, {"unresolved": True}, 0.625, ThrottleReason.RECOVERING),
    ("clean, and it is resolved", 0.5, {}, 0.625, ThrottleReason.RECOVERING),
    ("the last step", 0.9, {}, 1.0, ThrottleReason.RECOVERING),
]


@pytest.mark.parametrize(("before", "says", "factor", "reason"), [r[1:] for r in STEPS], ids=[r[0] for r in STEPS])
def test_the_throttle_factor_of_the_next_run(before, says, factor, reason):
    assert next_throttle_factor(before, **SAYS | says) == ThrottleFactor(factor=factor, reason=reason)


def test_four_clean_runs_undo_one_halving_and_sixteen_the_minimum():
    for begins_at, expected in ((0.5, 4), (MIN_FACTOR, 16)):
        factor, clean = begins_at, 0
        while factor < 1:
            factor, clean = next_throttle_factor(factor, **SAYS).factor, clean + 1
        assert clean == expected


runs = st.builds(
    lambda *flags: dict(zip(SAYS, flags, strict=True)), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)


@given(st.lists(runs, max_size=60))
def test_the_factor_stays_within_its_bounds_and_only_a_refusal_lowers_it(sequence):
    factor = 1.0
    for says in sequence:
        after = next_throttle_factor(factor, **says).factor
        assert MIN_FACTOR <= after <= 1
        assert after >= factor or (says["refused"] and says["unresolved"])
        factor = after
