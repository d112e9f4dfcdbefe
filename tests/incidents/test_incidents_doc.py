"""The tables of docs/incidents.md are compared with the code, and its examples are run."""

import re
import shlex
from datetime import timedelta
from pathlib import Path

import pytest
from support.samples import NOW, evidence_points, incident

from monitor.cli import main
from monitor.config import load_config
from monitor.errors import ConfigError
from monitor.incidents.decide import REOPEN_WITHIN, UPDATE_INTERVAL, decide
from monitor.incidents.evidence import INHIBITS
from monitor.incidents.rulebook import DEFAULT_RULES, MIN_ANSWERED, run_filter
from monitor.model import ITEM_CAUSES, OBSERVED_CAUSES, REQUEST_CAUSES, Cause, IncidentState, RunStatus, Severity, Team
from monitor.model.durations import format_duration, parse_duration
from monitor.notifications.routing import ATTRIBUTES
from monitor.reports.rules import opens, resolves

DOCUMENT = (Path(__file__).parents[2] / "docs" / "incidents.md").read_text(encoding="utf-8")
TARGET = '[[targets]]\nname = "gloo-prod"\nprovider = "gloo"\npublisher_id = "p"\nauth = { api_key = "k" }\n'
CHANNEL = '[[channels]]\nname = "oncall"\ntype = "log"\n'


def section(heading):
    (text,) = re.findall(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    return text


def tables(text):
    """Each table as its rows of cells, without its head."""
    found = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            found.append([])
        elif not re.fullmatch(r"[-| ]+", line):
            found[-1].append([cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")])
    return [table[1:] for table in found if table]


def rows(heading):
    """The first table of a section."""
    table, *_ = tables(section(heading))
    assert table
    assert len({len(row) for row in table}) == 1
    return table


def ticked(cell):
    return re.findall(r"`([^`]+)`", cell)


def span(text):
    return parse_duration(text)


def ids(row):
    return " ".join(row[:4])


# --- rules


@pytest.mark.parametrize("row", rows("Rules"), ids=lambda row: row[0])
def test_the_rules_are_as_documented(row):
    (cause,) = ticked(row[0])
    rule = DEFAULT_RULES[Cause(cause)]
    documented = [rule.team, rule.severity, opens(rule), resolves(rule), format_duration(rule.repeat_interval)]
    assert row[1:-1] == documented
    assert row[-1]


def test_every_rule_is_there_in_the_order_of_the_causes():
    assert [ticked(row[0]) for row in rows("Rules")] == [[cause] for cause in Cause]


def test_inhibition_is_as_documented():
    said = {ticked(cause)[0]: set(ticked(explained)) for cause, explained in rows("Inhibition")}
    assert said == {cause: set(explained) for cause, explained in INHIBITS.items()}


def test_the_runs_that_count_are_as_documented():
    (plural, *_), *others = rows("Which runs count")
    assert plural == "requests, items"
    said = dict.fromkeys([*REQUEST_CAUSES, *ITEM_CAUSES], rows("Which runs count")[0])
    said |= {cause: row for row in others for cause in ticked(row[0])}
    assert set(said) == set(Cause) - {Cause.CHANNEL_FAILING, *OBSERVED_CAUSES}
    for cause, (_, statuses, criterion) in said.items():
        found = run_filter(Cause(cause))
        assert statuses == ", ".join(each for each in RunStatus if each in found.statuses)
        assert criterion == found.criterion
    assert f"Enough answers are {MIN_ANSWERED}" in section("Which runs count")


def test_the_intervals_are_as_documented():
    assert f"within {REOPEN_WITHIN // timedelta(minutes=1)} minutes of" in section("Reopening")
    assert f"one update per {UPDATE_INTERVAL // timedelta(minutes=1)} minutes" in section("An incident with members")


def problems(tmp_path, toml, *, target=TARGET):
    """The problems of a file with one target, one channel, and this."""
    path = tmp_path / "monitor.toml"
    path.write_text(target + CHANNEL + toml, encoding="utf-8")
    try:
        load_config(path, environ={})
    except ConfigError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize("row", rows("Rules of your own"), ids=lambda row: row[0])
def test_a_rule_is_rejected_with_the_documented_sentence(tmp_path, row):
    _, table, sentence = row
    assert problems(tmp_path, "[[rules]]\n" + "\n".join(ticked(table))) == [sentence]


def test_the_example_of_rules_is_valid(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", section("Rules of your own"), re.DOTALL)
    others = "".join(TARGET.replace("gloo-prod", name) for name in ("a-dev", "a-test"))
    assert problems(tmp_path, others + example) == []


# --- decisions


def decided(decision):
    return [decision.action.value, decision.reason.value]


def rule_and_runs(row):
    (cause,), (pattern,) = ticked(row[0]), ticked(row[1])
    return DEFAULT_RULES[Cause(cause)], evidence_points(pattern, every=span(row[2]))


@pytest.mark.parametrize("row", rows("When an incident opens"), ids=ids)
def test_incidents_open_as_documented(row):
    rule, found = rule_and_runs(row)
    assert decided(decide(rule, None, found, now=NOW)) == row[3:]


@pytest.mark.parametrize("row", rows("Reopening"), ids=ids)
def test_incidents_reopen_as_documented(row):
    rule, found = rule_and_runs(row)
    before = incident(cause=rule.cause, state=IncidentState.RESOLVED, resolved_at=NOW - span(row[3]))
    assert decided(decide(rule, before, found, now=NOW)) == row[4:]


@pytest.mark.parametrize("row", rows("When it resolves"), ids=lambda row: row[0])
def test_incidents_resolve_as_documented(row):
    found = evidence_points(ticked(row[0])[0])
    last = max(point.at for point in found if point.evidence)
    state = incident(last_evidence_at=last, last_message_at=NOW - timedelta(hours=1))
    assert decided(decide(DEFAULT_RULES[Cause.UNAUTHORIZED], state, found, now=NOW)) == row[1:]


@pytest.mark.parametrize("row", rows("An incident with members"), ids=lambda row: " ".join(row[:5]))
def test_incidents_with_members_continue_as_documented(row):
    members, joined, notified, state, may_resolve, *expected = row
    before = incident(
        cause=Cause.ITEMS_FAILED,
        state=IncidentState(state),
        unnotified_count=int(joined),
        last_message_at=NOW - span(notified),
    )
    decision = decide(
        DEFAULT_RULES[Cause.ITEMS_FAILED],
        before,
        evidence_points("..x", every=timedelta(minutes=1)),
        now=NOW,
        members=int(members),
        may_resolve=may_resolve == "yes",
    )
    assert decided(decision) == expected


# --- routing

(ATTRIBUTE_ROWS,) = tables(section("Routing"))


def test_the_attributes_are_as_documented():
    said = {ticked(row[0])[0]: row[1] for row in ATTRIBUTE_ROWS}
    assert list(said) == list(ATTRIBUTES)
    assert (said["team"], said["severity"]) == (", ".join(Team), ", ".join(Severity))


PLAYED = re.findall(r"```console\n\$ ingestion-monitor (rules [^\n]*)\n(.*?)```", section("Trying it"), re.DOTALL)


@pytest.mark.parametrize(("command", "printed"), PLAYED, ids=[command for command, _ in PLAYED])
def test_an_example_prints_the_documented_text(tmp_path, monkeypatch, capsys, command, printed):
    (toml,) = re.findall(r"```toml\n(.*?)```", section("Trying it"), re.DOTALL)
    (tmp_path / "monitor.toml").write_text(toml, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out == printed
