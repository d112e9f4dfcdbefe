import pytest

from monitor.cli.doctor.examine import setting_locations
from monitor.cli.doctor.locations import lines_of
from monitor.config import load_config

FILE = """\
# a comment
database = "sqlite:///monitor.db"

[[targets]]
name = "one"
provider = "gloo"
publisher_id = "${PUBLISHER}"
auth = { client_id = "x", client_secret_file = "secret" }
check.concurrency = 4

[targets.sync_log]   # the first's
url = "sqlite:///one.db"

[[targets]]
"name" = "two"
provider = "gloo"
publisher_id = "p"

  [targets.auth]
  api_key = "k"

[[channels]]
name = "oncall"
type = "slack"
url_file = "hook"

[[routes]]
channels = [
  "oncall",
]
match.team = "credentials"
"""

LINES = {
    "a key at the top": (("database",), 2),
    "a table": (("targets", 0), 4),
    "the second of its kind": (("targets", 1), 14),
    "a key in it": (("targets", 1, "publisher_id"), 17),
    "a quoted key": (("targets", 1, "name"), 15),
    "a table of the first": (("targets", 0, "sync_log"), 11),
    "a key in that": (("targets", 0, "sync_log", "url"), 12),
    "an indented table of the second": (("targets", 1, "auth", "api_key"), 20),
    "a dotted key": (("targets", 0, "check", "concurrency"), 9),
    "a dotted key behind a long list": (("routes", 0, "match", "team"), 31),
}


@pytest.mark.parametrize(("loc", "line"), LINES.values(), ids=LINES)
def test_every_setting_is_found_on_its_line(loc, line):
    assert lines_of(FILE)[loc] == line


@pytest.fixture
def locations(tmp_path):
    for name, text in {"secret": "s", "hook": "https://hooks.example/x", ".env": "PUBLISHER=p\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "monitor.toml").write_text(FILE, encoding="utf-8")
    environ = {"MONITOR_ENVIRONMENT": "test"}
    return tmp_path, setting_locations(load_config(tmp_path / "monitor.toml", environ=environ))


PLACES = {
    "written": (("targets", 0, "sync_log", "url"), "targets.one.sync_log.url", "monitor.toml, line 12"),
    "in an inline table": (("targets", 0, "auth", "client_id"), "targets.one.auth.client_id", "monitor.toml, line 8"),
    "left out": (("targets", 1, "sync_log", "table"), "targets.two.sync_log.table", "monitor.toml, line 14"),
    "nowhere": (("schedule", "every"), "schedule.every", "monitor.toml"),
    "a variable": (
        ("targets", 0, "publisher_id"), "targets.one.publisher_id", "monitor.toml, line 7, PUBLISHER in .env",
    ),
    "the environment": (("environment",), "environment", "MONITOR_ENVIRONMENT in the environment"),
    "a secret in a file": (("channels", 0, "url"), "channels.oncall.url", "monitor.toml, line 25, {folder}/hook"),
    "a row without a name": (("routes", 0, "match", "team"), "routes[0].match.team", "monitor.toml, line 31"),
}  # fmt: skip


@pytest.mark.parametrize(("loc", "setting", "where"), PLACES.values(), ids=PLACES)
def test_a_location_is_shown_as_file_and_line_or_variable(locations, loc, setting, where):
    folder, known = locations
    location = known.of(*loc)
    assert (location.setting, location.where) == (setting, where.format(folder=folder))


def test_without_a_file_the_variable_is_the_location(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environ = {"GLOO_API_KEY": "k", "GLOO_PUBLISHER_ID": "p", "MONITOR_SYNC_LOG_URL": "sqlite:///x.db"}
    known = setting_locations(load_config(environ=environ))
    assert known.of("targets", 0, "publisher_id").where == "GLOO_PUBLISHER_ID in the environment"
    assert known.of("database").where is None
