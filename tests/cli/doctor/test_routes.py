import pytest

from monitor.cli.doctor import setting_locations
from monitor.cli.doctor.delivery import check_routes
from monitor.config import Config

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


FINE = "each of {} can be taken, and each channel is reached."
RULES = {
    "no channel": ("", ["there is no channel: incidents go to the log."]),
    "no route": (CHANNELS, ["there is no route: every channel hears of every incident."]),
    "all is well": (CHANNELS + route(team="credentials") + route(), [FINE.format(2)]),
    "nobody is sent to a channel": (
        CHANNELS + route('["a"]'),
        ["no route leads to the channel b: it hears of nothing."],
    ),
}


@pytest.mark.parametrize(("toml", "said"), RULES.values(), ids=RULES)
def test_a_channel_that_hears_of_nothing_is_told(tmp_path, toml, said):
    path = tmp_path / "monitor.toml"
    path.write_text(BASE + toml, encoding="utf-8")
    config = Config.load(path, environ={})
    assert [finding.message for finding in check_routes(config, setting_locations(config))] == said


def test_a_warning_names_the_line(tmp_path):
    path = tmp_path / "monitor.toml"
    path.write_text(BASE + CHANNELS + route('["a"]'), encoding="utf-8")
    config = Config.load(path, environ={})
    (finding,) = check_routes(config, setting_locations(config))
    assert (finding.setting, finding.location) == ("channels.b", "monitor.toml, line 11")
