"""`slo`, and the objectives in a report: what people and programs read, and with which exit code."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from monitor.reports.slos import slos_json

SLOS = (
    '[[slos]]\nname = "in 15 minutes"\nobjective = 0.95\nwithin = "15m"\n\n'
    '[[slos]]\nname = "in a day"\ntarget = "gloo*"\nobjective = 0.99\nwithin = "1d"\nwindow = "30d"\n'
)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def promised(small_world):
    """Forty uploads; twelve of them were indexed too late, and eight are not yet."""
    world = small_world
    world.configure(more=SLOS)
    world.clock.now = datetime.now(UTC) - 60 * MINUTE
    world.run()
    uploaded = world.clock.now - MINUTE / 2
    world.track(20, uploaded_at=uploaded)
    slow = world.track(20, status="CHUNKING", uploaded_at=uploaded)
    world.run()
    for pause, done in ((10 * MINUTE, ()), (10 * MINUTE, slow[:12]), (10 * MINUTE, ())):
        world.clock.now += pause
        for item_id in done:
            world.sandbox.set_status(item_id, "COMPLETED")
        world.run()
    return world


def test_the_figures_of_each_objective(here, promised):
    done = here(promised, "slo")
    assert done.returncode == 0
    first, second = done.stdout.split("\n\n")
    assert first.startswith("gloo: in 15 minutes: burning too fast (critical), budget spent\n")
    for part in (
        "objective      95% of uploads within 15m, over 28d",
        "in time        50% of 40 uploads",
        "error budget   spent: 20 uploads late, 2 allowed",
        "budget spent   already",
        "burn rate      5m -, 30m 10×, 1h 10×, 6h 10×, 3d 10×",
        "alert          10× over 6h, 10× over 30m; threshold 6×",
        "incident       1: ingestion-monitor incidents show 1",
    ):
        assert part in first
    assert "gloo: in a day: no data yet" in second
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_same_as_json(here, promised):
    value = json.loads(here(promised, "slo", "--json", "--target", "gloo").stdout)
    assert (value["total"], value["shown"]) == (2, 2)
    first, second = value["slos"]
    assert {name: first[name] for name in ("name", "objective", "within_s", "window_s", "total", "good", "ratio")} == {
        "name": "in 15 minutes", "objective": 0.95, "within_s": 900.0, "window_s": 28 * 86400.0, "total": 40,
        "good": 20, "ratio": 0.5,
    }  # fmt: skip
    assert (first["error_budget_remaining"], first["error_budget_remaining_uploads"]) == (-9.0, -18.0)
    assert (first["state"], first["severity"], first["incident"], first["target"]) == ("firing", "critical", 1, "gloo")
    assert [each["firing"] for each in first["alerts"]] == [False, True, True]
    assert [each["rate"] for each in first["burn_rates"]] == [None, 10, 10, 10, 10]
    assert (second["total"], second["ratio"], second["error_budget_spent_at"]) == (0, None, None)
    assert set(first) == set(second)


def test_the_report_has_them_too(here, promised):
    text = " ".join(here(promised, "report", "--peek").stdout.split())
    assert "Objective in 15 minutes: burning too fast (critical), budget spent: 95% of uploads within 15m" in text
    assert "50% of 40 uploads in time; error budget spent: 20 uploads late, 2 allowed; spent already." in text
    (target,) = json.loads(here(promised, "report", "--peek", "--json").stdout)["targets"]
    assert target["slos"] == json.loads(here(promised, "slo", "--json").stdout)["slos"]


def test_the_incident_says_what_burns(here, promised):
    shown = here(promised, "incidents", "show", "1").stdout
    assert "slo_burn" in shown
    assert "95% of uploads within 15m, over 28d" in " ".join(shown.split())
    value = json.loads(here(promised, "incidents", "show", "1", "--json").stdout)
    assert value["facts"]["in time"] == "50% of 40 uploads"
    explained = here(promised, "incidents", "explain", "1").stdout
    assert "opens while the error budget burns too fast" in " ".join(explained.split())
    assert "burn rate 10× over 6h" in " ".join(explained.split())


def test_a_dry_run_starts_from_the_uploads_that_were_counted(here, promised):
    promised.clock.advance(minutes=1)
    (target,) = json.loads(here(promised, "check", "--dry-run", "--json").stdout)["targets"]
    assert [(each["cause"], each["action"]) for each in target["incident_changes"] if each["cause"] == "slo_burn"] == []
    assert "slo_burn" in [each["cause"] for each in target["evidence"]]


def test_before_the_first_run_the_promise_is_shown_and_nothing_else_is_known(here, small_world):
    small_world.configure(more=SLOS)
    done = here(small_world, "slo")
    assert (done.returncode, "not known before the first complete run" in done.stdout) == (0, True)
    (first, _) = json.loads(here(small_world, "slo", "--json").stdout)["slos"]
    assert (first["as_of"], first["total"], first["alerts"]) == (None, None, [])


ELSEWHERE = '[[slos]]\nname = "in 15 minutes"\ntarget = "other"\nobjective = 0.95\nwithin = "15m"\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [("", "No objective is configured: [[slos]]"), (ELSEWHERE, "No objective is about this target")],
    ids=["none at all", "none of this target"],
)
def test_without_objectives_it_says_where_to_write_them(here, small_world, more, said):
    small_world.configure(more=more)
    done = here(small_world, "slo")
    assert (done.returncode, said in done.stdout) == (0, True)
    assert json.loads(here(small_world, "slo", "--json").stdout) == slos_json([])


def test_an_unknown_target_is_a_usage_error(here, small_world):
    done = here(small_world, "slo", "--target", "glo")
    assert (done.returncode, "there is no target 'glo'; choose from gloo" in done.stderr) == (2, True)
