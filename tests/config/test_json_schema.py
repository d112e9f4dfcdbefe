import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from config.mistakes import AUTH, GENERIC, GLOO, LINES, URL, errors_of
from jsonschema import Draft202012Validator

from monitor.config import Config
from monitor.config.json_schema import json_schema

ROOT = Path(__file__).resolve().parents[2]
WHOLE = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)
SEEN_IN_THE_FILE = re.compile(
    r"is not a known (?:key|value|provider)|is now called (?:for|repeat_interval)|the secret itself|must be (?:text in "
    r'quotes|a whole number|true or false|a table|a list|a number|a rate|above 0|"|[0-9]+ or)'
)
"""Errors about a single key: its name, type or choices."""


@pytest.fixture(scope="module")
def schema():
    return Draft202012Validator(json_schema(["acme"]))  # which one of the documents installs


def whole_files():
    """Every complete configuration in the documents, and the templates."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for number, block in enumerate(WHOLE.findall(path.read_text(encoding="utf-8"))):
            if "[[targets]]" in block and "name =" in block:
                yield pytest.param(block, id=f"{path.relative_to(ROOT)} {number}")
    for name in ("gloo", "generic"):
        text = resources.files("monitor.cli").joinpath("templates", f"{name}.toml").read_text(encoding="utf-8")
        yield pytest.param(text, id=f"the template {name}.toml")


def test_it_is_a_valid_schema():
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("text", [*whole_files(), GLOO, GENERIC])
def test_a_complete_file_is_valid(schema, text):
    assert [error.message for error in schema.iter_errors(tomllib.loads(text))] == []


def test_a_mistake_in_a_single_key_is_invalid(schema, config_dir):
    found = []
    for mistake in (each for table in LINES.values() for each in table):
        _, (problem,) = errors_of(mistake, config_dir.folder)
        by_several_keys = re.search(r"security must be|page.next does not|secret_headers|cause must be", problem)
        if SEEN_IN_THE_FILE.search(problem) and not by_several_keys:
            found.append(mistake)
    assert len(found) > 40
    assert [each.title for each in found if schema.is_valid(tomllib.loads(each.content.decode()))] == []


@pytest.mark.parametrize(
    "written", ['concurrency = "${N}"', 'deadline = "${DEADLINE}"', 'strategy = "${STRATEGY}"', 'http = "${HTTP}"']
)
def test_a_variable_is_valid_for_any_setting(schema, written):
    assert schema.is_valid(tomllib.loads(GLOO.replace("#check", written)))


@pytest.mark.parametrize("duration", ["30s", "5m", "1h30m", "500ms", "0s", "1d2h3m4s5ms"])
def test_durations_are_valid(schema, duration):
    assert schema.is_valid(tomllib.loads(GLOO.replace("#check", f'missing_after = "{duration}"')))


@pytest.mark.parametrize("rate", ["50/s", "0.5/s", "100/m", "33.3/m", "3000/h", "${RATE}"])
def test_rates_are_valid(schema, rate):
    assert schema.is_valid(tomllib.loads(GLOO.replace("#check", f'rate = "{rate}"\nrate_share = 1')))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (AUTH, 'auth = { client_id = "id", client_secret_file = "secret" }'),
        (AUTH, 'auth = { api_key_file = "key" }'),
        (URL, 'url_file = "url"'),
        ("#top", 'database_file = "url"'),
    ],
)
def test_a_secret_may_be_a_file(schema, old, new):
    assert schema.is_valid(tomllib.loads(GLOO.replace(old, new)))


def test_an_installed_provider_is_valid():
    text = tomllib.loads(GENERIC.replace('"generic"', '"acme"').replace('item = { path = "/documents/{item_id}" }', ""))

    assert Draft202012Validator(json_schema(["acme"])).is_valid(text)
    assert not Draft202012Validator(json_schema()).is_valid(text)


def test_every_setting_has_a_description():
    def silent(schema, path=""):
        for name, inner in schema.get("properties", {}).items():
            if len(inner.get("description", "")) < 20:
                yield f"{path}.{name}"
        for name, inner in schema.get("$defs", {}).items():
            yield from silent(inner, name)

    assert list(silent(json_schema())) == []


def test_defaults_are_those_of_the_program():
    properties = json_schema()["$defs"]["CheckConfig"]["properties"]
    made = Config.model_fields["targets"].annotation.__args__[0].model_fields["check"].default

    defaults = {name: field["default"] for name, field in properties.items() if "default" in field}
    assert defaults == made.model_dump(mode="json", exclude_none=True)
