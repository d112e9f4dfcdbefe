"""The strategies `list` and `auto`, end to end against the sandbox."""

import asyncio
import time
import uuid

import pytest

from monitor.model import Cause, RunStatus
from monitor.reports.runs import run_json, run_text
from monitor.runs.list_comparison import ListComparison
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run
from monitor.runs.strategy import ApproachReason

LIST = "/engine/v2/publisher"


@pytest.fixture
def world(world):
    world.configure(strategy="auto")
    return world


@pytest.fixture
def small_world(small_world):
    small_world.configure(strategy="auto")
    return small_world


def states(report):
    return {state.value: count for state, count in report.snapshot.states.items() if count}


def causes(report):
    return [incident.cause for incident in report.open_incidents]


def listed(*item_ids, status="COMPLETED"):
    return [{"item_id": i, "item_title": "t", "filename": "f.txt", "status": status} for i in item_ids]


def test_many_completed_items_need_one_request(world):
    world.track(60)
    first, second = world.run(), world.run()
    for report in first, second:
        assert report.approach.reason is ApproachReason.MANY_DUE
        assert report.approach.by_list
        assert states(report) == {"completed": 60}
        assert (report.snapshot.requests, report.snapshot.checked) == (1, 60)
        assert report.status is RunStatus.COMPLETE
    assert len(world.rows("SELECT * FROM item_events")) == 60
    assert {row["stage"] for row in world.rows("SELECT stage FROM items")} == {"COMPLETED"}
    assert run_json(second)["strategy"] == {"used": "list", "reason": "many items are due", "detail": ""}


def test_items_that_are_not_completed_in_the_list_are_asked_one_by_one(world):
    world.track(60)
    world.track(2, "EMBEDDING", uploaded_at=world.clock())
    world.track(1, "FAILED")
    world.record(str(uuid.uuid4()), "not-a-uuid")
    for report in world.run(), world.run():
        assert states(report) == {"completed": 60, "pending": 2, "failed": 1, "not_found": 1, "invalid": 1}
        assert report.snapshot.requests == 1 + 4


def test_few_items_are_asked_one_by_one(small_world):
    small_world.track(50)
    report = small_world.run()
    assert (report.approach.reason, report.snapshot.requests) == (ApproachReason.FEW_DUE, 50)


def test_a_completed_item_that_disappears_or_fails_is_found_by_the_next_run(world):
    ids = world.track(300)
    world.run()
    world.sandbox.remove(ids[0])
    world.sandbox.set_status(ids[1], "FAILED")
    report = world.run()
    assert states(report) == {"completed": 298, "not_found": 1, "failed": 1}
    assert report.snapshot.requests == 3
    assert causes(report) == [Cause.ITEMS_MISSING, Cause.ITEMS_FAILED]


def test_the_list_completes_an_item_that_was_unknown_in_the_last_run(world):
    world.track(60)
    world.run()
    world.sandbox.revoke_client()
    assert states(world.run()) == {"unknown": 60}
    world.sandbox.restore_client()
    report = world.run()
    assert (states(report), report.snapshot.requests) == ({"completed": 60}, 1)


def test_a_list_without_existing_items_is_dropped(small_world):
    ids = small_world.track(100)
    small_world.sandbox.add_fault(path=LIST, status=200, body=listed(*ids[:70]))
    report = small_world.run()
    assert report.approach.reason is ApproachReason.LIST_WRONG
    assert states(report) == {"completed": 100}
    assert report.snapshot.requests == 1 + 100
    text = run_text(report, now=small_world.clock())
    assert "Asked item by item: items that exist are missing from the list (30 of 100 items" in text


def test_after_a_dropped_list_no_item_is_asked_about_twice(small_world):
    small_world.track(100)
    small_world.run()
    small_world.sandbox.add_fault(path=LIST, status=200, body=[])
    report = small_world.run()
    assert (report.approach.reason, states(report)) == (ApproachReason.LIST_WRONG, {"completed": 100})
    assert (report.snapshot.requests, report.snapshot.checked) == (1 + 100, 100)


@pytest.mark.parametrize("foreign", [6, 30], ids=["a few", "enough to try the list on a sample"])
@pytest.mark.parametrize("strategy", ["auto", "list"])
def test_foreign_items_do_not_stop_a_target_whose_list_contains_ours(small_world, strategy, foreign):
    small_world.configure(strategy=strategy)
    small_world.track(60)
    small_world.run()
    for item_id in small_world.track(foreign):
        small_world.sandbox.assign_to_other_publisher(item_id)
    reports = [small_world.run(), small_world.run()]
    for report in reports:
        assert (report.status, report.abort_reason) == (RunStatus.COMPLETE, None)
        assert states(report) == {"completed": 60, "unknown": foreign}
        assert report.snapshot.requests == 1 + foreign
    assert causes(reports[1]) == [Cause.FORBIDDEN]


def test_403s_stop_a_target_whose_list_contains_none_of_our_items(small_world):
    small_world.configure(strategy="list")
    for item_id in small_world.track(12):
        small_world.sandbox.assign_to_other_publisher(item_id)
    report = small_world.run()
    assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "forbidden")


def test_a_list_without_missing_items_is_used(small_world):
    ids = small_world.track(100)
    for item_id in ids[:30]:
        small_world.sandbox.remove(item_id)
    report = small_world.run()
    assert report.approach.by_list
    assert states(report) == {"completed": 70, "not_found": 30}
    assert report.snapshot.requests == 1 + 30


def test_up_to_twenty_missing_items_are_asked_about_without_a_sample(small_world):
    ids = small_world.track(60)
    small_world.sandbox.add_fault(path=LIST, status=200, body=listed(*ids[:40]))
    report = small_world.run()
    assert (report.approach.by_list, states(report)) == (True, {"completed": 60})
    assert report.snapshot.requests == 1 + 20


WITHOUT = [
    ("refused", {"status": 403, "body": {"code": "forbidden"}}, ApproachReason.LIST_REFUSED, "HTTP 403"),
    ("not there", {"status": 404, "body": {"detail": "Not Found"}}, ApproachReason.LIST_REFUSED, "HTTP 404"),
    ("a page of HTML", {"status": 200, "body": "<html>hello</html>"}, ApproachReason.LIST_UNREADABLE, ""),
    ("an object", {"status": 200, "body": {"items": []}}, ApproachReason.LIST_UNREADABLE, ""),
    (
        "cut short",
        {"status": 200, "body": '[{"item_id": "x", "status": "COMPLETED"},'},
        ApproachReason.LIST_UNREADABLE,
        "",
    ),
    (
        "too large",
        {"status": 200, "body": "[" + " " * (1 << 20) + "]"},
        ApproachReason.LIST_UNREADABLE,
        "larger than 1048576",
    ),
    ("dropped", {"close": True}, ApproachReason.LIST_FAILED, "the connection broke before the answer was complete"),
    (
        "a gateway gives up",
        {"status": 504, "body": "<html>Gateway Timeout</html>"},
        ApproachReason.LIST_FAILED,
        "HTTP 504",
    ),
]


@pytest.mark.parametrize(("fault", "why", "detail"), [w[1:] for w in WITHOUT], ids=[w[0] for w in WITHOUT])
def test_auto_continues_item_by_item_without_a_list(small_world, fault, why, detail):
    small_world.configure(strategy="auto", check="list_max_mb = 1")
    small_world.track(60)
    small_world.sandbox.add_fault(path=LIST, **fault)
    report = small_world.run()
    assert (report.status, report.approach.reason) == (RunStatus.COMPLETE, why)
    assert detail in report.approach.detail
    assert states(report) == {"completed": 60}
    assert causes(report) == []


def test_with_strategy_list_a_404_on_the_list_is_a_wrong_scope(world):
    world.configure(strategy="list")
    world.track(3)
    world.run()
    world.sandbox.add_fault(path=LIST, status=404, body={"detail": "Not Found"})
    reports = [world.run(), world.run()]
    assert [report.abort_reason for report in reports] == ["wrong_scope", "wrong_scope"]
    assert [causes(report) for report in reports] == [[], [Cause.WRONG_SCOPE]]
    assert states(reports[1]) == {"unknown": 3}


def test_a_long_retry_after_on_the_list_ends_the_run(small_world):
    small_world.track(60)
    small_world.sandbox.add_fault(path=LIST, status=429, headers={"Retry-After": "3600"}, body={"code": "slow_down"})
    report = small_world.run()
    assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "rate_limited")
    assert report.snapshot.requests == 1
    assert states(report) == {"unknown": 60}


def test_a_rejected_client_causes_no_item_request(small_world):
    small_world.track(60)
    small_world.sandbox.revoke_client()
    report = small_world.run()
    assert (report.abort_reason, report.snapshot.requests) == ("unauthorized", 0)


def test_a_total_outage_causes_only_a_few_requests(small_world):
    small_world.track(500)
    small_world.sandbox.add_fault(path="/engine", status=503)
    report = small_world.run()
    assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "outage")
    # two for the list, five items, and what the retry budget allows at least before the fifth has failed
    assert small_world.sandbox.requests("503") <= 2 + 5 + 3
    assert states(report) == {"unknown": 500}


def test_the_deadline_may_pass_while_a_comparison_for_the_next_run_is_made(small_world, monkeypatch):
    def remember(_self, _listing, *, should_stop):
        while not should_stop():
            time.sleep(0.05)

    monkeypatch.setattr(ListComparison, "remember", remember)
    small_world.configure(strategy="auto", check='deadline = "3s"')
    small_world.track(60)
    report = small_world.run()
    assert (report.status, states(report)) == (RunStatus.COMPLETE, {"completed": 60})


def test_a_signal_ends_the_wait_for_a_list(small_world):
    small_world.track(60)
    small_world.sandbox.add_fault(path=LIST, delay_s=200, passes=True)

    async def signalled():
        interrupt = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, interrupt.set)
        return await Run(small_world.job(), interrupt=interrupt, progress=NoProgress())()

    started_s = time.monotonic()
    report = asyncio.run(signalled())
    assert time.monotonic() - started_s < 100  # the fault lasts for two hundred
    assert (report.status, report.abort_reason) == (RunStatus.PARTIAL, "interrupted")
    assert states(report) == {"unknown": 60}


@pytest.mark.parametrize("how", [{"delay_s": 30, "passes": True}, {"status": 200, "body": "[" * 99, "drip": 1}])
def test_a_list_that_is_incomplete_at_the_deadline_cuts_the_run_short(small_world, how):
    small_world.configure(strategy="list", check='deadline = "1s"')
    small_world.track(60)
    small_world.sandbox.add_fault(path=LIST, **how)
    report = small_world.run()
    assert (report.status, report.abort_reason) == (RunStatus.PARTIAL, "deadline")
    assert states(report) == {"unknown": 60}


class Interrupting(NoProgress):
    """Sends the signal after this many finished items."""

    def __init__(self, interrupt, items):
        self._interrupt, self._left = interrupt, items

    def advance(self):
        self._left -= 1
        if not self._left:
            self._interrupt.set()


def test_after_a_signal_items_that_were_not_asked_about_are_unknown(small_world):
    small_world.track(100)
    small_world.sandbox.add_fault(path=LIST, status=200, body=[])

    async def signalled():
        interrupt = asyncio.Event()
        return await Run(small_world.job(), interrupt=interrupt, progress=Interrupting(interrupt, 20))()

    report = asyncio.run(signalled())
    assert (report.status, report.abort_reason) == (RunStatus.PARTIAL, "interrupted")
    assert states(report) == {"completed": 20, "unknown": 80}


def test_in_a_cut_run_unconfirmed_items_are_unknown(small_world):
    ids = small_world.track(100)
    small_world.run()
    for item_id in ids[:10]:
        small_world.sandbox.set_status(item_id, "QUEUED")
    small_world.sandbox.add_fault(path="/engine/v2/items", status=401, body={"detail": "expired"})
    report = small_world.run()
    assert (report.status, report.abort_reason) == (RunStatus.ABORTED, "unauthorized")
    assert states(report) == {"completed": 90, "unknown": 10}


def test_an_outdated_list_does_not_resolve_an_item_incident(world):
    ids = world.track(60)
    world.sandbox.set_status(ids[0], "FAILED")
    world.run()
    world.sandbox.add_fault(path=LIST, status=200, body=listed(*ids))
    report = world.run()
    assert (states(report), causes(report)) == ({"completed": 59, "failed": 1}, [Cause.ITEMS_FAILED])
    assert report.snapshot.requests == 2
    world.sandbox.set_status(ids[0], "COMPLETED")
    assert causes(world.run()) == []
