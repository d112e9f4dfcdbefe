import pytest

from monitor.notifications.routing import Route, Taken, route, walk

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
        [Route(channels=("mail",), goes_on=True), Route(channels=("chat", "mail"))],
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


@pytest.mark.parametrize(("routes", "channels", "told"), [r[1:] for r in ROUTES], ids=[r[0] for r in ROUTES])
def test_who_is_told(routes, channels, told):
    assert route(INCIDENT, routes, channels) == told


def test_what_becomes_of_each_route_is_told_with_the_reason():
    routes = [
        Route(match={"team": ("credentials",), "target": ("x-*",)}, channels=("chat",)),
        Route(match={"team": ("credentials",)}, channels=("mail",), goes_on=True),
        Route(channels=("oncall",)),
        Route(match={"team": ("sales",)}, channels=("chat",)),
    ]
    assert [(step.taken, step.mismatch) for step in walk(INCIDENT, routes)] == [
        (Taken.NO, "target"),
        (Taken.AND_ON, None),
        (Taken.YES, None),
        (Taken.NOT_REACHED, None),
    ]
    assert [step.route for step in walk(INCIDENT, routes)] == routes
