from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.rulebook import (
    DEFAULT_RULES,
    EffectiveRule,
    GroupBy,
    Override,
    Rule,
    RuleProblem,
    effective_rules,
    rule_problem,
)
from monitor.model import Cause, Severity, Team

OUTAGE, FAILED = Cause.OUTAGE, Cause.ITEMS_FAILED
HOUR = timedelta(hours=1)


def override(position=0, cause=OUTAGE, targets=(), **changes):
    return Override(cause=cause, targets=targets, changes=changes, source=f"rules[{position}]")


def test_without_overrides_everything_is_built_in():
    found = effective_rules([], "gloo-prod")
    assert {cause: each.rule for cause, each in found.items()} == DEFAULT_RULES
    assert {each.changed_by for each in found.values()} == {()}


TARGETS = [
    ("all, when none is named", (), "gloo-prod", True),
    ("its very name", ("gloo-prod",), "gloo-prod", True),
    ("a pattern", ("x", "gloo-*"), "gloo-prod", True),
    ("another target", ("gloo-*",), "docs", False),
    ("case counts", ("Gloo-*",), "gloo-prod", False),
    ("a channel", ("channel:*",), "channel:oncall", True),
]


@pytest.mark.parametrize(("patterns", "target", "applies_to"), [t[1:] for t in TARGETS], ids=[t[0] for t in TARGETS])
def test_which_targets_an_override_applies_to(patterns, target, applies_to):
    found = effective_rules([override(targets=patterns, severity=Severity.INFO)], target)[OUTAGE]
    assert (found.rule.severity is Severity.INFO) is applies_to
    assert found.changed_by == (("rules[0]",) if applies_to else ())


def test_each_value_names_the_table_that_set_it():
    layers = [
        override(0, runs=3, team=Team.ACCOUNT),
        override(1, targets=("gloo-*",), team=Team.MONITOR),
        override(2, targets=("docs",), team=Team.PIPELINE),
    ]
    found = effective_rules(layers, "gloo-prod")[OUTAGE]
    assert (found.rule.runs, found.rule.of, found.rule.team) == (3, 3, Team.MONITOR)
    assert found.sources == {"runs": "rules[0]", "of": "rules[0]", "team": "rules[1]"}
    assert found.changed_by == ("rules[0]", "rules[1]")


RULES = st.fixed_dictionaries(
    {},
    optional={
        "runs": st.integers(1, 5),
        "of": st.integers(5, 9),
        "severity": st.sampled_from(Severity),
        "team": st.sampled_from(Team),
        "resolve_after": st.integers(1, 5),
        "by": st.sampled_from(GroupBy),
        "window": st.sampled_from([HOUR, 2 * HOUR]),
    },
)
LAYERS = st.lists(
    st.tuples(st.sampled_from([OUTAGE, FAILED]), st.sampled_from([(), ("a*",), ("b",), ("a", "b")]), RULES), max_size=6
)


def laid(layers):
    return [override(n, cause, targets, **changes) for n, (cause, targets, changes) in enumerate(layers)]


@given(LAYERS, st.sampled_from(["a", "ab", "b", "c"]))
def test_the_last_table_that_sets_a_value_wins(layers, target):
    layers = laid(layers)
    for cause, found in effective_rules(layers, target).items():
        mine = [each for each in layers if each.cause is cause and each.applies_to(target)]
        for name in (each.name for each in fields(Rule)):
            said = [each for each in mine if name in each.changes or (name == "of" and "runs" in each.changes)]
            expected = said[-1].changes.get(name, said[-1].changes.get("runs")) if said else None
            built_in = getattr(DEFAULT_RULES[cause], name)
            assert getattr(found.rule, name) == (built_in if expected is None else expected)
            assert found.sources.get(name) == (said[-1].source if said else None)


@given(LAYERS, st.integers(0, 6), st.sampled_from(["a", "ab", "b", "c"]))
def test_several_tables_can_change_one_rule(layers, cut, target):
    layers = laid(layers)
    below = {cause: each.rule for cause, each in effective_rules(layers[:cut], target).items()}
    for each in layers[cut:]:
        if each.applies_to(target):
            whole = {**({"of": each.changes["runs"]} if "runs" in each.changes else {}), **each.changes}
            below[each.cause] = replace(below[each.cause], **whole)
    assert below == {cause: each.rule for cause, each in effective_rules(layers, target).items()}


@given(LAYERS, st.sampled_from(["a", "ab", "b", "c"]))
def test_an_override_for_other_targets_changes_nothing(layers, target):
    layers = laid(layers)
    assert effective_rules(layers, target) == effective_rules(
        [each for each in layers if each.applies_to(target)], target
    )


FLAWS = [
    ("built in", {}, None),
    ("as many as it looks at", {"runs": 4, "of": 4}, None),
    ("more than it looks at", {"runs": 4, "of": 3}, RuleProblem.RUNS_EXCEED_OF),
    ("a span that fills the window", {"hold_for": HOUR}, None),
    ("a span beyond the window", {"hold_for": 2 * HOUR}, RuleProblem.HOLD_FOR_EXCEEDS_WINDOW),
]


@pytest.mark.parametrize(("changes", "expected"), [f[1:] for f in FLAWS], ids=[f[0] for f in FLAWS])
def test_a_rule_that_could_never_open_an_incident_is_a_problem(changes, expected):
    assert rule_problem(replace(DEFAULT_RULES[OUTAGE], **changes)) is expected


def test_every_built_in_rule_can_open_an_incident():
    assert {rule_problem(rule) for rule in DEFAULT_RULES.values()} == {None}
    assert EffectiveRule(rule=DEFAULT_RULES[OUTAGE]).changed_by == ()
