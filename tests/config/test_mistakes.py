import json
import os
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from config import mistakes
from config.mistakes import AUTH, DATABASE, FILES, GENERIC, LINES, NOT_JSON, SYNC_LOG, VARIABLES
from sqlalchemy import create_engine, text

from monitor.app import App, open_database
from monitor.config import Config
from monitor.errors import StoreError, SyncLogError

ROOT = Path(__file__).resolve().parents[2]


def by_title(*tables):
    return [pytest.param(mistake, id=mistake.title) for table in tables for mistake in table]


def sentence_of(config_dir, mistake):
    return mistake.sentence.replace("FOLDER", str(config_dir.folder))


@pytest.fixture
def pipeline(config_dir):
    """A sync log beside the configuration."""
    engine = create_engine(f"sqlite:///{config_dir.folder}/pipeline.db")
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)"))
    engine.dispose()


@pytest.mark.parametrize("mistake", by_title(*LINES.values()))
def test_a_mistake_in_the_file_is_one_sentence_with_its_key_and_a_remedy(config_dir, mistake):
    (config_dir.folder / "empty").touch()

    problems = config_dir.problems(config_dir.write(mistake.text, dotenv="EMPTY=\n"))

    assert problems == [sentence_of(config_dir, mistake)]


@pytest.mark.parametrize("mistake", by_title(FILES))
def test_a_file_that_is_no_configuration_is_reported_with_its_path(config_dir, mistake):
    path = config_dir.write() if mistake.name == ".env" else config_dir.folder / "monitor.toml"
    if mistake.content is not None:
        (config_dir.folder / mistake.name).write_bytes(mistake.content)

    assert config_dir.problems(path) == [sentence_of(config_dir, mistake)]


@pytest.mark.parametrize("mistake", by_title(VARIABLES))
@pytest.mark.parametrize("where", ["environment", "dotenv"])
def test_a_mistake_in_a_variable_is_reported_with_the_variable(config_dir, empty_cwd, mistake, where):
    folder = empty_cwd if mistake.file is None else config_dir.folder
    path = config_dir.write(mistake.file) if mistake.file is not None else None
    if where == "dotenv":
        (folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in mistake.variables.items()))

    problems = config_dir.problems(path, mistake.variables if where == "environment" else {})

    assert problems == list(mistake.sentences)


@pytest.mark.parametrize("mistake", by_title(DATABASE))
def test_a_database_that_cannot_be_opened_is_one_sentence(config_dir, mistake):
    config = Config.load(config_dir.write(mistake.text), {})

    with pytest.raises(StoreError) as caught:
        open_database(config)

    assert (str(caught.value), caught.value.exit_code) == (sentence_of(config_dir, mistake), 3)


@pytest.mark.parametrize("mistake", by_title(SYNC_LOG))
def test_a_sync_log_that_cannot_be_read_is_one_sentence(config_dir, pipeline, mistake):
    config = Config.load(config_dir.write(mistake.text), {})
    engine = open_database(config)
    try:
        with pytest.raises(SyncLogError) as caught:
            list(App(config=config, engine=engine).read_log(config.targets[0]))
    finally:
        engine.dispose()

    assert (str(caught.value), caught.value.exit_code) == (sentence_of(config_dir, mistake), 3)


def test_the_files_that_mistakes_are_made_in_have_none(config_dir, pipeline):
    assert Config.load(config_dir.write(GENERIC), {}).targets[0].provider == "generic"
    config = Config.load(config_dir.write(), {})
    engine = open_database(config)
    try:
        assert [list(batch) for batch in App(config=config, engine=engine).read_log(config.targets[0]) if batch] == []
    finally:
        engine.dispose()


def test_the_page_of_mistakes_is_made_from_this_table():
    committed = (ROOT / "docs/mistakes.md").read_text(encoding="utf-8")
    assert committed == mistakes.page(), "python tests/config/mistakes.py docs/mistakes.md"


def test_all_mistakes_are_reported_at_once(config_dir, valid):
    text = valid.replace("#top", 'environment = ""').replace("#schedule", 'every = "x"').replace("#check", "http = 1")
    again = '[[targets]]\nname = "gloo-prod"\nprovider = "gloo"\n'
    path = config_dir.write(text.replace("#end", again), dotenv="MONITOR_ROUTES=[")

    assert config_dir.problems(path, {"MONITOR_CHANNELS": '[{"name": "log", "type": "logg"}]'}) == [
        f"MONITOR_ROUTES {NOT_JSON}",
        "targets[1].name repeats the name of targets[0]: give each a name of its own",
        "environment must be printable text, and not blank",
        'schedule.every must be a duration such as "30s", "5m" or "1h30m"',
        'targets[0].check.http must be "fast" or "httpx"',
        "targets[1].publisher_id is missing: give the id of the publisher whose items are watched",
        'targets[1].auth is missing: give the credentials, as in auth = { client_id = "…", client_secret_file = "…" }',
        'channels.log.type in MONITOR_CHANNELS is not a known value; did you mean "log"?',
    ]


@pytest.mark.parametrize("file", ["monitor.toml", ".env"])
def test_a_file_beyond_all_sense_is_not_read(config_dir, file):
    path = config_dir.write(dotenv="")
    os.truncate(config_dir.folder / file, (1 << 20) + 1)

    assert config_dir.problems(path) == [f"{config_dir.folder / file} is larger than 1 MiB: name a configuration file"]


def test_a_folder_is_no_file(config_dir):
    assert config_dir.problems(config_dir.folder) == [
        f"{config_dir.folder} can't be read (Is a directory): mend the path or its permissions"
    ]


@pytest.mark.parametrize("content", ["a = " + "[" * 100_000, '[targets."\\u0000'], ids=["deep", "control characters"])
def test_no_syntax_error_quotes_the_file(config_dir, content):
    (problem,) = config_dir.problems(config_dir.write(content))

    assert problem.startswith(f"{config_dir.folder}/monitor.toml is not valid TOML ")
    assert problem.endswith(mistakes.NOT_TOML)


def test_json_that_nests_too_deeply_is_no_json(config_dir):
    assert config_dir.problems(config_dir.write(), {"MONITOR_TARGETS": "[" * 100_000}) == [
        f"MONITOR_TARGETS {NOT_JSON}"
    ]


def test_a_mistake_on_the_command_line_is_reported_with_its_key(config_dir):
    problems = config_dir.problems(config_dir.write(), {"MONITOR_SCHEDULE__EVERY": "9d"}, schedule={"every": "8d"})

    assert problems == ["schedule.every must be between 1s and 7d"]


def test_the_same_key_of_another_table_is_no_option_of_a_later_version(config_dir, valid):
    (problem,) = config_dir.problems(config_dir.write(valid.replace("#schedule", 'by = "group"')))

    assert problem == "schedule.by is not a known key; known here: cron, every, timezone, jitter"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution whose provider can't even be imported."""
    metadata = tmp_path / "site/acme_monitor-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-monitor\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[ingestion_monitor.providers]\nacme = no_such_module:Provider\n")
    monkeypatch.syspath_prepend(metadata.parent)
    assert entry_points(group="ingestion_monitor.providers").names == {"acme"}


def test_an_installed_provider_may_be_named_and_is_not_imported(config_dir, installed):
    text = GENERIC.replace('"generic"', '"acme"').replace('item = { path = "/documents/{item_id}" }', "")
    acme = text.replace("#target", 'options = { region = "eu" }')

    (target,) = Config.load(config_dir.write(acme), {}).targets

    assert (target.provider, target.options) == ("acme", {"region": "eu"})
    assert config_dir.problems(config_dir.write(acme.replace('"acme"', '"acne"'))) == [
        'targets.docs.provider is not a known provider; did you mean "acme"?'
    ]
    assert config_dir.problems(config_dir.write(acme.replace("options", "list").replace("region", "path"))) == [
        'targets.docs.list.path must begin with one "/" and hold neither spaces nor "#": escape them as %20 and %23'
    ]
    assert config_dir.problems(config_dir.write(acme.replace("options", "headers"))) == [
        "targets.docs.headers has no meaning for acme, only for generic: remove it"
    ]


def test_a_status_may_be_left_to_an_installed_provider(config_dir, installed):
    text = GENERIC.replace('"generic"', '"acme"').replace('item = { path = "/documents/{item_id}" }', "")
    bare = text.replace('statuses = { completed = ["done"] }', "").replace('auth = { api_key = "s3cret" }', "")

    (target,) = Config.load(config_dir.write(bare), {}).targets

    assert (target.statuses, target.auth, target.item) == ({}, None, None)


def test_client_credentials_of_an_installed_provider_may_leave_their_endpoint_to_it(config_dir, installed):
    text = GENERIC.replace('"generic"', '"acme"').replace('item = { path = "/documents/{item_id}" }', "")

    (target,) = Config.load(config_dir.write(text.replace('auth = { api_key = "s3cret" }', AUTH)), {}).targets

    assert (target.auth.token_path, target.auth.scope) == (None, None)


def test_no_sentence_holds_a_secret(config_dir):
    sentences = []
    for mistake in (mistake for table in LINES.values() for mistake in table):
        with suppress(AssertionError):
            sentences += config_dir.problems(config_dir.write(mistake.text))

    assert sentences
    assert [sentence for sentence in sentences if "s3cret" in json.dumps(sentence)] == []
