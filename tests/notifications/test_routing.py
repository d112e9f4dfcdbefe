import pytest

from monitor.notifications.routing import Route, RouteOutcome, evaluate_routes, route

INCIDENT = {
    "team": "credentials",
    "cause": "unauthorized",
    "target": "gloo-prod",
    "severity": "critical",
    "environment": "p",
}
ALL = ("oncall", "mail", "chat")

ROUTES = [
    ("no channels: the log", [], (), ("log",)),
    ("no routes: every channel", [], ALL, ALL),
    ("first match wins", [Route(channels=("mail",)), Route(channels=("chat",))], ALL, ("mail",)),
    (
        "continue goes on",
        [Route(channels=("mail",), continue_=True), Route(channels=("chat", "mail"))],
        ALL,
        ("mail", "chat"),
    ),
    ("any of the patterns", [Route(match={"team": ("account", "cred*")}, channels=("oncall",))], ALL, ("oncall",)),
    (
        "all of the attributes",
        [Route(match={"team": ("credentials",), "target": ("x-*",)}, channels=("oncall",))],
        ALL,
        ("log",),
    ),
    ("globs", [Route(match={"target": ("gloo-*",)}, channels=("chat",))], ALL, ("chat",)),
    ("an attribute that it lacks", [Route(match={"group": ("a",)}, channels=("chat",))], ALL, ("log",)),
    ("case matters", [Route(match={"team": ("Credentials",)}, channels=("chat",))], ALL, ("log",)),
]


@pytest.mark.parametrize(("routes", "channels", "expected"), [r[1:] for r in ROUTES], ids=[r[0] for r in ROUTES])
def test_channels_of_an_incident(routes, channels, expected):
    assert route(INCIDENT, routes, channels) == expected


def test_each_route_has_an_outcome_with_the_attribute_that_does_not_match():
    routes = [
        Route(match={"team": ("credentials",), "target": ("x-*",)}, channels=("chat",)),
        Route(match={"team": ("credentials",)}, channels=("mail",), continue_=True),
        Route(channels=("oncall",)),
        Route(match={"team": ("sales",)}, channels=("chat",)),
    ]
    assert [(step.outcome, step.mismatch) for step in evaluate_routes(INCIDENT, routes)] == [
        (RouteOutcome.NOT_MATCHED, "target"),
        (RouteOutcome.MATCHED_CONTINUE, None),
        (RouteOutcome.MATCHED, None),
        (RouteOutcome.NOT_EVALUATED, None),
    ]
    assert [step.route for step in evaluate_routes(INCIDENT, routes)] == routes
