"""A 403 to everything: Gloo's answer to a rejected key. It is for two teams, and the key comes first."""

import json

import pytest
from support.thinned import first_only

from monitor.model import Cause, Severity, Team

ROUTES = """
[[channels]]
name = "keys"
type = "log"
[[channels]]
name = "others"
type = "log"
[[routes]]
match = { team = "credentials" }
channels = ["keys"]
continue = true
[[routes]]
match = { team = "account" }
channels = ["others"]
"""


@pytest.mark.parametrize("count", first_only([3, 30]))
def test_it_concerns_account_and_credentials_and_closes_the_gate(world, here, count):
    """With three items the target is not stopped: that takes five 403s."""
    world.configure(auth=world.key_auth, more=ROUTES)
    world.track(count)
    world.run()
    world.sandbox.add_fault(path="/engine", status=403, body={"code": "forbidden"})
    for _ in range(2):
        report = world.run()
    (incident,) = report.open_incidents
    assert (incident.cause, incident.severity) == (Cause.FORBIDDEN, Severity.CRITICAL)
    assert incident.teams == (Team.ACCOUNT, Team.CREDENTIALS)
    assert incident.channels == ("keys", "others")
    shown = here(world, "incidents", "show", str(incident.id)).stdout
    assert "teams: account and credentials" in shown
    assert "What to check:\n  - credentials: the API accepted no request at all" in shown
    as_json = json.loads(here(world, "incidents", "show", str(incident.id), "--json").stdout)
    assert (as_json["team"], as_json["also_teams"]) == ("account", ["credentials"])
    assert as_json["what_to_check"][0].startswith("credentials")
    said = here(world, "gate", "gloo")
    assert (said.returncode, said.stdout.split()[:2]) == (75, ["pause:", "forbidden"])
    world.sandbox.clear_faults()
    for _ in range(2):
        report = world.run()
    assert report.open_incidents == ()


def test_a_rule_that_names_another_team_keeps_it(world):
    rule = '[[rules]]\ncause = "forbidden"\nteam = "integration"\n'
    world.configure(auth=world.key_auth, more=rule)
    world.track(6)
    world.sandbox.add_fault(path="/engine", status=403)
    for _ in range(2):
        report = world.run()
    assert [incident.teams for incident in report.open_incidents] == [(Team.INTEGRATION,)]


@pytest.mark.parametrize(
    ("refusal", "cause"),
    [
        ({"status": 401}, Cause.UNAUTHORIZED),
        ({"status": 402}, Cause.SPENDING_LIMIT),
        ({"status": 403}, Cause.FORBIDDEN),
    ],
    ids=["unauthorized", "spending_limit", "forbidden"],
)
@pytest.mark.parametrize(
    "noise",
    first_only(
        [
            {"status": 503},
            {"status": 404, "body": "404 page not found"},
            {"status": 200, "body": "<title>Log in</title>"},
        ]
    ),
    ids=["503", "a gateway's 404", "a login page"],
)
def test_what_says_nothing_about_a_refusal_does_not_end_it(world, refusal, cause, noise):
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    world.track(2)
    world.run()
    world.sandbox.add_fault(path="/engine", **refusal)
    for _ in range(2):
        world.run()
    world.sandbox.clear_faults()
    world.sandbox.add_fault(path="/engine", **noise)
    for _ in range(2):
        report = world.run()
    assert cause in [incident.cause for incident in report.open_incidents]
    world.sandbox.clear_faults()
    for _ in range(2):
        report = world.run()
    assert cause not in [incident.cause for incident in report.open_incidents]


def test_a_cache_in_front_of_the_api_does_not_end_a_refusal(world):
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    (item_id,) = world.track(1)
    world.run()
    world.sandbox.add_fault(path="/engine", status=401)
    for _ in range(2):
        world.run()
    world.sandbox.clear_faults()
    cached = {"item_id": item_id, "status": "COMPLETED"}
    world.sandbox.add_fault(path="/engine", status=200, body=cached, headers={"age": "30"})
    for _ in range(3):
        report = world.run()
    assert [incident.cause for incident in report.open_incidents] == [Cause.UNAUTHORIZED]
    assert report.snapshot.completed == 1


def test_a_gateways_page_makes_no_document_missing_or_invalid_and_is_shown(world, here):
    world.configure(auth=world.key_auth)
    made = world.track(8)
    world.run()
    page = "<html><head><title>400 No required SSL certificate was sent</title></head></html>"
    world.sandbox.add_fault(path="/engine", status=400, body=page, headers={"server": "edge/1"})
    for _ in range(2):
        report = world.run()
    assert (report.snapshot.unknown, report.snapshot.invalid, report.snapshot.not_found) == (8, 0, 0)
    (incident,) = report.open_incidents
    assert incident.cause is Cause.BAD_RESPONSE
    shown = here(world, "incidents", "show", str(incident.id)).stdout
    assert '"400 No required SSL certificate was sent" (server: edge/1' in shown
    assert "400 No required SSL certificate was sent" in here(world, "items", "show", made[0]).stdout
    said = here(world, "check")
    assert '"page":"a client certificate is required"' in said.stderr
    assert "No required SSL" not in said.stderr
