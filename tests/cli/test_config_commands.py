import json
import tomllib

import pytest

from monitor.cli import main
from monitor.config.json_schema import json_schema


def test_check_lists_what_is_configured(small_world, here):
    checked = here(small_world, "config", "check")

    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == (
        f"{small_world.config_path}: no problems found\n  targets:  gloo\n  channels: none: messages go to the log\n"
    )


def test_check_builds_the_provider_of_every_target(small_world, here, tmp_path, monkeypatch):
    metadata = tmp_path / "site/acme_monitor-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-monitor\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[ingestion_monitor.providers]\nacme = no_such_module:Provider\n")
    monkeypatch.syspath_prepend(metadata.parent)
    acme = '[[targets]]\nname = "{}"\nprovider = "acme"\nbase_url = "https://api.example"\n'
    small_world.configure(more=acme.format("one") + acme.format("two"))

    checked = here(small_world, "config", "check")

    assert (checked.returncode, checked.stdout) == (2, "")
    errors = checked.stderr.splitlines()
    assert [line.startswith("error: targets.") and "acme-monitor" in line for line in errors] == [True, True]


TARGETS = """\
[[targets]]
name = "one"
provider = "openai"
auth = { api_key = "k" }

[[targets]]
name = "two"
provider = "generic"
base_url = "https://api.example"
statuses = { completed = ["done"] }

[targets.item]
path = "/{item_id}"
result = { when = ["done"], path = "/r/{item_id}", reason = "a.*" }
"""


@pytest.mark.parametrize(("text", "expected"), [
    (TARGETS, [("targets.one.params.vector_store_id is missing: give the store", 1)]),
    (TARGETS.partition("\n\n")[2], [('targets.two.item.result.reason may have "*" only where', 9)]),
    (TARGETS.replace("auth = {", "auht = {"), [
        ("targets.one.params.vector_store_id is missing", 1), ("targets.one.auth is missing", 1),
        ("targets.one.auht is not a known key", 4),
    ]),
])  # fmt: skip
def test_check_names_key_and_line_of_each_problem(tmp_path, monkeypatch, capsys, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "monitor.toml").write_text(text)

    code = main(["config", "check", "--json"])

    problems = json.loads(capsys.readouterr().out)["problems"]
    assert (code, len(problems)) == (2, len(expected))
    for words, line in expected:
        (problem,) = [each for each in problems if each.startswith(words)]
        assert problem.endswith(f" (monitor.toml, line {line})")


def test_check_reports_services_that_apprise_does_not_know(small_world, here):
    phone = '[[channels]]\nname = "phone"\ntype = "apprise"\nurl = "{}"\n'
    small_world.configure(more=phone.format("ntfy://s3cret-topic"))
    assert here(small_world, "config", "check").returncode == 0

    small_world.configure(more=phone.format("nonsense://s3cret"))
    checked = here(small_world, "config", "check")
    assert (checked.returncode, checked.stdout) == (2, "")
    assert checked.stderr.startswith("error: channels.phone.url names no service that Apprise knows")
    assert "s3cret" not in checked.stderr


def test_show_prints_effective_settings_as_toml_with_origins(small_world, here):
    shown = here(small_world, "config", "show")

    assert shown.returncode == 0
    read = tomllib.loads(shown.stdout)
    assert read["environment"] == "test"
    assert read["targets"][0]["sync_log"]["submitted_at_column"] == "uploaded_at"
    assert shown.stdout.startswith(f"# {small_world.config_path}\n")
    assert 'environment = "test"                        # monitor.toml\n' in shown.stdout
    assert small_world.sandbox.settings.client_secret not in shown.stdout


def test_show_as_json_is_one_object(small_world, here):
    value = json.loads(here(small_world, "config", "show", "--json").stdout)

    assert (value["file"], value["warnings"]) == (str(small_world.config_path), [])
    settings = {row.pop("key"): row for row in value["settings"]}
    assert settings["environment"] == {"value": "test", "source": "file", "origin": "monitor.toml"}
    assert settings["targets[0].check.concurrency"] == {"value": 32, "source": "default", "origin": "default"}
    assert settings["database"]["value"] == "**********"


def test_show_reports_every_problem_like_check(small_world, here):
    small_world.configure(check='deadline = "soon"')

    shown = here(small_world, "config", "show", "--json")

    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == 'error: targets.gloo.check.deadline must be a duration such as "30s", "5m" or "1h30m"\n'


def test_schema_is_json_on_stdout(capsys):
    assert main(["config", "schema"]) == 0

    assert json.loads(capsys.readouterr().out) == json_schema()


def test_schema_can_be_written_to_a_file(capsys, tmp_path):
    file = tmp_path / "monitor.schema.json"

    assert main(["config", "schema", "--output", str(file)]) == 0

    assert json.loads(file.read_text(encoding="utf-8")) == json_schema()
    assert "#:schema ./monitor.schema.json" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["no/such/folder/x.json", "."])
def test_an_unwritable_path_is_reported(capsys, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)

    assert main(["config", "schema", "--output", where]) == 3

    assert capsys.readouterr().err.startswith(f"error: {where} can't be written (")
