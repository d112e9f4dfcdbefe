"""What the page, the API, /metrics and /readyz show of workers: the same figures, and nothing without workers."""

from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_metrics
from support.fleets import fill
from support.observed import until
from web.conftest import page_of
from web.served import Served, ask, config

from monitor.fleet import queue_schema
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
    text = ask(fleet.address, "/metrics").body.decode()
    metrics = {
        (sample.name.removeprefix(PREFIX), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in read_metrics(text)
        for sample in family.samples
    }
    assert metrics["fleet_workers",] == 2
    assert {key[1]: metrics[key] for key in metrics if key[0] == "fleet_shares"} == {
        "waiting": 2,
        "running": 1,
        "done": 1,
    }
    assert metrics["fleet_queue_jobs", "waiting", "share"] == said["queue"]["waiting"]["share"] == 2
    assert ask(fleet.address, "/readyz").json["reasons"] == []


def test_the_daemon_is_not_ready_while_jobs_wait_and_no_worker_is_alive(tmp_path, queue_url):
    fill(queue_url, target="gloo", worker_seen=timedelta(minutes=1))
    with Served(config(tmp_path, database=queue_url, more="[fleet]\nworkers = true\n")) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        answer = ask(served.address, "/readyz")
    (reason,) = answer.json["reasons"]
    assert (answer.status, reason["part"]) == (503, "workers")
    assert reason["reason"] == "no worker has been seen for 30s, and 2 jobs wait"


def test_without_workers_there_is_no_page_of_them(page):
    served = page()
    answer = ask(served.address, "/workers", headers={"Accept": "text/html"})
    assert answer.status == 404
    assert "[fleet] workers = true" in answer.body.decode()
    assert "/workers" not in page_of(served, "/").links()
    assert ask(served.address, "/api/v1/fleet").status == 404
    assert "fleet_workers{" not in ask(served.address, "/metrics").body.decode()
