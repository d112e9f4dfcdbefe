"""Log events of a run: the incidents that it changed."""

from datetime import timedelta

import structlog
from support.observed import events


def changes(world):
    with structlog.testing.capture_logs() as logged:
        world.run()
    names = [each["event"] for each in logged]
    assert names[-1] == "run_finished"
    return [each for each in logged if each["event"] == "incident_changed"]


def test_an_incident_is_logged_when_it_opens_and_when_it_resolves(small_world):
    (item_id,) = small_world.track(1)
    small_world.sandbox.set_status(item_id, "FAILED")
    (opened,) = changes(small_world)
    assert changes(small_world) == []
    small_world.sandbox.set_status(item_id, "COMPLETED")
    (resolved,) = changes(small_world)
    event = {"event": "incident_changed", "log_level": "info", "incident_id": 1, "cause": "items_failed"}
    assert event.items() <= opened.items()
    assert event.items() <= resolved.items()
    assert [(each["change"], each["members"]) for each in (opened, resolved)] == [("open", 1), ("resolve", 0)]
    assert item_id not in str(opened) + str(resolved)


def test_a_continuing_cause_is_logged_once(small_world):
    small_world.track(1)
    small_world.sandbox.add_fault("401")
    opened = [
        change["change"] for _ in range(3) for change in changes(small_world) if change["cause"] == "unauthorized"
    ]
    assert opened == ["open"]


def test_log_events_of_a_run_name_its_target(small_world):
    (item_id,) = small_world.track(1)
    small_world.sandbox.set_status(item_id, "FAILED")
    assert events(small_world.cli("check", "--quiet").stderr, "incident_changed") == []
    small_world.sandbox.set_status(item_id, "COMPLETED")
    (event,) = events(small_world.cli("check", "--quiet", "--log-level", "info").stderr, "incident_changed")
    assert (event["integration"], event["change"]) == ("gloo", "resolve")
    assert event["run_id"] == 2


def test_a_missing_item_that_is_known_is_no_failed_request_in_later_logs(small_world):
    small_world.track(2)
    small_world.record("00000000-0000-4000-8000-000000000001", uploaded_at=small_world.clock() - timedelta(hours=1))

    def failed():
        with structlog.testing.capture_logs() as logged:
            small_world.run()
        return [each["http_status"] for each in logged if each["event"] == "requests_failed"]

    assert failed() == [404]
    assert failed() == []
    small_world.sandbox.add_fault(path="/engine", status=418)
    assert failed() == [418]
