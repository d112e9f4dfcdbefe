"""deploy/grafana: the dashboard is what its script writes, and a real Prometheus answers its queries."""

import http.server
import itertools
import json
import re
import subprocess
import threading
from dataclasses import replace

import grafana_dashboard
import pytest
from manifests import DEPLOY
from support.debian import program
from web.metrics_sample import PROBE, daemon_with_every_metric, totals_of

from deploy.prometheus import scraping
from monitor.web.database_probe import ProbeResult
from monitor.web.metric_definitions import METRIC_DEFINITIONS, PREFIX
from monitor.web.metrics import OPENMETRICS, render

BOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text(encoding="utf-8"))
QUERIES = grafana_dashboard.queries()
METRIC = re.compile(rf"\b{PREFIX}\w+")
BY_NAME = {
    f"{definition.full_name}{suffix}": definition
    for definition in METRIC_DEFINITIONS
    for suffix in ("", "_bucket", "_sum", "_count")
}


def filled(query):
    """A query as Grafana sends it: its variables are replaced."""
    return query.replace("$target", ".*").replace("$__rate_interval", "1m")


def test_the_dashboard_is_what_its_script_writes():
    assert (DEPLOY / "grafana/dashboard.json").read_text(encoding="utf-8") == grafana_dashboard.text(), (
        "run `python scripts/grafana_dashboard.py deploy/grafana/dashboard.json`"
    )


def test_every_panel_says_what_it_shows_and_none_covers_another():
    cells = set()
    for panel in BOARD["panels"]:
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
        at = panel["gridPos"]
        mine = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not mine & cells, panel["title"]
        assert all(x < 24 for x, _ in mine)
        cells |= mine


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_uses_metrics_and_labels_that_exist(query):
    used = METRIC.findall(query)
    assert used
    assert set(used) <= set(BY_NAME)
    labels = {"le", "job", "instance", *(label for name in used for label in BY_NAME[name].labels)}
    grouped = {label for group in re.findall(r"by \(([\w, ]+)\)", query) for label in group.split(", ")}
    selected = set(re.findall(r"[{,]\s*(\w+)=~?\"", query))
    assert grouped | selected <= labels


def test_every_metric_with_a_label_that_changes_with_the_work_is_shown():
    shown = {BY_NAME[name].full_name for query in QUERIES for name in METRIC.findall(query)}
    left_out = {definition.full_name.removeprefix(PREFIX) for definition in METRIC_DEFINITIONS} - {
        name.removeprefix(PREFIX) for name in shown
    }
    assert left_out == {
        "build_info", "canary_last_success_timestamp_seconds", "canary_last_timestamp_seconds", "canary_leftovers",
        "canary_success", "config_last_reload_success_timestamp_seconds", "config_last_reload_successful",
        "last_run_timestamp_seconds", "log_lines_lost_total", "schedule_interval_seconds",
        "scheduler_heartbeat_timestamp_seconds", "slo_good_uploads", "slo_objective_ratio", "slo_uploads",
        "slo_window_seconds", "time_to_indexed_unknown_total", "wait_duration_seconds",
    }  # fmt: skip


@pytest.mark.process
def test_prometheus_answers_every_query(tmp_path):
    tracker, runs = daemon_with_every_metric(tmp_path), itertools.count(1)

    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            stored = replace(PROBE.stored, totals={"gloo": totals_of(next(runs))})
            body = render(tracker.snapshot(), ProbeResult(stored=stored), OPENMETRICS)
            self.send_response(200)
            self.send_header("Content-Type", OPENMETRICS)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            with scraping(f"127.0.0.1:{server.server_address[1]}", tmp_path) as prometheus:
                prometheus.await_result(f"rate({PREFIX}runs_total[1m]) > 0")
                # after a scrape that was late there is no result for a moment
                answers = {query: prometheus.await_result(filled(query)) for query in QUERIES}
        finally:
            server.shutdown()
    assert all(answers.values())


@pytest.mark.process
def test_promtool_accepts_the_alert_rules():
    promtool = program("promtool", package="prometheus", elsewhere="brew install prometheus")
    rules = DEPLOY / "prometheus/rules.yaml"
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
