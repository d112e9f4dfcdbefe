import json
import os
import stat
from types import SimpleNamespace

import pytest
import trustme

from monitor.cli import main
from monitor.config import load_config
from monitor.providers.preset import find_preset, preset_names

FILLED_IN = {
    "gloo": {"GLOO_PUBLISHER_ID": "p1", "GLOO_CLIENT_ID": "id", "GLOO_CLIENT_SECRET": "s3cret"},
    "generic": {"API_URL": "https://api.example", "API_ITEM_PATH": "/documents/{item_id}", "API_KEY": "s3cret"},
}


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Commands in an empty working folder, without the developer's own variables."""
    for name in [name for name in os.environ if name.startswith(("MONITOR_", "GLOO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return call


def fill_in(dotenv, values):
    lines = [line + values.get(line.removesuffix("="), "") for line in dotenv.read_text().splitlines()]
    dotenv.write_text("\n".join(lines))


@pytest.mark.parametrize("provider", FILLED_IN)
def test_three_filled_in_lines_make_a_valid_configuration(command, tmp_path, provider):
    made = command("init", "--provider", provider)
    assert made.returncode == 0, made.stderr
    before = command("config", "check")
    fill_in(tmp_path / ".env", FILLED_IN[provider])
    after = command("config", "check")

    assert before.returncode == 2
    missing = before.stderr.splitlines()
    assert len(missing) == len(FILLED_IN[provider])
    for name in FILLED_IN[provider]:
        expected = f"needs the variable {name}, which is empty: give it a value in the environment or in .env"
        assert any(f"{expected} (monitor.toml, line " in line for line in missing), name
        assert name in made.stdout
    assert (after.returncode, after.stderr) == (0, "")
    assert f"{tmp_path / 'monitor.toml'}: no problems found" in after.stdout


def test_it_prints_the_next_step_within_80_columns(command):
    made = command("init")

    assert made.stdout.startswith("wrote monitor.toml\nwrote .env (only you can read it)\n")
    steps = ["Fill in three lines", "ingestion-monitor doctor", "ingestion-monitor items import", "check"]
    places = [made.stdout.index(step) for step in steps]
    assert places == sorted(places)
    assert "--config" not in made.stdout
    assert [line for line in made.stdout.splitlines() if len(line) > 80] == []


def test_only_the_owner_can_read_the_secrets(command, tmp_path):
    mask = os.umask(0)
    try:
        command("init")
    finally:
        os.umask(mask)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {".env": 0o600, "monitor.toml": 0o644, "monitor.schema.json": 0o644}


@pytest.mark.parametrize("name", ["monitor.toml", ".env"])
def test_it_overwrites_a_file_only_if_forced(command, tmp_path, name):
    (tmp_path / name).write_text("MINE=1\n")
    (tmp_path / name).chmod(0o644)

    refused = command("init")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"error: {name} exists already: use another --path, or --force to overwrite it\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "MINE=1\n"

    assert command("init", "--force").returncode == 0
    assert "MINE" not in (tmp_path / name).read_text()
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_a_dangling_link_is_not_overwritten(command, tmp_path):
    (tmp_path / ".env").symlink_to(tmp_path / "elsewhere")

    assert command("init").returncode == 2
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("path", "file"), [("etc/gloo", "etc/gloo/monitor.toml"), ("etc/gloo.toml", "etc/gloo.toml")])
def test_the_path_may_be_a_folder_or_a_file(command, tmp_path, path, file):
    made = command("init", "--path", path)
    fill_in(tmp_path / "etc" / ("gloo/.env" if path == "etc/gloo" else ".env"), FILLED_IN["gloo"])

    assert f"ingestion-monitor check --config {file}" in made.stdout
    assert command("config", "check", "--config", file).returncode == 0


def test_a_folder_that_cannot_be_written_is_named(command, tmp_path):
    (tmp_path / "file").touch()

    refused = command("init", "--path", "file/folder")

    assert refused.returncode == 3
    assert refused.stderr == (
        "error: file/folder/.env can't be written (Not a directory): with --path name a folder that you may write to\n"
    )


def test_force_does_not_replace_a_folder(command, tmp_path):
    (tmp_path / "monitor.toml").mkdir()

    refused = command("init", "--force")

    assert refused.returncode == 3
    assert refused.stderr.startswith("error: monitor.toml can't be written (")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "monitor.toml"]


def test_an_unknown_provider_has_no_template(command, tmp_path):
    refused = command("init", "--provider", "glo")

    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --provider: there are templates for ")
    assert '"gloo"' in refused.stderr
    assert refused.stderr.endswith('or "generic" alone; did you mean "gloo"?\n')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("provider", preset_names())
def test_what_is_written_for_each_preset_is_valid_once_it_is_filled_in(command, tmp_path, provider):
    made = command("init", "--provider", provider, "--json")
    names = json.loads(made.stdout)["fill_in"]
    fill_in(
        tmp_path / ".env", {name: "https://api.example/v1" if name.endswith("_URL") else "s3cret" for name in names}
    )

    checked = command("config", "check")

    assert (checked.returncode, checked.stderr) == (0, "")
    text = (tmp_path / "monitor.toml").read_text()
    assert [param for param in find_preset(provider).params if param not in text] == []
    assert "[targets.sync_log]" in text
    assert max(map(len, text.splitlines())) <= 120
    assert {line.partition("=")[0] for line in (tmp_path / ".env").read_text().splitlines()} >= set(names)


def test_what_is_written_for_a_preset_says_what_its_ids_and_parameters_are(command, tmp_path):
    made = command("init", "--provider", "openai", "--base-url", "http://127.0.0.1:8321/v1")

    text = (tmp_path / "monitor.toml").read_text()
    assert 'base_url = "http://127.0.0.1:8321/v1"' in text
    assert "the store whose files are watched, such as vs_abc123" in text
    assert "# The id of an attached file, such as file-abc123, is what id_column has." in text
    assert "# param_columns = { vector_store_id = " in text
    assert "OPENAI_VECTOR_STORE_ID, OPENAI_API_KEY" in made.stdout


def test_a_key_that_not_every_engine_asks_for_has_a_line_to_uncomment(command, tmp_path):
    command("init", "--provider", "lightrag")
    assert "# LIGHTRAG_API_KEY=" in (tmp_path / ".env").read_text().splitlines()
    assert "${LIGHTRAG_API_KEY}" in (tmp_path / "monitor.toml").read_text()


def test_parameters_by_row_are_offered_only_where_each_row_is_asked_about(command, tmp_path):
    command("init", "--provider", "uppzy")
    assert "param_columns" not in (tmp_path / "monitor.toml").read_text()


@pytest.mark.parametrize("provider", FILLED_IN)
def test_commented_out_settings_are_valid(command, tmp_path, provider):
    """Uncomments each line that looks like a setting, one of several with the same key at a time."""
    command("init", "--provider", provider)
    fill_in(tmp_path / ".env", FILLED_IN[provider])
    lines = (tmp_path / "monitor.toml").read_text().splitlines()
    values = {
        "DATABASE_PASSWORD": "x",
        "SYNC_LOG_URL": "sqlite:///p.db",
        "ONCALL_WEBHOOK_URL": "https://h.example/x",
        "PROXY_URL": "http://user:x@proxy.example:3128",
        "PAGE_TOKEN": "token-of-the-page",
    }
    authority = tmp_path / "corp.pem"
    authority.write_bytes(trustme.CA().cert_pem.bytes())
    lines = [line.replace("/etc/ssl/corp.pem", str(authority)) for line in lines]

    shown, taken = [], set()
    for line in lines:
        setting = line.removeprefix("# ")
        key = setting.partition(" =")[0]
        if setting.startswith("["):
            taken = set()
        commented = line != setting and (setting.startswith("[") or (" = " in setting and key.isidentifier()))
        if commented and key in taken | {"database", "auth", "cron"}:
            continue
        taken.add(key)
        shown.append(setting if commented else line)
    use_postgresql(shown, lines)
    (tmp_path / "monitor.toml").write_text("\n".join(shown))

    config = load_config(tmp_path / "monitor.toml", values)

    (target,) = config.targets
    assert target.sync_log.group_column == "collection"
    assert (config.channels[0].type, config.routes[0].channels) == ("slack", ("oncall",))
    assert (config.rules[0].cause, config.schedule.explicit) == ("items_stuck", True)
    assert config.fleet.workers
    if provider == "gloo":
        assert target.statuses["pending"] == ("RERANKING",)
        assert target.base_url == "http://127.0.0.1:8080"
    else:
        assert (target.list_.page.by, target.item.id) == ("cursor", "id")
        assert (target.item.reason, target.errors[0].cause) == (("error.code",), "unauthorized")


def use_postgresql(shown, lines):
    """Takes the commented database in place of SQLite: the text above `[fleet]` says that workers need it."""
    assert "It needs PostgreSQL as `database` above" in " ".join(lines)
    (place,) = (number for number, line in enumerate(shown) if line.startswith("database = "))
    (shown[place],) = (line.removeprefix("# ") for line in lines if line.startswith("# database = "))


@pytest.mark.parametrize("provider", FILLED_IN)
def test_commented_out_defaults_are_the_defaults(command, tmp_path, provider):
    command("init", "--provider", provider)
    fill_in(tmp_path / ".env", FILLED_IN[provider])
    text = (tmp_path / "monitor.toml").read_text()
    before = load_config(tmp_path / "monitor.toml", {}).describe()["targets"][0]["check"]

    block = text[text.index("# [targets.check]") :].partition("\n\n")[0]
    shown = "\n".join(line.removeprefix("# ") for line in block.splitlines())
    (tmp_path / "monitor.toml").write_text(text.replace(block, shown))

    assert load_config(tmp_path / "monitor.toml", {}).describe()["targets"][0]["check"] == before


def test_the_base_url_can_be_set(command, tmp_path):
    made = command("init", "--base-url", "http://127.0.0.1:8080/")
    fill_in(tmp_path / ".env", FILLED_IN["gloo"])
    assert made.returncode == 0
    (target,) = load_config(tmp_path / "monitor.toml", environ={}).targets
    assert target.base_url == "http://127.0.0.1:8080"


WRONG_ADDRESSES = {
    "plain http": (["--base-url", "http://api.example"], "error: --base-url must use https"),
    "no URL": (["--base-url", "sandbox"], "error: --base-url must be a URL"),
    "an item path for a provider that has its own": (["--item-path", "/x/{item_id}"], "error: --item-path goes with"),
    "an item path without its id": (
        ["--provider", "generic", "--item-path", "/x"],
        "error: --item-path must begin with",
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), WRONG_ADDRESSES.values(), ids=WRONG_ADDRESSES)
def test_a_wrong_address_writes_nothing(command, tmp_path, arguments, expected):
    made = command("init", *arguments)
    assert (made.returncode, made.stderr.startswith(expected)) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_given_for_a_generic_api_need_not_be_filled_in(command, tmp_path):
    given = "--base-url", "https://api.example/v1", "--item-path", "/documents/{item_id}"
    made = command("init", "--provider", "generic", *given)
    assert "Fill in one line of .env:\n     API_KEY\n" in made.stdout
    fill_in(tmp_path / ".env", FILLED_IN["generic"])
    assert command("config", "check").returncode == 0
    (target,) = load_config(tmp_path / "monitor.toml", environ={}).targets
    assert (target.base_url, target.item.path) == ("https://api.example/v1", "/documents/{item_id}")


def test_the_schema_that_the_first_line_names_is_there(command, tmp_path):
    made = json.loads(command("init", "--json").stdout)
    assert made == {
        "written": ["monitor.toml", ".env", "monitor.schema.json"],
        "fill_in": ["GLOO_PUBLISHER_ID", "GLOO_CLIENT_ID", "GLOO_CLIENT_SECRET"],
    }
    named = (tmp_path / "monitor.toml").read_text().splitlines()[0].removeprefix("#:schema ./")
    assert "targets" in json.loads((tmp_path / named).read_text())["properties"]


def test_a_schema_that_is_there_stays(command, tmp_path):
    (tmp_path / "monitor.schema.json").write_text("{}")
    assert "schema" not in command("init").stdout
    assert (tmp_path / "monitor.schema.json").read_text() == "{}"
