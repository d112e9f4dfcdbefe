import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.backoff import FLOOR, Restraint, Why, restrain

SAYS = {"refused": False, "muted": False, "unresolved": False, "replied": True}
REFUSED = {"refused": True, "unresolved": True, "replied": True}

STEPS = [
    ("nothing was ever limited", 1.0, {}, 1.0, Why.UNRESTRAINED),
    ("refused, and the incident is not open yet", 1.0, {"refused": True}, 1.0, Why.UNRESTRAINED),
    ("the incident opens", 1.0, REFUSED, 0.5, Why.REFUSED),
    ("a further run with evidence", 0.5, REFUSED, 0.25, Why.REFUSED),
    ("at the floor", FLOOR, REFUSED, FLOOR, Why.REFUSED),
    ("a run that sent nothing", 0.5, {"muted": True, "unresolved": True, "replied": False}, 0.5, Why.UNSURE),
    ("429s that a higher cause explains", 0.5, {"muted": True, "unresolved": True}, 0.5, Why.UNSURE),
    ("no answer at all", 0.5, {"unresolved": True, "replied": False}, 0.5, Why.UNSURE),
    ("refused once more after it was resolved", 0.5, {"refused": True}, 0.5, Why.UNSURE),
    ("clean, and the incident is still open", 0.5, {"unresolved": True}, 0.625, Why.RECOVERING),
    ("clean, and it is resolved", 0.5, {}, 0.625, Why.RECOVERING),
    ("the last step", 0.9, {}, 1.0, Why.RECOVERING),
]


@pytest.mark.parametrize(("before", "says", "factor", "why"), [r[1:] for r in STEPS], ids=[r[0] for r in STEPS])
def test_how_far_the_next_run_holds_back(before, says, factor, why):
    assert restrain(before, **SAYS | says) == Restraint(factor=factor, why=why)


def test_one_halving_is_made_good_by_four_clean_runs_and_the_floor_by_sixteen():
    for begins_at, expected in ((0.5, 4), (FLOOR, 16)):
        factor, clean = begins_at, 0
        while factor < 1:
            factor, clean = restrain(factor, **SAYS).factor, clean + 1
        assert clean == expected


runs = st.builds(
    lambda *flags: dict(zip(SAYS, flags, strict=True)), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)


@given(st.lists(runs, max_size=60))
def test_it_stays_within_its_bounds_and_only_a_refusal_lowers_it(told):
    factor = 1.0
    for says in told:
        after = restrain(factor, **says).factor
        assert FLOOR <= after <= 1
        assert after >= factor or (says["refused"] and says["unresolved"])
        factor = after
