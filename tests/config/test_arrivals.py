import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monitor.config import unreachable as arrivals
from monitor.config.unreachable import DeadEnd, WhyDead, dead_ends, kinds
from monitor.incidents.rulebook import Override
from monitor.model import ITEM_CAUSES, Cause, Severity, Team
from monitor.notifications.routing import Route, RouteOutcome, evaluate_routes
from monitor.notifications.texts import channel_target

TARGETS = {"gloo-prod": True, "gloo-dev": False}


def route(*, on=False, **match):
    return Route(match={name: (p,) if isinstance(p, str) else p for name, p in match.items()}, continue_=on)


def ends(*routes, targets=TARGETS, channels=("oncall",), overrides=()):
    return dead_ends(routes, kinds(targets, channels, overrides))


def shadowed(position, *behind):
    return DeadEnd(position=position, why=WhyDead.ALREADY_ACKNOWLEDGED, behind=behind)


def alone(position, attribute, why=WhyDead.NOTHING_LIKE_IT):
    return DeadEnd(position=position, why=why, attribute=attribute)


ALL, ITEMS = route(), route(cause="items_*")
CASES = [
    ("no routes", [], []),
    ("one that takes all", [ALL], []),
    ("the example of the documents", [route(team=("credentials", "account"), target="gloo-*"), ALL], []),
    ("behind one that takes all", [ALL, route(team="account"), ALL], [shadowed(1, 0), shadowed(2, 0)]),
    ("behind one that goes on", [route(on=True), route(team="account")], []),
    ("behind the same", [route(team="acc*"), route(team="account")], [shadowed(1, 0)]),
    ("behind more", [route(team="account"), route(team="acc*")], [shadowed(1, 0)]),
    ("behind two", [route(severity="critical"), route(severity="warning"), ALL], [shadowed(2, 0, 1)]),
    ("behind a team's causes", [route(team="credentials"), route(cause="unauthorized")], [shadowed(1, 0)]),
    ("behind some of a team's causes", [route(cause="forbidden"), route(team="account")], []),
    ("a denial may be critical", [route(cause="forbidden", severity="warning"), route(cause="forbidden")], []),
    ("nothing else of a cause", [route(cause="outage", severity="warning")],
     [DeadEnd(position=0, why=WhyDead.NOT_TOGETHER)]),
    ("no such target", [route(target="glo-*")], [alone(0, "target")]),
    ("no such team", [route(team="sales")], [alone(0, "team")]),
    ("no such cause", [route(cause="401")], [alone(0, "cause")]),
    ("a severity that no rule has", [route(severity="info")], [alone(0, "severity")]),
    ("a channel", [route(target="channel:oncall")], []),
    ("a channel that is not there", [route(target="channel:mail")], [alone(0, "target")]),
    ("all but channels", [route(target="gloo-*"), ALL], []),
    ("targets and channels", [route(target="gloo-*"), route(target="channel:*"), ALL], [shadowed(2, 0, 1)]),
    ("a group", [route(group="faq"), route(group="*"), ALL], []),
    ("a group behind any", [route(group="*"), route(group="faq")], [shadowed(1, 0)]),
    ("a group behind itself", [route(group=("blog", "f?q")), route(group="faq")], [shadowed(1, 0)]),
    ("a group behind a part of it", [route(group="faq"), route(group="f*")], []),
    ("all items behind a group: some have none", [route(group="*"), ITEMS], []),
    ("a group of requests", [route(cause="outage", group="a")], [alone(0, "group", WhyDead.NO_GROUPS)]),
    ("a group where none are said", [route(target="gloo-dev", group="a")], [alone(0, "group", WhyDead.NO_GROUPS)]),
    ("a group that nothing can be called", [route(group="[b-a]")], [alone(0, "group")]),
    ("a group, of no such cause and target", [route(group="a", target="channel:*", cause="items_*")],
     [DeadEnd(position=0, why=WhyDead.NOT_TOGETHER)]),
    ("another environment", [route(environment="staging"), route(environment="production"), ALL], []),
    ("behind every environment", [route(environment="*"), ALL], [shadowed(1, 0)]),
    ("an environment behind itself", [route(environment="prod*"), route(environment="prod")], [shadowed(1, 0)]),
    ("an environment behind itself and a team", [route(environment="prod", team="account"), route(environment="prod")],
     []),
    ("group and environment together", [route(environment="p", group="a"), route(environment="p"), route(group="a")],
     []),
    ("environments that leave nothing", [route(environment="p"), route(environment="[!p]*"), route(environment="p?*"),
     ALL], [shadowed(3, 0, 1, 2)]),
]  # fmt: skip


@pytest.mark.parametrize(("routes", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_which_routes_nothing_arrives_at(routes, expected):
    assert list(ends(*routes)) == expected


def test_rules_of_ones_own_decide_what_there_is():
    quiet = Override(cause=Cause.OUTAGE, targets=("gloo-dev",), changes={"severity": Severity.INFO}, source="rules[0]")
    info = route(severity="info")
    assert ends(info, overrides=[quiet]) == ()
    assert ends(route(target="gloo-prod"), info, overrides=[quiet]) == ()
    assert ends(route(target="gloo-dev"), info, overrides=[quiet]) == (shadowed(1, 0),)
    own = Override(cause=Cause.FORBIDDEN, changes={"severity": Severity.INFO}, source="rules[0]")
    first = route(cause="forbidden", severity="info")
    assert ends(first, route(cause="forbidden"), overrides=[own]) == (shadowed(1, 0),)


def test_patterns_that_can_t_be_told_apart_in_time_accuse_nobody(monkeypatch):
    monkeypatch.setattr(arrivals, "representatives", lambda _: None)
    assert ends(ALL, ALL) == ()
    found = kinds(TARGETS, (), ())
    assert arrivals._possible("group", ("a",), found)


NAMES = st.sampled_from(["a", "b", "ab", "*", "a*", "?", "[!a]*"])


def some(values):
    return st.lists(values, min_size=1, max_size=2).map(tuple)


ROUTES = st.lists(
    st.builds(
        lambda match, on: Route(match=match, continue_=on),
        st.fixed_dictionaries(
            {},
            optional={
                "team": some(st.sampled_from([*Team, "*", "sales", "[ac]*"])),
                "cause": some(st.sampled_from([*Cause, "items_*", "*", "x"])),
                "target": some(st.sampled_from(["a", "a*", "channel:*", "z", "*"])),
                "severity": some(st.sampled_from([*Severity, "[iw]*"])),
                "group": some(NAMES),
                "environment": some(NAMES),
            },
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)
OVERRIDES = st.lists(
    st.builds(
        lambda cause, targets, changes: Override(cause=cause, targets=targets, changes=changes, source="rules[0]"),
        st.sampled_from([Cause.OUTAGE, Cause.FORBIDDEN, Cause.ITEMS_FAILED, Cause.CHANNEL_FAILING]),
        st.sampled_from([(), ("a",), ("b*", "channel:*")]),
        st.fixed_dictionaries({}, optional={"team": st.sampled_from(Team), "severity": st.sampled_from(Severity)}),
    ),
    max_size=3,
)
GROUPED = st.dictionaries(st.sampled_from(["a", "ab", "b"]), st.booleans(), min_size=1)
TEXTS = st.text("abc", min_size=1, max_size=3)


def attributes(kind, environment, groups):
    return {
        "team": kind.team.value,
        "cause": kind.cause.value,
        "target": kind.target,
        "severity": kind.severity.value,
        "environment": environment,
        "group": groups,
    }


def arrived(routes, incident):
    return {
        n
        for n, step in enumerate(evaluate_routes(incident, routes))
        if step.outcome in {RouteOutcome.MATCHED, RouteOutcome.MATCHED_CONTINUE}
    }


@given(ROUTES, GROUPED, OVERRIDES, TEXTS, st.lists(TEXTS, max_size=3).map(tuple), st.data())
def test_what_is_reported_is_never_taken(routes, targets, overrides, environment, groups, data):
    of = kinds(targets, ("oncall",), overrides)
    dead = {each.position for each in dead_ends(routes, of)}
    kind = data.draw(st.sampled_from(of))
    incident = attributes(kind, environment, groups if kind.grouped else ())
    assert not dead & arrived(routes, incident)


@given(ROUTES, GROUPED, OVERRIDES)
@settings(max_examples=40)
def test_what_is_not_reported_is_taken_by_some_incident(routes, targets, overrides):
    of = kinds(targets, ("oncall",), overrides)
    dead = {each.position for each in dead_ends(routes, of)}
    assume(len(dead) < len(routes))
    names = ["a", "b", "ab", "c", "aa", "ba", "abc"]
    missing = set(range(len(routes))) - dead
    for kind in of:
        for environment in names:
            for groups in [(), *((name,) for name in names)] if kind.grouped else [()]:
                missing -= arrived(routes, attributes(kind, environment, groups))
                if not missing:
                    return
    assert missing == set()


@given(ROUTES, GROUPED)
def test_the_routes_that_are_named_do_take_all_that_it_matches(routes, targets):
    of = kinds(targets, (), ())
    for end in dead_ends(routes, of):
        assert (end.why is WhyDead.ALREADY_ACKNOWLEDGED) is bool(end.behind)
        assert all(n < end.position and not routes[n].continue_ for n in end.behind)
        without_others = dead_ends([*(routes[n] for n in end.behind), routes[end.position]], of)
        assert without_others[-1].position == len(end.behind)
        assert without_others[-1].why is end.why


def test_every_kind_of_incident_is_there():
    of = kinds(TARGETS, ("oncall",), ())
    about = {(kind.target, kind.cause) for kind in of}
    causes = set(Cause) - {Cause.CHANNEL_FAILING}
    assert about == {(name, cause) for name in TARGETS for cause in causes} | {
        (channel_target("oncall"), Cause.CHANNEL_FAILING)
    }
    assert {(kind.target, kind.cause) for kind in of if kind.grouped} == {("gloo-prod", cause) for cause in ITEM_CAUSES}
    assert len(of) == len(about) + len(TARGETS), "a denial is a warning or critical"
