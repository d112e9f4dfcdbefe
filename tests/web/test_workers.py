"""What the page, the API, /metrics and /readyz show of workers: the same figures, and nothing without workers."""

import re
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_metrics
from support.fleets import fill
from support.observed import until
from web.conftest import page_of
from web.served import Served, ask, config

from monitor.database.engine import writing
from monitor.fleet import queue_schema
from monitor.model import RunStatus
from monitor.runs import totals
from monitor.runs.report import RunReport
from monitor.web.metric_definitions import PREFIX


@pytest.fixture
def queue_url(new_postgres):
    url = new_postgres(migrated=True)
    queue_schema.upgrade(url)
    return url


@pytest.fixture
def fleet(tmp_path, queue_url):
    """Endpoints over a database in which workers share a run."""
    fill(queue_url, target="gloo")
    with Served(config(tmp_path, database=queue_url, more="[fleet]\nworkers = true\n")) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        yield served


def metrics_of(served):
    return {
        (sample.name.removeprefix(PREFIX), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in read_metrics(ask(served.address, "/metrics").body.decode())
        for sample in family.samples
    }


def test_page_api_and_metrics_show_the_same_figures(fleet):
    shown = page_of(fleet, "/workers")
    assert "a:7 busy" in shown.text
    assert "share 2 of run 1 of gloo" in shown.text
    assert "2 waiting, 1 running, 1 done" in shown.text
    assert "/workers" in shown.links(), "it is in the navigation"
    said = ask(fleet.address, "/api/v1/fleet").json
    (run,) = said["runs"]
    assert run["shares"] == {"waiting": 2, "running": 1, "done": 1}
    assert (run["items"], run["items_done"]) == (400, 150)
    assert [each["alive"] for each in said["workers"]] == [True, True]
    metrics = metrics_of(fleet)
    assert metrics["fleet_workers",] == 2
    assert {key[1]: metrics[key] for key in metrics if key[0] == "fleet_shares"} == {
        "waiting": 2,
        "running": 1,
        "done": 1,
    }
    assert metrics["fleet_queue_jobs", "waiting", "share"] == said["queue"]["waiting"]["share"] == 2
    assert ask(fleet.address, "/readyz").json["reasons"] == []


def test_metrics_count_the_runs_of_workers(fleet, queue_url, connected):
    report = RunReport(target="gloo", run_id=1, status=RunStatus.COMPLETE, duration_s=2.0, attempts={"2xx": 300})
    with writing(connected(queue_url)) as conn:
        totals.add(conn, report)
    until(lambda: metrics_of(fleet)["runs_total", "complete", "gloo"], "the run")
    shown = metrics_of(fleet)
    assert shown["requests_total", "2xx", "gloo"] == 300
    assert shown["run_duration_seconds_sum", "gloo"] == 2.0


def test_the_daemon_is_not_ready_while_jobs_wait_and_no_worker_is_alive(tmp_path, queue_url):
    fill(queue_url, target="gloo", worker_seen=timedelta(minutes=1))
    with Served(config(tmp_path, database=queue_url, more="[fleet]\nworkers = true\n")) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        answer = ask(served.address, "/readyz")
    (reason,) = answer.json["reasons"]
    assert (answer.status, reason["part"]) == (503, "workers")
    assert reason["reason"] == "no worker is alive, and 2 jobs wait"


def test_the_overview_says_that_no_worker_is_alive_in_the_words_of_readyz(tmp_path, queue_url):
    fill(queue_url, target="gloo", worker_seen=timedelta(minutes=1))
    with Served(config(tmp_path, database=queue_url, more="[fleet]\nworkers = true\n")) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        shown, workers = page_of(served, "/"), page_of(served, "/workers")
        (reason,) = ask(served.address, "/readyz").json["reasons"]
    said = "No worker is alive, and 2 jobs wait: start ingestion-monitor worker, or look in its log why it ended."
    assert said in shown.text
    assert said in workers.text
    assert re.search(r"2 shares of run 1 of gloo 1 min( \d+ s)? no worker is alive", workers.text)
    sentence = f"{reason['reason']}: {reason['remedy']}".replace("`", "")
    assert sentence == f"{said[0].lower()}{said[1:-1]}"


def test_the_overview_says_nothing_of_workers_that_do_their_work(fleet):
    shown = page_of(fleet, "/")
    assert "worker is alive" not in shown.text
    assert "why jobs wait" not in shown.text


def test_without_workers_there_is_no_page_of_them(page):
    served = page()
    answer = ask(served.address, "/workers", headers={"Accept": "text/html"})
    assert answer.status == 404
    assert "[fleet] workers = true" in answer.body.decode()
    assert "/workers" not in page_of(served, "/").links()
    assert ask(served.address, "/api/v1/fleet").status == 404
    assert "fleet_workers{" not in ask(served.address, "/metrics").body.decode()
