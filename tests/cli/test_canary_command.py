"""`canary`, and where canaries are shown: `report`, `doctor`, `providers`, `db prune`."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitor.cli import main
from monitor.database.engine import writing
from monitor.database.tables import canaries
from monitor.runs.canary import store
from monitor.runs.canary.model import CanaryReport, CanaryStatus, CleanUp, Document, Step, StepFailure

CANARY = '[targets.canary]\nevery = "1h"\n'
UPLOAD, SNIPPETS, DELETE = "/ingestion/v2/files", "/engine/v1/files", "/engine/v2/items"


@pytest.fixture
def site(small_world):
    small_world.configure(check="max_attempts = 1", more=CANARY)
    state = small_world.sandbox._state
    state.engine.settings = replace(small_world.sandbox.settings, item_seconds=0.0)
    return small_world


def test_it_says_that_each_step_worked(site, here):
    done = here(site, "canary", "gloo")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Canary: gloo works")
    for step in ("upload", "index", "retrieve", "clean up"):
        assert f"  {step:<10}ok in 0." in done.stdout
    assert "was deleted" in done.stdout
    assert site.sandbox.stats()["items"] == 0


def test_json_has_every_step_and_nothing_else_is_on_stdout(site, here):
    shown = json.loads(here(site, "canary", "gloo", "--json").stdout)
    assert (shown["target"], shown["status"], shown["failed_step"]) == ("gloo", "succeeded", None)
    assert list(shown["steps"]) == ["upload", "index", "retrieve", "clean_up"]
    assert all(seconds is not None for seconds in shown["steps"].values())
    assert shown["item_id"]


SAID = {
    "upload": ({"path": UPLOAD, "status": 402}, "failed (http_402): the API answered 402 to /ingestion/v2/files", 0),
    "key": ({"path": "/oauth2", "status": 401}, "failed (http_401): the API answered 401 to the token request", 0),
    "delete": ({"path": DELETE, "method": "DELETE", "status": 403}, "clean up  failed (http_403)", 1),
}


@pytest.mark.parametrize(("fault", "said", "left"), SAID.values(), ids=SAID)
def test_a_failed_step_is_told_with_what_to_check(site, here, fault, said, left):
    site.sandbox.add_fault(**fault)
    done = here(site, "canary", "gloo", "--log-level", "error")
    assert done.returncode == 1
    assert said in done.stdout
    assert "  check     " in done.stdout
    assert site.sandbox.stats()["items"] == left


def test_the_timeout_is_an_option(site, here):
    site.sandbox.add_fault(path="/engine/v2/items/", method="GET", status=404)
    done = here(site, "canary", "gloo", "--timeout", "1s")
    assert done.returncode == 1
    assert "failed (timeout): it was not indexed within 1s; the API did not find it" in done.stdout


WRONG = {
    "no such target": (["canary", "glou"], "there is no target 'glou'; choose from gloo"),
    "no duration": (["canary", "gloo", "--timeout", "soon"], "--timeout: 'soon' is no duration from 1s to 2d"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_sentence(site, here, words, said):
    done = here(site, *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_second_one_at_a_time_is_skipped(site, here):
    from monitor.database import leases

    with writing(site.app.engine) as conn:
        now, lease = datetime.now(UTC), store.lease_of("gloo")
        leases.acquire(conn, target=lease, holder="elsewhere:7", now=now, ttl=timedelta(minutes=1))
    done = here(site, "canary", "gloo")
    assert (done.returncode, "elsewhere:7" in done.stdout) == (5, True)
    assert here(site, "canary", "gloo", "--skip-ok").returncode == 0
    assert json.loads(here(site, "canary", "gloo", "--json").stdout)["status"] == "skipped"


def test_doctor_says_what_the_canary_will_do_without_doing_it(site, here):
    findings = json.loads(here(site, "doctor", "--json").stdout)["findings"]
    (found,) = [each for each in findings if each["part"] == "canary"]
    assert (found["level"], found["about"]) == ("not_tried", "target gloo")
    assert "every 1h" in found["message"]
    assert site.sandbox.requests(UPLOAD) == 0


NO_FIND = """
[[targets]]
name = "docs"
provider = "generic"
base_url = "http://127.0.0.1:9"
statuses = { completed = ["ready"] }
item = { path = "/documents/{item_id}" }
upload = [{ path = "/documents", body = { text = "{text}" }, keep = { item_id = "id" } }]
retrieve = [{ path = "/search", snippets = "text" }]
delete = [{ path = "/documents/{item_id}" }]
canary = {}
"""
NO_CANARY = NO_FIND[: NO_FIND.index("upload")] + 'canary = { every = "1h" }\n'


def test_doctor_warns_of_an_api_that_cant_find_documents_by_name(site, here):
    site.configure(more=NO_FIND)
    findings = json.loads(here(site, "doctor", "--json").stdout)["findings"]
    levels = {each["level"]: each for each in findings if each["part"] == "canary"}
    assert set(levels) == {"not_tried", "warning"}
    assert "may leave one" in levels["warning"]["message"]
    assert levels["warning"]["setting"] == "targets.docs.canary"


def test_doctor_refuses_a_canary_that_the_provider_cant_have(site, here):
    site.configure(more=NO_CANARY)
    done = here(site, "doctor", "--json")
    (found,) = [each for each in json.loads(done.stdout)["findings"] if each["part"] == "canary"]
    assert (done.returncode, found["level"]) == (2, "problem")


def test_providers_say_which_has_a_canary(capsys):
    assert main(["providers", "show", "openai", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["canary"] is True
    assert main(["providers", "show", "ragie", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["canary"] is False
    assert any("no canary" in each for each in shown["cannot"])


# --- over time --------------------------------------------------------------------------------------------------------


def fill(world, *said, every=timedelta(hours=1), until=None):
    """Canaries that ended at this interval, oldest first: seconds of indexing, or a failure."""
    until = until or datetime.now(UTC) - timedelta(minutes=1)
    with writing(world.app.engine) as conn:
        for number, each in enumerate(said):
            at = until - every * (len(said) - 1 - number)
            document = Document(name=f"n{at.timestamp()}", marker="m", item_id=f"i{number}")
            canary_id = store.start(
                conn,
                target="gloo",
                environment="test",
                run_key=None,
                epoch=1,
                document=document,
                slow_after_s=900,
                started_at=at,
            )
            failure = each if isinstance(each, StepFailure) else None
            store.finish(
                conn,
                CanaryReport(
                    id=canary_id,
                    target="gloo",
                    document=document,
                    status=CanaryStatus.FAILED if failure else CanaryStatus.SUCCEEDED,
                    slow=not failure and each > 900,
                    slow_after=timedelta(seconds=900),
                    failure=failure,
                    durations_s={} if failure else {Step.INDEX: each},
                    clean_up=CleanUp.PENDING if failure else CleanUp.DONE,
                    started_at=at,
                    finished_at=at,
                ),
            )


LOST = StepFailure(step=Step.RETRIEVE, code="not_retrieved", reason="its marker did not come back")


def test_a_report_sums_up_the_canaries_of_its_period(site, here):
    fill(site, 7.0, until=datetime.now(UTC) - timedelta(days=30))
    fill(site, 10.0, 20.0, LOST, 1000.0)
    site.track(1)
    site.clock.now = datetime.now(UTC)
    site.run()
    text = here(site, "report", "--since", "7d").stdout
    assert "Canaries: 4, 3 worked, 1 failed at retrieve, 1 slow" in " ".join(text.split())
    assert "indexed: p50 20.0 s, p95 16m 40s" in " ".join(text.split())
    assert "Last failure: retrieve (not_retrieved): its marker did not come back" in " ".join(text.split())
    (target,) = json.loads(here(site, "report", "--since", "7d", "--format", "json").stdout)["targets"]
    shown = target["canaries"]
    assert (shown["total"], shown["succeeded"], shown["slow"], shown["failed_steps"]) == (4, 3, 1, {"retrieve": 1})
    assert (shown["index_p50_s"], shown["index_p95_s"], shown["last"]["leftovers"]) == (20.0, 1000.0, 1)


def test_a_report_without_canaries_has_no_line_about_them(site, here):
    assert "anar" not in here(site, "report").stdout
    (target,) = json.loads(here(site, "report", "--format", "json").stdout)["targets"]
    assert target["canaries"] is None


def test_old_ones_are_pruned_except_the_newest_of_a_kind_and_those_that_left_something(world):
    from monitor.database.retention import Pruner
    from monitor.database.retention_policy import Ages, Prunable

    site = world
    now = datetime.now(UTC)
    for hours in (25, 1):
        site.clock.now = now - timedelta(hours=hours)
        site.run()
    fill(site, 1.0, LOST, LOST, 2.0, 3.0, until=now - timedelta(days=100))
    fill(site, 4.0, until=now - timedelta(days=1))
    pruner = Pruner(
        site.app.engine, Ages(canaries=timedelta(days=31)), holder="me", utcnow=lambda: now, sleep=_no_sleep
    )
    assert pruner.dry_run().rows == {Prunable.CANARIES: 3}
    assert pruner().rows == {Prunable.CANARIES: 3}
    with site.app.engine.connect() as conn:
        kept = conn.execute(canaries.select().order_by(canaries.c.id)).all()
    assert [row.status for row in kept] == ["failed", "failed", "succeeded"]


def _no_sleep(_):
    """Prunes without pauses."""
