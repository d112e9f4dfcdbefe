from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.decide import Action, EvidencePoint, decide
from monitor.incidents.rulebook import DEFAULT_RULES, EffectiveRule
from monitor.incidents.simulate import Opening, Scenario, opening, simulate
from monitor.model import Cause, Severity, Silence
from monitor.notifications.routing import Route, RouteOutcome

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SCENARIO = Scenario(
    target="gloo-prod",
    group="",
    environment="test",
    routes=(
        Route(match={"severity": ("critical",)}, channels=("oncall",)),
        Route(match={"team": ("account",)}, channels=("mail",), continue_=True),
        Route(channels=("log",)),
    ),
    channels=("oncall", "mail"),
)


def due(every, *, within):
    return [NOW + every * n for n in range(within // every + 1)]


OPENINGS = [
    ("at once", Cause.ITEMS_FAILED, {}, 5 * MINUTE, Opening(runs=1, after=timedelta(0))),
    ("two in a row", Cause.UNAUTHORIZED, {}, 5 * MINUTE, Opening(runs=2, after=5 * MINUTE)),
    ("three of five", Cause.RATE_LIMITED, {}, MINUTE, Opening(runs=3, after=2 * MINUTE)),
    ("an outage, every five minutes", Cause.OUTAGE, {}, 5 * MINUTE, Opening(runs=2, after=5 * MINUTE)),
    ("an outage, every minute", Cause.OUTAGE, {}, MINUTE, Opening(runs=4, after=3 * MINUTE)),
    ("an outage, every ten seconds", Cause.OUTAGE, {}, MINUTE / 6, Opening(runs=19, after=3 * MINUTE)),
    ("a run that is alone in the window", Cause.UNAUTHORIZED, {}, 2 * HOUR, Opening(runs=1, after=timedelta(0))),
    ("all that there are in the window", Cause.OUTAGE, {"runs": 9, "of": 9}, 20 * MINUTE, Opening(runs=4, after=HOUR)),
    ("a span that the rhythm can't fill", Cause.OUTAGE, {"hold_for": 58 * MINUTE}, 7 * MINUTE, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "changes", "every", "expected"), [o[1:] for o in OPENINGS], ids=[o[0] for o in OPENINGS]
)
def test_when_an_incident_would_open(cause, changes, every, expected):
    rule = replace(DEFAULT_RULES[cause], **changes)
    assert opening(rule, due(every, within=rule.window)) == expected


@given(
    st.integers(1, 6),
    st.integers(0, 4),
    st.sampled_from([10, 60, 300, 1200, 5000]),
    st.integers(0, 60),
    st.integers(1, 3),
)
def test_the_simulated_opening_is_that_of_run_by_run_decisions(runs, more, every_s, hold_for_min, resolve_after):
    rule = replace(
        DEFAULT_RULES[Cause.OUTAGE],
        runs=runs,
        of=runs + more,
        hold_for=hold_for_min * MINUTE,
        resolve_after=resolve_after,
    )
    times = due(timedelta(seconds=every_s), within=rule.window)
    points = [EvidencePoint(run_id=0, at=NOW - (time - NOW), evidence=False) for time in times[1:]]
    found = None
    for number, at in enumerate(times, 1):
        points.insert(0, EvidencePoint(run_id=number, at=at, evidence=True))
        if decide(rule, None, points, now=at).action is Action.OPEN:
            found = Opening(runs=number, after=at - NOW)
            break
    assert opening(rule, times) == found


def played(cause, scenario=SCENARIO, silences=()):
    found = EffectiveRule(rule=DEFAULT_RULES[cause])
    return simulate(found, scenario, due=due(5 * MINUTE, within=HOUR), now=NOW, silences=silences)


def test_each_route_has_its_result():
    (case,) = played(Cause.UNAUTHORIZED).cases
    assert [(step.outcome, step.mismatch) for step in case.steps] == [
        (RouteOutcome.MATCHED, None), (RouteOutcome.NOT_EVALUATED, None), (RouteOutcome.NOT_EVALUATED, None),
    ]  # fmt: skip
    assert (case.severity, case.accepted, case.channels) == (Severity.CRITICAL, None, ("oncall",))


def test_forbidden_has_two_cases_because_its_severity_depends_on_what_else_is_accepted():
    some, nothing = played(Cause.FORBIDDEN).cases
    assert (some.accepted, some.severity, some.channels) == (True, Severity.WARNING, ("mail", "log"))
    assert (nothing.accepted, nothing.severity, nothing.channels) == (False, Severity.CRITICAL, ("oncall",))
    assert [step.outcome for step in some.steps] == [
        RouteOutcome.NOT_MATCHED,
        RouteOutcome.MATCHED_CONTINUE,
        RouteOutcome.MATCHED,
    ]
    assert some.steps[0].mismatch == "severity"


@pytest.mark.parametrize(
    ("severity", "cases"),
    [
        pytest.param(
            Severity.WARNING,
            [
                (Severity.CRITICAL, "while the budget burns faster than 14.4× or 6×", ("oncall",)),
                (Severity.WARNING, "while the budget burns faster than 1×", ("log",)),
            ],
            id="built in: each alert has its severity",
        ),
        pytest.param(Severity.INFO, [(Severity.INFO, "", ("log",))], id="configured: all have the same"),
    ],
)
def test_an_objective_has_a_case_per_severity_of_its_alerts(severity, cases):
    rule = replace(DEFAULT_RULES[Cause.SLO_BURN], severity=severity)
    found = simulate(EffectiveRule(rule=rule), SCENARIO, due=due(5 * MINUTE, within=HOUR), now=NOW)
    assert [(case.severity, case.condition, case.channels) for case in found.cases] == cases
    assert found.opening == Opening(runs=1, after=timedelta(0))


def test_routes_match_the_given_group():
    scenario = replace(SCENARIO, group="faq", routes=(Route(match={"group": ("f*",)}, channels=("mail",)),))
    assert played(Cause.ITEMS_FAILED, scenario).cases[0].channels == ("mail",)
    assert played(Cause.ITEMS_FAILED, replace(scenario, group="")).cases[0].channels == ("log",)


def test_a_failing_channel_is_not_notified_of_itself():
    scenario = replace(SCENARIO, target="channel:mail", routes=(Route(channels=("mail", "oncall")),))
    assert played(Cause.CHANNEL_FAILING, scenario).cases[0].channels == ("oncall",)


def silence(number, starts, ends, **matchers):
    return Silence(
        id=number, matchers={name: (p,) for name, p in matchers.items()}, starts_at=NOW + starts, ends_at=NOW + ends
    )


SILENCES = [
    ("none", [], None),
    ("one that matches", [silence(4, -HOUR, HOUR, target="gloo-*")], 4),
    ("one of another target", [silence(4, -HOUR, HOUR, target="x")], None),
    ("one that is over", [silence(4, -HOUR, -MINUTE, target="gloo-*")], None),
    ("one to come", [silence(4, MINUTE, HOUR, target="gloo-*")], None),
    ("the first of two", [silence(n, -HOUR, HOUR, cause="outage") for n in (5, 6)], 5),
]


@pytest.mark.parametrize(("silences", "expected"), [s[1:] for s in SILENCES], ids=[s[0] for s in SILENCES])
def test_an_active_silence_is_named(silences, expected):
    (case,) = played(Cause.OUTAGE, silences=silences).cases
    assert (case.silence.id if case.silence else None) == expected
