"""One document that the API can't answer for is no outage: it is asked last, with less effort, and named at the end."""

import json

import pytest

from monitor.model import Cause, ItemState, Reason, RunStatus, Severity, Team

QUICK = "max_attempts = 2"
POISON = {"status": 500, "body": {"error": {"code": "INTERNAL"}, "request_id": "req-poison-1"}}


def poison(world, item_id, **fault):
    world.sandbox.add_fault(path=f"/engine/v2/items/{item_id}", **(fault or POISON))


def causes(report):
    return [incident.cause for incident in report.open_incidents]


def test_from_the_third_run_on_it_is_an_incident_of_its_own(world, here):
    world.configure(auth=world.key_auth, check=QUICK)
    made = world.track(40)
    world.run()
    poison(world, made[7])
    for _ in range(2):
        report = world.run()
        assert (report.status, report.snapshot.completed, report.snapshot.unknown) == (RunStatus.COMPLETE, 39, 1)
        assert report.evaluation.evidence == ()
        assert report.open_incidents == ()
    report = world.run()
    (incident,) = report.open_incidents
    assert (incident.cause, incident.severity, incident.team) == (
        Cause.ITEMS_UNVERIFIED,
        Severity.WARNING,
        Team.INTEGRATION,
    )
    assert incident.evidence.breakdown == {"500 INTERNAL": 1}
    assert incident.member_ids == (made[7],)
    shown = here(world, "incidents", "show", str(incident.id)).stdout
    assert all(said in shown for said in (made[7], "req-poison-1", "INTERNAL", "support"))
    assert made[8] not in shown
    as_json = json.loads(here(world, "incidents", "show", str(incident.id), "--json").stdout)
    assert (as_json["request_ids"], as_json["code"]) == (["req-poison-1"], "INTERNAL")
    assert "3 runs in a row" in here(world, "items", "show", made[7]).stdout
    assert causes(world.run()) == [Cause.ITEMS_UNVERIFIED]
    world.sandbox.clear_faults()
    report = world.run()
    assert report.open_incidents == ()
    assert report.snapshot.completed == 40


def test_it_takes_fewer_attempts_each_run(world):
    world.configure(auth=world.key_auth, check="max_attempts = 4")
    made = world.track(30)
    world.run()
    poison(world, made[3], status=503, headers={"retry-after-ms": "1"})
    asked = []
    for _ in range(4):
        before = world.sandbox.requests("/items/{")
        world.run()
        asked.append(world.sandbox.requests("/items/{") - before - 29)
    first, *rest = asked
    assert first >= 2  # the run's retry budget may end it before the fourth attempt
    assert rest == [2, 1, 1]


KINDS = {
    "one odd body": {"status": 200, "body": "<p>what?"},
    "one 429": {"status": 429, "body": {"code": "slow"}},
    "one 302": {"status": 302},
    "one 405": {"status": 405, "body": {"code": "no"}},
    "one publisher_not_found": {"status": 400, "body": {"code": "publisher_not_found"}},
    "one dropped connection": {"close": True},
}


@pytest.mark.parametrize("fault", KINDS.values(), ids=KINDS)
def test_whatever_one_item_answers_is_its_own_trouble(world, fault):
    """After the 429 the client slows down, so that case takes some seconds."""
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    made = world.track(25)
    world.run()
    poison(world, made[5], **fault)
    for _ in range(2):
        assert causes(world.run()) == []
    report = world.run()
    assert causes(report) == [Cause.ITEMS_UNVERIFIED]
    assert report.status is RunStatus.COMPLETE
    assert report.throttle_factor == 1.0


def test_a_403_on_one_item_stays_forbidden(world):
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    made = world.track(25)
    world.run()
    poison(world, made[5], status=403, body={"code": "publisher_mismatch"})
    for _ in range(3):
        report = world.run()
    (incident,) = report.open_incidents
    assert (incident.cause, incident.severity, incident.teams) == (Cause.FORBIDDEN, Severity.WARNING, (Team.ACCOUNT,))
    assert report.status is RunStatus.COMPLETE


def test_different_items_in_every_run_are_no_incident(world):
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    made = world.track(40)
    world.run()
    for n in range(5):
        world.sandbox.clear_faults()
        poison(world, made[n])
        assert causes(world.run()) == []


def test_while_the_whole_service_is_down_no_item_is_unverified(world):
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    made = world.track(40)
    world.run()
    poison(world, made[0])
    world.run()
    world.sandbox.clear_faults()
    world.sandbox.add_fault(path="/engine", status=503)
    for _ in range(6):
        report = world.run()
    assert causes(report) == [Cause.OUTAGE]
    world.sandbox.clear_faults()
    assert world.run().snapshot.completed == 40


def test_an_open_outage_ends_although_one_item_stays_unanswered(world):
    """Of 10 due items at most 9 can be answered: the tenth has a trouble of its own."""
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    made = world.track(10)
    world.run()
    world.sandbox.add_fault(path="/engine", status=503)
    for _ in range(6):
        world.run()
    world.sandbox.clear_faults()
    poison(world, made[0])
    reports = [world.run() for _ in range(3)]
    aborted = [report.status is RunStatus.ABORTED for report in reports]
    assert aborted in ([False] * 3, [True, False, False]), "it is the only item asked about in one run at most"
    assert Cause.OUTAGE not in causes(reports[1 + aborted[0]]), "two runs without evidence end the outage"


def test_many_poison_documents_at_the_end_of_a_run_do_not_stop_the_target(world):
    """The breaker opens over the last items, when nothing is left to ask about."""
    world.configure(auth=world.key_auth, check="max_attempts = 5\nconcurrency = 8")
    made = world.track(200)
    world.run()
    for each in made[:6]:
        poison(world, each, status=500, body={"retryable": False})
    for _ in range(3):
        report = world.run()
        assert (report.status, report.abort_reason) == (RunStatus.COMPLETE, None)
        assert report.snapshot.completed == 194
    assert causes(report) == [Cause.ITEMS_UNVERIFIED]


def test_a_list_that_calls_it_completed_answers_for_it(world):
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    made = world.track(60)
    world.run()
    poison(world, made[0])
    for _ in range(3):
        report = world.run()
    assert causes(report) == [Cause.ITEMS_UNVERIFIED]
    world.configure(auth=world.key_auth, strategy="list", check="max_attempts = 1")
    report = world.run()
    assert report.open_incidents == ()
    assert report.snapshot.states[ItemState.COMPLETED] == 60


def test_a_run_that_is_refused_leaves_it_unasked(world):
    world.configure(auth=world.key_auth, check="max_attempts = 1")
    made = world.track(10)
    world.run()
    poison(world, made[0])
    world.run()
    world.sandbox.clear_faults()
    world.sandbox.add_fault(path="/engine", status=401)
    report = world.run()
    assert report.abort_reason == "unauthorized"
    with world.app.engine.connect() as conn:
        reasons = conn.exec_driver_sql("SELECT DISTINCT reason FROM items WHERE state = 'unknown'").scalars().all()
    assert reasons == ["unauthorized"]
    assert Reason.NOT_ASKED.value not in reasons
