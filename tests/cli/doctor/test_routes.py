import pytest

from monitor.cli.doctor.delivery import check_routes, check_target_patterns
from monitor.cli.doctor.examine import setting_locations
from monitor.cli.doctor.findings import Level
from monitor.config import load_config

BASE = """
environment = "test"
[[targets]]
name = "gloo-prod"
provider = "gloo"
publisher_id = "p"
auth = { api_key = "k" }
"""
CHANNELS = '[[channels]]\nname = "a"\ntype = "log"\n[[channels]]\nname = "b"\ntype = "log"\n'


def route(channels='["a", "b"]', **match):
    lines = "".join(f'match.{name} = "{pattern}"\n' for name, pattern in match.items())
    return f"[[routes]]\nchannels = {channels}\n{lines}"


RULES = {
    "no channel": ("", ["there is no channel: incidents go to the log."]),
    "no route": (CHANNELS, ["there is no route: every channel gets every incident."]),
    "all is well": (CHANNELS + route(team="credentials") + route(), ["every channel is in a route."]),
    "a channel without a route": (
        CHANNELS + route('["a"]'),
        ["no route leads to the channel b: it gets no notifications."],
    ),
}


@pytest.mark.parametrize(("toml", "said"), RULES.values(), ids=RULES)
def test_a_channel_without_a_matching_route_is_reported(tmp_path, toml, said):
    path = tmp_path / "monitor.toml"
    path.write_text(BASE + toml, encoding="utf-8")
    config = load_config(path, environ={})
    assert [finding.message for finding in check_routes(config, setting_locations(config))] == said


def test_a_warning_names_the_line(tmp_path):
    path = tmp_path / "monitor.toml"
    path.write_text(BASE + CHANNELS + route('["a"]'), encoding="utf-8")
    config = load_config(path, environ={})
    (finding,) = check_routes(config, setting_locations(config))
    assert (finding.setting, finding.location) == ("channels.b", "monitor.toml, line 11")


def rule(**keys):
    return "[[rules]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


LOG = '[targets.sync_log]\nurl = "sqlite:///pipeline.db"\n'
PATTERNS = {
    "a route for another deployment's target": (
        CHANNELS + route(target="gloo-eu-*"), ["routes", "match.target", "routes[0]", '"gloo-eu-*"', "no target"]
    ),
    "a slip in a route's target": (CHANNELS + route(target="gloo-prd"), ["routes", "match.target", '"gloo-prod"?']),
    "a route for groups that no target has": (
        LOG + CHANNELS + route(group="faq"), ["routes", "match.group", "routes[0]", '"faq"', "has groups"]
    ),
    "a rule for another deployment's target": (
        rule(cause="outage", target="eu-*", severity="info"), ["rules", "target", "rules[0]", '"eu-*"', "no target"]
    ),
    "a rule for a channel by its bare name": (
        CHANNELS + rule(cause="channel_failing", target="a", team="operations"),
        ["rules", "target", '"a"', "no channel"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("toml", "facts"), PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_that_matches_no_target_is_a_warning(tmp_path, toml, facts):
    path = tmp_path / "monitor.toml"
    path.write_text(BASE + toml, encoding="utf-8")
    config = load_config(path, environ={})

    (finding,) = check_target_patterns(config, setting_locations(config))

    part, key, *words = facts
    assert (finding.level, finding.part) == (Level.WARNING, part)
    assert finding.setting == f"{part}[0].{key}"
    assert "monitor.toml, line" in finding.location
    assert [word for word in words if word not in finding.message] == []
    assert finding.remedy


GROUPED = LOG + 'group_column = "collection"\n'
MATCHING = {
    "targets, channels and groups": (
        CHANNELS + route(target="gloo-*") + route(target="channel:?") + route(group="faq")
        + rule(cause="channel_failing", target="channel:b", team="operations")
    ),
    "groups in a sync log": GROUPED + CHANNELS + route(group="faq"),
}  # fmt: skip


@pytest.mark.parametrize("toml", MATCHING.values(), ids=MATCHING)
def test_a_pattern_that_matches_something_is_no_warning(tmp_path, toml):
    path = tmp_path / "monitor.toml"
    path.write_text(BASE + toml, encoding="utf-8")
    config = load_config(path, environ={})
    assert list(check_target_patterns(config, setting_locations(config))) == []
