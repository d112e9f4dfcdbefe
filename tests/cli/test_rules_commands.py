import json
from datetime import UTC, datetime, timedelta

import pytest

from monitor.cli import main
from monitor.config import load_config
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import ITEM_CAUSES, Cause, Silence
from monitor.reports.rule_queries import simulate_answer
from monitor.reports.rules import simulation_json, simulation_text

BASE = """
database = "sqlite:///never-opened.db"
[[targets]]
name = "gloo-prod"
provider = "gloo"
publisher_id = "p"
auth = { api_key = "k" }
"""
TWO = """
[[targets]]
name = "gloo-dev"
provider = "gloo"
publisher_id = "p"
auth = { api_key = "k" }
schedule = { cron = "0 9 * * 1-5" }
"""
CHANNELS = '[[channels]]\nname = "oncall"\ntype = "log"\n[[channels]]\nname = "mail"\ntype = "log"\n'
RULES = """
[[rules]]
cause = "outage"
runs = 3
[[rules]]
cause = "outage"
target = "*-dev"
severity = "info"
[[rules]]
cause = "items_failed"
by = "group"
"""
ROUTES = """
[[routes]]
match = { team = ["credentials", "account"], target = "gloo-*" }
channels = ["oncall"]
continue = true
[[routes]]
match = { severity = "critical" }
channels = ["oncall"]
[[routes]]
match = { group = "sermons" }
channels = ["mail"]
[[routes]]
channels = ["mail", "log"]
"""
WHOLE = BASE + TWO + CHANNELS + RULES + ROUTES


@pytest.fixture
def rules(tmp_path, capsys, monkeypatch):
    """Calls `rules …` on a configuration; checks the exit code and returns the output."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, toml=WHOLE, code=0):
        (tmp_path / "monitor.toml").write_text(toml, encoding="utf-8")
        assert main(["rules", *arguments]) == code
        out, err = capsys.readouterr()
        assert not (tmp_path / "never-opened.db").exists()
        assert (out == "") is (code != 0)
        return out if code == 0 else err

    return call


THREE = "3 of 3 runs in 1h, 3m apart after 2 clean runs 4h target"


def about(listed, cause):
    return [" ".join(line.split()) for line in listed.splitlines() if line.split()[0] == cause]


def test_every_built_in_rule_is_listed(rules):
    heading, *lines = rules("list", toml=BASE).splitlines()
    assert heading.split() == ["CAUSE", "TEAM", "SEVERITY", "OPENS", "RESOLVES", "REMINDER", "EVERY", "BY", "FROM"]
    assert [line.split()[0] for line in lines] == [cause.value for cause in Cause]
    assert all(line.endswith("target  built in") for line in lines)


def test_a_target_has_its_own_line_if_its_rule_differs(rules):
    listed = rules("list")
    assert about(listed, "outage") == [
        f"outage all others operations critical {THREE} rules[0] in monitor.toml",
        f"outage gloo-dev operations info {THREE} rules[0], rules[1] in monitor.toml",
    ]
    assert about(listed, "items_failed") == [
        "items_failed all pipeline warning at once when all are well 1d group rules[2] in monitor.toml"
    ]
    only = rules("list", "--target", "gloo-dev")
    assert "TARGET" not in only
    assert about(only, "outage")[0].startswith("outage operations info 3 of 3 runs")
    assert about(only, "channel_failing") == []


def test_the_most_frequent_rule_is_listed_for_all_other_targets(rules):
    own = '[[rules]]\ncause = "outage"\ntarget = "*"\nresolve_after = 1\n'
    assert about(rules("list", toml=BASE + TWO + own), "outage") == [
        "outage operations critical 2 of 2 runs in 1h, 3m apart after 1 clean run 4h target rules[0] in monitor.toml"
    ]


def test_a_channel_s_rule_is_listed_too(rules):
    own = '[[rules]]\ncause = "channel_failing"\ntarget = "channel:mail"\nteam = "operations"\n'
    assert about(rules("list", toml=BASE + CHANNELS + own), "channel_failing") == [
        "channel_failing all others monitor warning at once after a delivery 4h target built in",
        "channel_failing channel:mail operations warning at once after a delivery 4h target rules[0] in monitor.toml",
    ]
    assert len(rules("list", "-t", "channel:mail", toml=BASE + CHANNELS + own).splitlines()) == 2


def test_rules_from_the_environment_name_their_variable(rules, monkeypatch):
    monkeypatch.setenv("MONITOR_RULES", '[{"cause": "outage", "runs": 4}]')
    assert about(rules("list", toml=BASE), "outage")[0].endswith("rules[0] in MONITOR_RULES in the environment")


def test_the_list_as_json_has_every_value_and_where_it_came_from(rules):
    rows = json.loads(rules("list", "--json"))["rules"]
    assert len(rows) == len(DEFAULT_RULES) + 1
    (dev,) = [row for row in rows if row["target"] == "gloo-dev"]
    assert dev == {
        "target": "gloo-dev", "cause": "outage", "team": "operations", "severity": "info", "runs": 3, "of": 3,
        "window": "1h", "for": "3m", "resolve_after": 2, "repeat_interval": "4h", "by": "target",
        "opens": "3 of 3 runs in 1h, 3m apart", "resolves": "after 2 clean runs",
        "from": {
            "runs": "rules[0] in monitor.toml", "of": "rules[0] in monitor.toml",
            "severity": "rules[1] in monitor.toml",
        },
    }  # fmt: skip


def test_simulating_a_status_shows_its_incident(rules):
    assert rules("test", "--status", "401", "--target", "gloo-prod") == (
        "401 on gloo-prod\n"
        "  cause     unauthorized: the API rejects the credentials\n"
        "  why       401, again after the credentials were renewed: they are rejected\n"
        "  rule      2 of 2 runs in 1h; severity: critical, team: credentials\n"
        "  from      built in\n"
        "  opens     at the 2nd run in a row with evidence, about 5 min after the first\n"
        "            (a run every 5m)\n"
        "  resolves  after 2 clean runs; reminders every 4h\n"
        "What to check:\n"
        "  - key rotation: was the client secret or API key rotated, but not updated in\n"
        "    this deployment?\n"
        "  - deployment configuration: does it hold the credentials of this environment?\n"
        "  - revoked keys: is the client or key still active at the provider?\n"
        "Routes:\n"
        "  routes[0]  matches, continue (team credentials, target gloo-prod): oncall\n"
        "  routes[1]  matches (severity critical): oncall\n"
        "  routes[2]  not evaluated\n"
        "  routes[3]  not evaluated\n"
        "Notified: oncall\n"
    )


SAID = [
    ("the schedule of the target counts", ["--status", "401", "-t", "gloo-dev"],
     "at the first run with evidence, which is alone in the window (runs"),
    ("a code alone", ["--code", "spending_limit_exceeded", "-t", "gloo-prod"],
     "429 with the code spending_limit_exceeded on gloo-prod\n  cause     spending_limit"),
    ("a denial is played twice", ["--status", "403", "-t", "gloo-prod"],
     "Routes when nothing at all is accepted (critical, account and credentials):"),
    ("why a route does not match", ["--cause", "items_stuck", "-t", "gloo-prod"],
     "routes[0]  does not match: its team is pipeline, not credentials or account"),
    ("no group", ["--cause", "items_stuck", "-t", "gloo-prod"], "its group is none, not sermons"),
    ("a group", ["--cause", "items_failed", "-t", "gloo-prod", "--group", "sermons"],
     "routes[2]  matches (group sermons): mail\n  routes[3]  not evaluated\nNotified: mail\n"),
    ("a rule by group", ["--cause", "items_failed", "-t", "gloo-prod", "--group", "sermons"],
     "items_failed on gloo-prod (sermons)\n"),
    ("an incident for each group", ["--cause", "items_failed", "-t", "gloo-prod"],
     "  rule      at once; severity: warning, team: pipeline, one incident per group\n"),
    ("a channel", ["--cause", "channel_failing", "-t", "channel:mail"],
     "opens     as soon as the channel rejects a message, or is unreachable for"),
    ("a channel is not notified of itself", ["--cause", "channel_failing", "-t", "channel:mail"],
     "Notified: log (never the failing channel itself)"),
    ("what is about an item", ["--status", "404", "-t", "gloo-prod"],
     "  ingestion-monitor rules test --cause items_missing --target gloo-prod\n"),
    ("an answer", ["--status", "200", "-t", "gloo-prod"], "200 on gloo-prod\n  cause     none\n"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), [s[1:] for s in SAID], ids=[s[0] for s in SAID])
def test_simulate_output(rules, arguments, says):
    said = rules("test", *arguments)
    assert says in said
    assert max(len(line) for line in said.splitlines()) <= 80


def test_the_only_target_is_the_default(rules):
    assert rules("test", "--status", "503", toml=BASE).startswith("503 on gloo-prod\n")


NOTIFIED = [
    ("no route and no channel", BASE, "Routes:\n  none, and no channel: the log is used\nNotified: log\n"),
    ("no route", BASE + CHANNELS, "Routes:\n  none: all channels are notified\nNotified: oncall, mail\n"),
    ("a route, but no channel", BASE + '[[routes]]\nchannels = ["log"]\n',
     "Notified: log (no channel is configured)\n"),
    ("no route is taken", BASE + CHANNELS + '[[routes]]\nmatch.team = "pipeline"\nchannels = ["mail"]\n',
     "Notified: log (no route matches)\n"),
    ("another environment", BASE + CHANNELS + '[[routes]]\nmatch.environment = "stage"\nchannels = ["mail"]\n',
     "routes[0]  matches (environment stage): mail\nNotified: mail\n"),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "says"), [t[1:] for t in NOTIFIED], ids=[t[0] for t in NOTIFIED])
def test_simulate_names_the_notified_channels(rules, toml, says):
    environment = ["--environment", "stage"] if "environment" in toml else []
    assert says in rules("test", "--cause", "outage", *environment, toml=toml)


def test_a_rule_that_its_schedule_never_opens_is_reported(rules):
    own = (
        '[schedule]\nevery = "7m"\n' + BASE.replace("\ndatabase", "\n#") + '[[rules]]\ncause = "outage"\nfor = "58m"\n'
    )
    assert "opens     never: runs within the window are not far enough apart" in rules(
        "test", "--cause", "outage", toml=own
    )


def test_simulate_as_json_is_one_object(rules):
    played = json.loads(rules("test", "--status", "403", "-t", "gloo-prod", "--json"))
    assert {name: played[name] for name in ("status", "code", "target", "group", "environment", "cause")} == {
        "status": 403, "code": None, "target": "gloo-prod", "group": "", "environment": "production",
        "cause": "forbidden",
    }  # fmt: skip
    assert (played["rule"]["runs"], played["opening"]) == (2, {"runs": 2, "after_s": 300.0})
    assert [(case["severity"], case["accepted"], case["channels"]) for case in played["cases"]] == [
        ("warning", True, ["oncall", "mail", "log"]), ("critical", False, ["oncall"]),
    ]  # fmt: skip
    assert played["cases"][0]["routes"][1] == {
        "taken": "does not match", "mismatch": "severity", "channels": ["oncall"]
    }  # fmt: skip
    item = json.loads(rules("test", "--status", "404", "-t", "gloo-prod", "--json"))
    assert (item["cause"], item["possible_causes"]) == (None, ["items_missing", "wrong_scope", "bad_response"])


def test_a_simulation_names_a_silence_in_force(tmp_path):
    path = tmp_path / "monitor.toml"
    path.write_text(BASE, encoding="utf-8")
    now = datetime.now(UTC)
    silence = Silence(id=4, matchers={"cause": ("outage",)}, starts_at=now - timedelta(1), ends_at=now + timedelta(1))
    query, simulation, on = simulate_answer(
        load_config(path, environ={}), cause="outage", silences=lambda: [silence], now=now
    )
    assert "silence 4" in simulation_text(query, simulation, on=on)
    assert simulation_json(query, simulation, on=on)["cases"][0]["silence"] == 4


MISUSES = [
    ([], "nothing to simulate: give --status (and --code) of an answer, or a --cause"),
    (["--status", "999"], "--status: 999 is no HTTP status; give one from 100 to 599"),
    (["--code", "x"], "--code: 'x' alone has no meaning; give the --status that it came with"),
    (["--cause", "outage", "--status", "500"],
     "--cause: give either a cause, or the --status and --code of an answer"),
    (["--cause", "items_stuk"], "--cause: there is no cause 'items_stuk'; did you mean \"items_stuck\"?"),
    (["--cause", "coverage"], "--cause: coverage is now called too_many_unknown: rename it"),
    (["--cause", "zzz"], f"--cause: there is no cause 'zzz'; choose from {', '.join(Cause)}"),
    (["--status", "401"], "--target: name the target; choose from gloo-prod, gloo-dev"),
    (["--status", "401", "-t", "gloo"], "--target: there is no target 'gloo'; choose from gloo-prod, gloo-dev"),
    (["--status", "401", "-t", "channel:mail"],
     "--target: unauthorized is about a target, and channel:mail is none; choose from gloo-prod, gloo-dev"),
    (["--status", "404", "-t", "channel:mail"],
     "--target: an answer is about a target, and channel:mail is none; choose from gloo-prod, gloo-dev"),
    (["--cause", "channel_failing"], "--target: name the channel; choose from channel:oncall, channel:mail"),
    (["--cause", "outage", "--group", "x"],
     f"--group: outage is not about items, and only they have groups ({', '.join(ITEM_CAUSES)})"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), MISUSES, ids=[" ".join(m[0]) or "nothing" for m in MISUSES])
def test_a_usage_error_is_one_sentence(rules, arguments, sentence):
    assert rules("test", *arguments, code=2) == f"error: {sentence}\n"


def test_without_channels_none_can_fail(rules):
    said = rules("test", "--cause", "channel_failing", toml=BASE, code=2)
    assert said == "error: --target: name the channel; there is none: define it under [[channels]]\n"
    said = rules("test", "--cause", "channel_failing", "-t", "gloo-prod", toml=BASE, code=2)
    assert said == "error: --target: channel_failing is about a channel, and gloo-prod is none; there is no channel\n"


def test_an_unknown_target_is_a_usage_error(rules):
    said = rules("list", "-t", "gloo-prd", code=2)
    assert said == "error: --target: there is no target 'gloo-prd'; choose from gloo-prod, gloo-dev\n"
