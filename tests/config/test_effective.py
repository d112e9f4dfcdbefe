import tomllib

import pytest

from monitor.config import MASK, load_config
from monitor.config.effective import effective_settings, format_toml

TEXT = """
environment = "staging"
[[targets]]
name = "gloo-prod"
provider = "gloo"
publisher_id = "p1"
auth = { client_id = "${ID}", client_secret_file = "gloo-secret" }
statuses = { pending = ["${STATUS}", "RERANKING"] }
[targets.check]
deadline = "1h30m"
rate = "3000/h"
[[routes]]
match = { team = "credentials" }
channels = ["log"]
"""


def settings(config):
    return {setting.key: setting for setting in effective_settings(config.describe(), config.origins)}


@pytest.fixture
def config(config_dir):
    (config_dir.folder / "gloo-secret").write_text("s3cret")
    path = config_dir.write(TEXT, dotenv="ID=client\nMONITOR_SCHEDULE__TIMEZONE=Europe/Paris\n")
    environ = {"STATUS": "ENRICHING", "MONITOR_DATABASE": "postgresql://u:s3cret@db/x"}
    return load_config(path, environ, {"schedule": {"every": "3m"}})


@pytest.mark.parametrize(
    ("key", "value", "source", "origin"),
    [
        ("environment", "staging", "file", "monitor.toml"),
        ("database", MASK, "environment", "MONITOR_DATABASE in the environment"),
        ("schedule.every", "3m", "flag", "command line"),
        ("schedule.timezone", "Europe/Paris", "dotenv", "MONITOR_SCHEDULE__TIMEZONE in .env"),
        ("rules", [], "default", "default"),
        ("targets[0].name", "gloo-prod", "file", "monitor.toml"),
        ("targets[0].base_url", "https://platform.ai.gloo.com", "preset", "preset gloo"),
        ("targets[0].auth.client_id", "client", "file", "monitor.toml, with ID in .env"),
        ("targets[0].auth.client_secret", MASK, "file", "monitor.toml, from FOLDER/gloo-secret"),
        (
            "targets[0].statuses.pending",
            ["ENRICHING", "RERANKING"],
            "file",
            "monitor.toml, with STATUS in the environment",
        ),
        ("targets[0].check.deadline", "1h30m", "file", "monitor.toml"),
        ("targets[0].check.rate", "3000/h", "file", "monitor.toml"),
        ("targets[0].check.max_attempts", 5, "default", "default"),
        ("routes[0].match.team", ["credentials"], "file", "monitor.toml"),
        ("routes[0].continue", False, "default", "default"),
    ],
)
def test_every_setting_has_its_origin(config_dir, config, key, value, source, origin):
    setting = settings(config)[key]

    assert (setting.value, setting.origin.source) == (value, source)
    assert str(setting.origin) == origin.replace("FOLDER", str(config_dir.folder))


def test_a_target_from_variables_has_each_of_them_as_origin(empty_cwd):
    (empty_cwd / ".env").write_text("GLOO_API_KEY=s3cret\nGLOO_PUBLISHER_ID=p1\n")
    environ = {"GLOO_PUBLISHER_ID": "p2", "MONITOR_SYNC_LOG_URL": "sqlite:///pipeline.db"}

    shown = settings(load_config(None, environ))

    assert {key: str(setting.origin) for key, setting in shown.items() if key.startswith("targets[0].a")} == {
        "targets[0].allow_http": "default",
        "targets[0].auth.api_key": "GLOO_API_KEY in .env",
        "targets[0].auth.header": "default",
        "targets[0].auth.scheme": "default",
    }
    assert str(shown["targets[0].publisher_id"].origin) == "GLOO_PUBLISHER_ID in the environment"
    assert str(shown["targets[0].sync_log.url"].origin) == "MONITOR_SYNC_LOG_URL in the environment"


def test_a_later_setting_replaces_an_earlier_alternative(config_dir, valid):
    (config_dir.folder / "url").write_text("postgresql://db/x")
    text = valid.replace("#schedule", 'cron = "* * * * *"').replace("#top", 'database_file = "url"')

    shown = settings(
        load_config(config_dir.write(text), {"MONITOR_SCHEDULE__EVERY": "3m", "MONITOR_DATABASE": "sqlite:///x"})
    )

    assert str(shown["schedule.every"].origin) == "MONITOR_SCHEDULE__EVERY in the environment"
    assert "schedule.cron" not in shown
    assert str(shown["database"].origin) == "MONITOR_DATABASE in the environment"


def without_empty_tables(value):
    if isinstance(value, list):
        return [without_empty_tables(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: without_empty_tables(each) for key, each in value.items() if each != {}}


def test_the_text_is_equivalent_toml(config):
    text = format_toml(effective_settings(config.describe(), config.origins))

    read = tomllib.loads(text)
    assert read == without_empty_tables(config.describe())
    assert "s3cret" not in text


def test_the_text_fits_80_columns(config):
    lines = format_toml(effective_settings(config.describe(), config.origins)).splitlines()

    assert [line for line in lines if len(line) > 80 and not line.startswith("#")] == []
    assert lines[lines.index("[targets.check]") + 5] == 'deadline = "1h30m"                          # monitor.toml'
    assert lines[lines.index("# MONITOR_DATABASE in the environment") + 1] == f'database = "{MASK}"'


def test_a_name_that_is_no_bare_toml_key_is_quoted(config_dir):
    text = TEXT.replace('provider = "gloo"', 'provider = "generic"\nbase_url = "https://api.example"').replace(
        'statuses = { pending = ["${STATUS}", "RERANKING"] }',
        'headers = { "X.Y" = "1" }\nstatuses = { completed = ["ok"] }\nitem = { path = "/{item_id}" }',
    )
    text = text.replace('client_secret_file = "gloo-secret"', 'client_secret = "s", token_path = "/t"')
    config = load_config(config_dir.write(text), {"ID": "client"})

    assert tomllib.loads(format_toml(effective_settings(config.describe(), config.origins)))["targets"][0][
        "headers"
    ] == {"X.Y": "1"}
