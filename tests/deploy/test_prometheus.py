"""deploy/prometheus: valid alert rules about existing metrics, each with its section in the documentation."""

import re

import pytest
import yaml
from manifests import DEPLOY, ROOT

from monitor.web.metric_definitions import METRIC_DEFINITIONS, PREFIX, MetricDefinition, MetricKind

RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
RUNBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (IngestionMonitor\w+)\n\n(.*?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
NONE = MetricDefinition(name="none", kind=MetricKind.GAUGE, description="")
METRIC = re.compile(r"\b(?:ingestion_monitor|process|kube)_\w+")


def test_the_rules_have_the_format_of_prometheus():
    assert set(RULES) == {"groups"}
    assert all(set(group) == {"name", "rules"} for group in RULES["groups"])
    assert len(ALERTS) == sum(len(group["rules"]) for group in RULES["groups"]), "an alert is there twice"
    for rule in ALERTS.values():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert all(text.endswith((".", f"#{rule['alert'].lower()}")) for text in rule["annotations"].values())


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_links_to_its_section(name):
    assert ALERTS[name]["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
    section = SECTIONS[name]
    assert len(section.split()) >= 20
    assert "`" in section, "it names a command or an event to look for"


def test_every_section_belongs_to_an_alert():
    assert sorted(SECTIONS) == sorted(ALERTS)


def metrics():
    """Each metric that an alert uses."""
    return sorted({name for rule in ALERTS.values() for name in METRIC.findall(rule["expr"])})


def test_every_metric_of_an_alert_exists():
    ours = {name for name in metrics() if name.startswith(PREFIX)}
    assert ours - {family.full_name for family in METRIC_DEFINITIONS} == set()
    assert "process_open_fds" in metrics(), "prometheus-client's own"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_uses_only_labels_of_its_metrics(name):
    rule = ALERTS[name]
    families = {family.full_name: family for family in METRIC_DEFINITIONS}
    labels = {label for metric in METRIC.findall(rule["expr"]) for label in families.get(metric, NONE).labels}
    used = {label for group in re.findall(r"by \((\w+)\)", rule["expr"]) for label in group.split(", ")}
    said = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))) - {"instance"}
    assert used <= labels
    assert said <= used


def test_an_alert_uses_a_metric():
    asking = re.compile(rf"{METRIC.pattern}|\bup\b")
    assert [name for name, rule in ALERTS.items() if not asking.search(rule["expr"])] == []
    assert len(metrics()) >= 8
