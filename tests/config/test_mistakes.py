import os
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from config import mistakes
from config.mistakes import AUTH, FILES, GENERIC, GLOO, HOOK, LINES, OPENED, OUTAGE, VARIABLES, Mistake, errors_of

from monitor.config import load_config
from monitor.config.channel_settings import CHANNEL_TYPES

ROOT = Path(__file__).resolve().parents[2]
REFUSED = [each for table in (FILES, *LINES.values(), VARIABLES) for each in table]


@pytest.mark.parametrize("mistake", REFUSED, ids=lambda mistake: mistake.title)
def test_a_mistake_is_one_error_with_its_key_and_a_remedy(config_dir, monkeypatch, mistake):
    monkeypatch.chdir(config_dir.folder)

    code, problems = errors_of(mistake, config_dir.folder)

    (problem,) = problems
    assert code == 2
    assert problem.startswith(f"{mistake.key} ")
    assert mistake.fix in problem
    assert "s3cret" not in problem
    assert not (config_dir.folder / "monitor.db").exists(), "nothing is written before the configuration is right"


@pytest.mark.parametrize("mistake", OPENED, ids=lambda mistake: mistake.title)
def test_a_database_that_cannot_be_used_is_one_error_with_a_remedy(config_dir, mistake):
    code, problems = errors_of(mistake, config_dir.folder)

    (problem,) = problems
    assert code == 3
    assert problem.startswith(mistake.key)
    assert mistake.fix in problem
    assert "s3cret" not in problem


@pytest.mark.parametrize("file", [GLOO, GENERIC], ids=["gloo", "generic"])
def test_the_files_without_the_mistake_are_valid(config_dir, file):
    assert errors_of(Mistake(wrote=file, key="", fix=""), config_dir.folder) == (0, [])


@pytest.mark.process
def test_the_page_shows_the_error_of_every_mistake():
    assert (ROOT / "docs/mistakes.md").read_text(encoding="utf-8") == mistakes.page(), "make docs"


def keys(problems):
    return [problem.split()[0] for problem in problems]


def test_a_mistake_in_dotenv_is_reported_with_the_variable(config_dir):
    path = config_dir.write(dotenv="MONITOR_SCHEDULE__EVERY=9d\nMONITOR_DATABASE=\n")

    assert keys(config_dir.problems(path)) == ["MONITOR_DATABASE", "MONITOR_SCHEDULE__EVERY"]


def test_without_a_file_every_missing_setting_of_the_target_is_reported(config_dir, empty_cwd):
    assert keys(config_dir.problems(None, {"GLOO_CLIENT_ID": "id"})) == ["GLOO_PUBLISHER_ID", "GLOO_CLIENT_SECRET"]


def test_all_mistakes_are_reported_at_once(config_dir, valid):
    text = valid.replace("#top", 'environment = ""').replace("#schedule", 'every = "x"').replace("#check", "http = 1")
    again = '[[targets]]\nname = "gloo-prod"\nprovider = "gloo"\n'
    path = config_dir.write(text.replace("#end", again), dotenv="MONITOR_ROUTES=[")

    problems = config_dir.problems(path, {"MONITOR_CHANNELS": '[{"name": "log", "type": "logg"}]'})

    assert keys(problems) == [
        "MONITOR_ROUTES", "targets[1].name", "environment", "schedule.every", "targets[0].check.http",
        "targets[1].publisher_id", "targets[1].auth", "channels.log.type",
    ]  # fmt: skip


def test_other_errors_do_not_hide_a_rule_that_can_never_open(config_dir, valid):
    text = valid.replace("#schedule", 'every = "x"').replace("#end", OUTAGE + "of = 1")

    assert keys(config_dir.problems(config_dir.write(text))) == ["rules[0].of", "schedule.every"]


@pytest.mark.parametrize("table", ["targets", "channels", "rules", "routes"])
def test_a_value_that_is_not_a_list_of_tables_is_one_error(config_dir, valid, table):
    text = f"{table} = 5\n" + (valid.partition("[[targets]]")[0] if table == "targets" else valid)

    assert keys(config_dir.problems(config_dir.write(text))) == [table]


SHARED = (
    HOOK
    + '[[rules]]\ncause = "outage"\ntarget = "eu-*"\nseverity = "info"\n'
    + '[[routes]]\nmatch = { environment = "staging" }\nchannels = ["log"]\n'
    + '[[routes]]\nmatch = { target = "eu-*", group = "faq" }\nchannels = ["hook"]\n'
    + '[[routes]]\nchannels = ["hook"]\n[[routes]]\nchannels = ["log"]\n'
)


def test_rules_and_routes_for_other_deployments_are_no_error(config_dir, valid):
    config = load_config(config_dir.write(valid.replace("#end", SHARED)), {})

    assert (len(config.rules), len(config.routes)) == (1, 4)


def test_the_error_for_an_unknown_channel_type_lists_the_known_types(config_dir, valid):
    text = valid.replace("#end", '[[channels]]\nname = "a"\ntype = "teams"\nurl = "x"\n')

    (problem,) = config_dir.problems(config_dir.write(text))

    assert [type_ for type_ in CHANNEL_TYPES if f'"{type_}"' not in problem] == []


@pytest.mark.parametrize(
    ("name", "url"), [("teams", "workflow://"), ("discord", "discord://"), ("telegram", "tgram://")]
)
def test_a_type_that_apprise_has_is_answered_with_its_url(config_dir, valid, name, url):
    text = valid.replace("#end", f'[[channels]]\nname = "a"\ntype = "{name}"\nurl = "x"\n')

    (problem,) = config_dir.problems(config_dir.write(text))

    assert 'type "apprise" has it' in problem
    assert url in problem


def test_a_file_that_does_not_exist_is_reported_with_its_path(config_dir):
    (problem,) = config_dir.problems(config_dir.folder / "monitor.toml")

    assert problem.startswith(f"{config_dir.folder}/monitor.toml can't be read (No such file or directory)")
    assert "fix the path" in problem


@pytest.mark.parametrize("file", ["monitor.toml", ".env"])
def test_a_file_over_one_megabyte_is_not_read(config_dir, file):
    path = config_dir.write(dotenv="")
    os.truncate(config_dir.folder / file, (1 << 20) + 1)

    (problem,) = config_dir.problems(path)

    assert problem.startswith(f"{config_dir.folder / file} is larger than 1 MiB")


def test_a_folder_is_not_a_configuration_file(config_dir):
    (problem,) = config_dir.problems(config_dir.folder)

    assert problem.startswith(f"{config_dir.folder} can't be read (Is a directory)")


def test_a_syntax_error_names_its_line(config_dir):
    (problem,) = config_dir.problems(config_dir.write('environment = "a"\nevery = = 1\n'))

    assert "line 2, column 9" in problem


@pytest.mark.parametrize("content", ["a = " + "[" * 100_000, '[targets."\\u0000'], ids=["deep", "control characters"])
def test_syntax_errors_do_not_quote_the_file(config_dir, content):
    (problem,) = config_dir.problems(config_dir.write(content))

    assert problem.startswith(f"{config_dir.folder}/monitor.toml is not valid TOML")
    assert "fix the syntax" in problem
    assert problem.isprintable()
    assert len(problem) < 300


def test_too_deeply_nested_json_is_invalid(config_dir):
    (problem,) = config_dir.problems(config_dir.write(), {"MONITOR_TARGETS": "[" * 100_000})

    assert problem.startswith("MONITOR_TARGETS must be JSON")


def test_a_mistake_on_the_command_line_is_reported_with_its_key(config_dir):
    problems = config_dir.problems(config_dir.write(), {"MONITOR_SCHEDULE__EVERY": "9d"}, schedule={"every": "8d"})

    assert problems == ["schedule.every must be between 1s and 7d"]


def test_a_key_of_another_table_is_unknown(config_dir, valid):
    (problem,) = config_dir.problems(config_dir.write(valid.replace("#schedule", 'by = "group"')))

    assert problem.startswith("schedule.by is not a known key")
    assert "cron, every, timezone, jitter" in problem


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with a provider that can't be imported."""
    metadata = tmp_path / "site/acme_monitor-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-monitor\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[ingestion_monitor.providers]\nacme = no_such_module:Provider\n")
    monkeypatch.syspath_prepend(metadata.parent)
    assert entry_points(group="ingestion_monitor.providers").names == {"acme"}


ACME = GENERIC.replace('"generic"', '"acme"').replace('item = { path = "/documents/{item_id}" }', "")


def test_an_installed_provider_is_accepted_without_importing_it(config_dir, installed):
    acme = ACME.replace("#target", 'options = { region = "eu" }')

    (target,) = load_config(config_dir.write(acme), {}).targets

    assert (target.provider, target.options) == ("acme", {"region": "eu"})
    (problem,) = config_dir.problems(config_dir.write(acme.replace('"acme"', '"acne"')))
    assert problem.startswith('targets.docs.provider is not a known provider; did you mean "acme"?')
    (problem,) = config_dir.problems(config_dir.write(acme.replace("options", "list").replace("region", "path")))
    assert problem.startswith('targets.docs.list.path must begin with one "/"')
    (problem,) = config_dir.problems(config_dir.write(acme.replace("options", "headers")))
    assert problem.startswith("targets.docs.headers does not apply to acme")


def test_an_installed_provider_needs_no_statuses_and_no_credentials(config_dir, installed):
    bare = ACME.replace('statuses = { completed = ["done"] }', "").replace('auth = { api_key = "s3cret" }', "")

    (target,) = load_config(config_dir.write(bare), {}).targets

    assert (target.statuses, target.auth, target.item) == ({}, None, None)


def test_client_credentials_for_an_installed_provider_need_no_token_path(config_dir, installed):
    (target,) = load_config(config_dir.write(ACME.replace('auth = { api_key = "s3cret" }', AUTH)), {}).targets

    assert (target.auth.token_path, target.auth.scope) == (None, None)
