"""A canary against the sandbox: each step, made to fail; what is left, and who removes it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from support.thinned import ends_only

from monitor.app.canaries import build_canary_job
from monitor.database.engine import writing
from monitor.errors import LeaseHeldError, LeaseLostError, RunAlreadyExecutedError, RunCrashedError
from monitor.model import Cause
from monitor.runs.canary import canary as canary_module
from monitor.runs.canary import store
from monitor.runs.canary.canary import Canary
from monitor.runs.canary.model import CanaryStatus, CleanUp, Document, Step

UPLOAD, ITEM, SNIPPETS, DELETE = "/ingestion/v2/files", "/engine/v2/items/", "/engine/v1/files", "/engine/v2/items"
BUDGETS = {Step.UPLOAD: 5.0, Step.RETRIEVE: 0.3, Step.CLEAN_UP: 0.5}
CANARY = '[targets.canary]\nevery = "1h"\n'


class Site:
    """A world with canaries, whose items are indexed at once."""

    def __init__(self, world):
        self.world, self.sandbox = world, world.sandbox
        world.configure(check="max_attempts = 1", more=CANARY)
        self.index_at_once()

    def index_at_once(self):
        self.sandbox._state.engine.settings = replace(self.sandbox.settings, item_seconds=0.0)

    def job(self, **changes):
        job = build_canary_job(self.world.app, self.world.app.config.targets[0])
        by_clock = {"utcnow": self.world.clock, "lease_now": lambda _conn: self.world.clock()}
        return replace(job, **{**by_clock, "step_s": BUDGETS, "timeout": timedelta(seconds=0.5), **changes})

    def canary(self, *, run_key=None, interrupt=None, on_step=lambda _: None, **changes):
        """One canary at the clock's time; then the clock moves by an hour."""

        async def once():
            events = interrupt or asyncio.Event()
            return await Canary(self.job(**changes), interrupt=events, run_key=run_key, on_step=on_step)()

        try:
            return asyncio.run(once())
        finally:
            self.world.clock.advance(hours=1)

    def rows(self, columns="*"):
        return self.world.rows(f"SELECT {columns} FROM canaries ORDER BY id")

    def left(self):
        """How many documents the engine has."""
        return self.sandbox.stats()["items"]


@pytest.fixture
def site(world):
    return Site(world)


@pytest.fixture
def small_site(small_world):
    return Site(small_world)


def test_it_uploads_waits_retrieves_and_cleans_up(site):
    report = site.canary()
    assert (report.status, report.failure, report.clean_up) == (CanaryStatus.SUCCEEDED, None, CleanUp.DONE)
    assert set(report.durations_s) == set(Step)
    (row,) = site.rows()
    assert row["item_id"] == report.document.item_id
    assert row["finished_at"] is not None
    assert row["cleaned_at"] is not None
    assert [row[f"{step.value}_s"] is not None for step in Step] == [True] * 4
    assert site.left() == 0
    assert site.sandbox.requests(f"POST {UPLOAD} 200") == 1


FAULTS = {
    "the upload fails": ({"path": UPLOAD, "status": 503}, Step.UPLOAD, "http_503", Cause.OUTAGE, CleanUp.PENDING),
    "the upload is forbidden": (
        {"path": UPLOAD, "status": 403, "body": {"error": "no", "code": "forbidden"}},
        Step.UPLOAD,
        "forbidden",
        Cause.FORBIDDEN,
        CleanUp.NOTHING_LEFT,
    ),
    "the upload is not answered": (
        {"path": UPLOAD, "close": True},
        Step.UPLOAD,
        "reset",
        Cause.OUTAGE,
        CleanUp.PENDING,
    ),
    "the upload gives no id": (
        {"path": UPLOAD, "status": 200, "body": {"success": True}},
        Step.UPLOAD,
        "bad_answer",
        None,
        CleanUp.PENDING,
    ),
    "the upload is answered by a page": (
        {"path": UPLOAD, "status": 200, "body": "<html>"},
        Step.UPLOAD,
        "bad_answer",
        None,
        CleanUp.PENDING,
    ),
    "the item is never indexed": (
        {"path": ITEM, "method": "GET", "status": 404},
        Step.INDEX,
        "timeout",
        None,
        CleanUp.DONE,
    ),
    "the item's body can't be read": (
        {"path": ITEM, "method": "GET", "status": 200, "body": {"item_id": "another", "status": "CHUNKING"}},
        Step.INDEX,
        "timeout",
        Cause.BAD_RESPONSE,
        CleanUp.PENDING,
    ),
    "the item can't be asked about": (
        {"path": ITEM, "method": "GET", "status": 500},
        Step.INDEX,
        "timeout",
        Cause.OUTAGE,
        CleanUp.PENDING,
    ),
    "asking is forbidden": (
        {"path": ITEM, "method": "GET", "status": 403, "body": {"error": "no", "code": "forbidden"}},
        Step.INDEX,
        "forbidden",
        Cause.FORBIDDEN,
        CleanUp.PENDING,
    ),
    "nothing comes back": (
        {"path": SNIPPETS, "status": 200, "body": {"data": []}},
        Step.RETRIEVE,
        "not_retrieved",
        None,
        CleanUp.DONE,
    ),
    "another text comes back": (
        {"path": SNIPPETS, "status": 200, "body": {"data": [{"snippet": "of someone else"}]}},
        Step.RETRIEVE,
        "not_retrieved",
        None,
        CleanUp.DONE,
    ),
    "the search fails": ({"path": SNIPPETS, "status": 500}, Step.RETRIEVE, "http_500", Cause.OUTAGE, CleanUp.DONE),
    "deleting fails": (
        {"path": DELETE, "method": "DELETE", "status": 500},
        Step.CLEAN_UP,
        "http_500",
        Cause.OUTAGE,
        CleanUp.PENDING,
    ),
}


@pytest.mark.parametrize(("fault", "step", "code", "cause", "clean_up"), ends_only(FAULTS.values(), ids=FAULTS))
def test_it_names_the_step_that_failed_and_the_next_one_leaves_nothing(small_site, fault, step, code, cause, clean_up):
    small_site.sandbox.add_fault(**fault)
    report = small_site.canary()
    assert report.status is CanaryStatus.FAILED
    assert (report.failure.step, report.failure.code, report.failure.cause) == (step, code, cause)
    assert report.clean_up is clean_up
    assert step not in report.durations_s
    (row,) = small_site.rows("failed_step, code, clean_up, status")
    assert row == {"failed_step": step, "code": code, "clean_up": clean_up, "status": "failed"}
    small_site.sandbox.clear_faults()
    after = small_site.canary()
    assert (after.status, after.leftovers) == (CanaryStatus.SUCCEEDED, 0)
    assert small_site.left() == 0


def test_a_document_that_fails_is_told_with_its_status(small_site):
    def fail_it(step):
        if step is Step.INDEX:
            (item_id,) = small_site.sandbox._state.engine.items
            small_site.sandbox.set_status(item_id, "FAILED")

    report = small_site.canary(on_step=fail_it)
    assert (report.failure.step, report.failure.code, report.stage) == (Step.INDEX, "failed", "FAILED")
    assert (report.clean_up, small_site.left()) == (CleanUp.DONE, 0)


def test_one_that_is_indexed_too_late_is_slow_but_works(small_site):
    def delay(step):
        if step is Step.INDEX:
            small_site.sandbox.add_fault(path=ITEM, method="GET", count=1, passes=True, delay_s=0.1)

    report = small_site.canary(on_step=delay, slow_after=timedelta(seconds=0.05))
    assert (report.status, report.slow) == (CanaryStatus.SUCCEEDED, True)
    assert small_site.rows("slow")[0]["slow"] == 1


# --- what is left -----------------------------------------------------------------------------------------------------


def leave(site, *, item_id=None, name="ingestion-monitor-canary-left", hours=1):
    """A canary whose process died while its document was in the engine, or before its id was known."""
    with writing(site.world.app.engine) as conn:
        store.start(
            conn, target="gloo", environment="test", run_key=None, epoch=0, slow_after_s=1.0,
            document=Document(name=name, marker="x"), started_at=site.world.clock() - timedelta(hours=hours),
        )  # fmt: skip
        if item_id:
            store.record_upload(conn, canary_id=1, document=Document(name=name, marker="x", item_id=item_id))


def upload(site, name, text=""):
    engine = site.sandbox._state.engine
    publisher = site.sandbox.settings.publisher_id
    files = [(f"{name}.txt", f"{name}{text}".encode())]
    _, answer = engine.upload(publisher, files, producer_id=name, now_s=site.sandbox._state.clock())
    return answer["ingesting"][0]


@pytest.mark.parametrize("known", [True, False], ids=["its id was stored", "only its name was stored"])
def test_the_next_canary_removes_what_a_killed_one_left(site, known):
    item_id = upload(site, "ingestion-monitor-canary-left")
    leave(site, item_id=item_id if known else None)
    report = site.canary()
    assert (report.status, report.leftovers_removed, report.leftovers) == (CanaryStatus.SUCCEEDED, 1, 0)
    assert site.left() == 0
    killed, _ = site.rows("status, clean_up")
    assert killed == {"status": "interrupted", "clean_up": "done"}


def test_one_that_was_found_by_its_name_is_no_item_either(small_site):
    """The pipeline recorded an upload whose answer the canary never got."""
    item_id = upload(small_site, "ingestion-monitor-canary-left")
    leave(small_site)
    small_site.canary()
    mine = small_site.world.track(2)
    small_site.world.record(item_id)
    assert small_site.world.run().snapshot.total == len(mine)


def test_a_killed_one_that_uploaded_twice_leaves_nothing(small_site):
    item_id = upload(small_site, "ingestion-monitor-canary-left")
    upload(small_site, "ingestion-monitor-canary-left", text="again")
    leave(small_site, item_id=item_id)
    small_site.canary()
    assert small_site.left() == 0


def test_one_that_never_uploaded_is_looked_for_until_it_can_appear_no_more(small_site):
    leave(small_site, hours=0)
    assert small_site.canary().leftovers == 1
    assert small_site.canary().leftovers == 0
    assert small_site.rows("clean_up")[0]["clean_up"] == "nothing_left"


def test_a_document_that_outlives_its_deletion_fails_the_next_canary(small_site):
    item_id = upload(small_site, "ingestion-monitor-canary-left")
    small_site.sandbox._state.engine.items[item_id].filename = "locked.txt"
    leave(small_site, item_id=item_id)
    report = small_site.canary()
    assert (report.failure.step, report.failure.code) == (Step.CLEAN_UP, "still_there")
    assert report.clean_up is CleanUp.DONE
    assert report.leftovers == 1


def test_a_second_document_of_a_repeated_upload_is_removed_too(small_site):
    """The first attempt was executed, although its answer was a 503."""
    small_site.world.configure(check="max_attempts = 3", more=CANARY)

    def twice(step):
        if step is Step.UPLOAD:
            (row,) = small_site.rows("name")
            upload(small_site, row["name"])
            small_site.sandbox.add_fault(path=UPLOAD, status=503, count=1, headers={"retry-after": "0"})

    report = small_site.canary(on_step=twice)
    assert report.status is CanaryStatus.SUCCEEDED
    assert small_site.left() == 0


def test_a_signal_ends_it_and_its_document_is_removed(small_site):
    interrupt = asyncio.Event()
    small_site.sandbox.add_fault(path=ITEM, method="GET", status=404, count=1)

    def stop(step):
        if step is Step.INDEX:
            interrupt.set()

    report = small_site.canary(interrupt=interrupt, on_step=stop)
    assert (report.status, report.failure) == (CanaryStatus.INTERRUPTED, None)
    assert (report.clean_up, small_site.left()) == (CleanUp.DONE, 0)


def test_an_error_that_nobody_foresaw_is_one_sentence_and_the_next_canary_cleans_up(small_site):
    def break_it(step):
        if step is Step.INDEX:
            raise ZeroDivisionError

    with pytest.raises(RunCrashedError, match=r"nobody foresaw \(ZeroDivisionError in runs"):
        small_site.canary(on_step=break_it)
    assert small_site.left() == 1
    assert small_site.canary().leftovers_removed == 1
    assert small_site.left() == 0


# --- one at a time ----------------------------------------------------------------------------------------------------


def test_two_at_a_time_are_one(site):
    held = []

    def second(step):
        if step is Step.INDEX and not held:
            try:
                Canary(site.job(), interrupt=asyncio.Event())._begin()
            except LeaseHeldError as error:
                held.append(error)

    assert site.canary(on_step=second).status is CanaryStatus.SUCCEEDED
    assert len(held) == 1
    assert len(site.rows()) == 1


def test_a_run_key_is_executed_once(site):
    site.canary(run_key="every 1h 12:00")
    with pytest.raises(RunAlreadyExecutedError):
        site.canary(run_key="every 1h 12:00")
    assert site.canary(run_key="every 1h 13:00").status is CanaryStatus.SUCCEEDED


def test_one_that_lost_its_lease_writes_and_uploads_nothing_more(site):
    def thaw(step):
        if step is Step.UPLOAD:
            site.world.clock.advance(minutes=5)
            Canary(site.job(), interrupt=asyncio.Event())._begin()

    with pytest.raises(LeaseLostError):
        site.canary(on_step=thaw)
    assert site.left() == 0
    assert [row["status"] for row in site.rows("status")] == ["interrupted", "running"]


def test_the_budgets_of_its_steps_are_those_of_the_page():
    """docs/canary.md names them."""
    assert (canary_module.UPLOAD_S, canary_module.RETRIEVE_S, canary_module.CLEAN_UP_S) == (120, 60, 60)


# --- never an item ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["items", "list"])
def test_its_document_is_no_item_even_if_the_pipeline_records_it(site, strategy):
    site.world.configure(strategy=strategy, more=CANARY)
    mine = site.world.track(3)
    seen = []

    def record(step):
        if step is Step.RETRIEVE:
            (row,) = site.rows("item_id")
            site.world.record(row["item_id"])
            seen.append(row["item_id"])

    assert site.canary(on_step=record).status is CanaryStatus.SUCCEEDED
    snapshot = site.world.run().snapshot
    assert (snapshot.total, snapshot.completed) == (len(mine), len(mine))
    assert site.world.rows(f"SELECT item_id FROM items WHERE item_id = '{seen[0]}'") == []


def test_an_item_that_turns_out_to_be_a_canarys_is_an_item_no_more(site):
    """The pipeline's record was read before the canary could store the id."""
    mine = site.world.track(2)
    item_id = upload(site, "ingestion-monitor-canary-left")
    site.world.record(item_id)
    assert site.world.run().snapshot.total == len(mine) + 1
    leave(site, item_id=item_id)
    assert site.world.run().snapshot.total == len(mine)


# --- incidents --------------------------------------------------------------------------------------------------------


def open_incidents(site):
    return [row["cause"] for row in site.world.rows("SELECT cause FROM incidents WHERE resolved_at IS NULL")]


def test_two_failures_in_a_row_open_an_incident_and_one_success_resolves_it(site):
    site.world.track(1)
    site.sandbox.add_fault(path=SNIPPETS, status=200, body={"data": []})
    site.canary()
    site.world.run()
    assert open_incidents(site) == []
    report = site.canary()
    site.world.run()
    assert open_incidents(site) == ["canary_failed"]
    (evidence,) = site.world.rows(
        "SELECT e.code, e.breakdown, e.count FROM evidence e JOIN incidents i ON i.evidence_id = e.id"
    )
    assert (evidence["code"], evidence["count"]) == ("not_retrieved", 2)
    assert "at retrieve" in str(evidence["breakdown"])
    assert report.failure.step is Step.RETRIEVE
    site.sandbox.clear_faults()
    site.canary()
    site.world.run()
    assert open_incidents(site) == []


def test_slow_ones_open_an_incident_of_their_own(site):
    site.world.track(1)
    site.sandbox.add_fault(path="/engine/v2/items", passes=True, delay_s=0.005)  # durations are rounded to milliseconds
    for _ in range(2):
        site.canary(slow_after=timedelta(0))
    site.world.run()
    assert open_incidents(site) == ["canary_slow"]


def test_one_that_was_killed_says_nothing(small_site):
    small_site.world.track(1)
    small_site.sandbox.add_fault(path=UPLOAD, status=403)
    small_site.canary()
    leave(small_site)
    small_site.canary()
    small_site.world.run()
    assert open_incidents(small_site) == ["canary_failed"]
