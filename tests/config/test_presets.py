"""Presets under the user's target: what is merged, what is missing, and where each setting came from."""

import json
import tomllib

import pytest

from monitor.app import build_provider, validate_providers
from monitor.app.app import _description
from monitor.config import load_config
from monitor.config.effective import effective_settings, format_toml
from monitor.config.examples import example_target
from monitor.config.json_schema import json_schema
from monitor.providers.preset import AUTH_KINDS, find_preset, parse_preset, preset_names
from monitor.providers.registry import is_described

OPENAI = """
[[targets]]
name = "store"
provider = "openai"
params = { vector_store_id = "vs_1" }
auth = { api_key = "s3cret" }
"""


def filled_in(name):
    """The example of a preset, with a value for each variable."""
    example = example_target(find_preset(name))
    values = {each: "https://engine.example/api" if each == example.url_variable else "x" for each in example.variables}
    return example.toml, values


@pytest.fixture
def load(config_dir):
    def loaded(text, **environ):
        return load_config(config_dir.write(text), environ)

    return loaded


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_makes_a_provider_from_the_target_that_is_shown_to_paste(load, name):
    toml, values = filled_in(name)

    config = load(toml, **values)

    validate_providers(config.targets)
    (target,) = config.targets
    assert build_provider(target).name == name


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_what_a_person_must_know(name):
    preset = find_preset(name)

    assert preset.title
    assert "\n" not in preset.title
    assert preset.id
    assert not preset.id.endswith(".")
    assert preset.auth_kind in AUTH_KINDS
    assert preset.auth.keys() <= {"header", "scheme", "token_path", "scope", "service"}
    assert all(about and not about.endswith(".") for about in preset.params.values())


@pytest.mark.parametrize("name", [name for name in preset_names() if find_preset(name).params])
def test_each_missing_parameter_is_named_with_what_it_is(config_dir, name):
    toml, values = filled_in(name)
    lines = [line for line in toml.splitlines() if not line.startswith(("params = ", "publisher_id = "))]

    problems = config_dir.problems(config_dir.write("\n".join(lines)), values)

    wanted = {
        f"targets.{name}.{'' if param == 'publisher_id' else 'params.'}{param} is missing: give {about}"
        for param, about in find_preset(name).params.items()
        if is_described(name)
    }
    assert wanted <= {*problems}


def test_the_users_keys_win_and_the_rest_is_the_presets(load):
    (target,) = load(
        OPENAI + 'item = { path = "/v2/{vector_store_id}/{item_id}" }\nlist = { page = { size = 7 } }'
    ).targets

    assert (target.item.path, target.item.id) == ("/v2/{vector_store_id}/{item_id}", "id")
    assert (target.list_.page.size, target.list_.page.next) == (7, "last_id")
    assert target.base_url == "https://api.openai.com/v1"


def test_arrays_replace_and_a_status_that_the_target_names_moves(load):
    (target,) = load(OPENAI + 'statuses = { completed = ["completed", "CANCELLED"] }').targets

    assert target.statuses["completed"] == ("completed", "CANCELLED")
    assert target.statuses["failed"] == ("failed",)


def test_a_preset_is_not_changed_by_the_target_that_uses_it(load):
    before = json.dumps(find_preset("openai").settings)
    load(OPENAI + "[targets.list.page]\nsize = 7")

    assert json.dumps(find_preset("openai").settings) == before


def test_config_show_says_what_comes_from_the_preset(load):
    config = load(OPENAI + 'item = { reason = "last_error.message" }')

    shown = format_toml(effective_settings(config.describe(), config.origins))
    origins = {each.key: str(each.origin) for each in effective_settings(config.describe(), config.origins)}
    assert origins["targets[0].base_url"] == "preset openai"
    assert origins["targets[0].statuses.failed"] == "preset openai"
    assert origins["targets[0].list.page.size"] == "preset openai"
    assert origins["targets[0].item.reason"] == "monitor.toml"
    assert origins["targets[0].item.method"] == "default"
    assert origins["targets[0].errors[0].cause"] == "preset openai"
    assert tomllib.loads(shown)["targets"][0]["list"]["page"]["by"] == "cursor"


def test_an_unknown_provider_is_answered_with_those_that_are_known(config_dir):
    (problem,) = config_dir.problems(config_dir.write(OPENAI.replace('"openai"', '"openapi"')))

    assert problem.startswith('targets.store.provider is not a known provider; did you mean "openai"?')
    assert [name for name in (*preset_names(), "generic") if f'"{name}"' not in problem] == []
    assert json_schema()["$defs"]["TargetConfig"]["properties"]["provider"]["anyOf"][0]["enum"][-1] == "generic"


@pytest.mark.parametrize("auth", [
    'auth = { api_key = "s3cret" }', "", 'auth = { user = "me", password = "s3cret" }',
])  # fmt: skip
def test_an_api_of_ones_own_host_needs_no_credentials(load, auth):
    text = OPENAI.replace('auth = { api_key = "s3cret" }', 'base_url = "http://127.0.0.1:8321/v1"\n' + auth)

    (target,) = load(text).targets

    assert (target.auth is None) == (not auth)


ABOUT = """
[about]
title = "Acme"
id = "its id"
[about.auth]
kind = "{kind}"
{auth}
[statuses]
completed = ["done"]
[item]
path = "/{{tenant}}/{{item_id}}"
"""


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A preset of the test's own."""

    def made(kind, auth=""):
        preset = parse_preset("acme", ABOUT.format(kind=kind, auth=auth))
        for module in ("monitor.config.descriptions", "monitor.providers.registry"):
            monkeypatch.setattr(f"{module}.find_preset", lambda name: preset if name == "acme" else None)
        monkeypatch.setattr("monitor.providers.registry.preset_names", lambda: ("acme",))
        return preset

    return made


ACME = '[[targets]]\nname = "t"\nprovider = "acme"\nbase_url = "https://api.example"\nparams = { tenant = "a" }\n'


@pytest.mark.parametrize(("kind", "auth", "given", "expected"), [
    ("api_key", 'header = "X-API-Key"', '{ api_key = "s3cret" }', {"header": "X-API-Key", "scheme": ""}),
    ("api_key", 'scheme = "Token"', '{ api_key = "s3cret" }', {"header": "Authorization", "scheme": "Token"}),
    ("api_key", 'scheme = "Token"', '{ api_key = "s3cret", header = "X-Key" }', {"header": "X-Key", "scheme": ""}),
    ("api_key", 'scheme = "Token"', '{ api_key = "s3cret", scheme = "" }', {"header": "Authorization", "scheme": ""}),
    ("client_credentials", 'token_path = "/token"\nscope = "read"', '{ client_id = "i", client_secret = "s3cret" }',
     {"token_path": "/token", "scope": "read"}),
    ("password", "", '{ user = "i", password = "s3cret" }', {"user": "i"}),
])  # fmt: skip
def test_a_presets_form_of_credentials_is_the_default(load, acme, kind, auth, given, expected):
    acme(kind, auth)

    (target,) = load(f"{ACME}auth = {given}").targets

    assert target.auth.model_dump(include=expected.keys()) == expected


@pytest.mark.parametrize(("kind", "remedy"), [
    ("api_key", "auth = { api_key_file ="), ("client_credentials", "auth = { client_id ="),
    ("password", "auth = { user ="),
])  # fmt: skip
def test_missing_credentials_are_asked_for_in_the_form_that_the_api_takes(config_dir, acme, kind, remedy):
    acme(kind)

    (problem,) = config_dir.problems(config_dir.write(ACME))

    assert problem.startswith("targets.t.auth is missing: give ")
    assert remedy in problem


def test_an_api_without_credentials_needs_none(load, acme):
    acme("none")

    assert load(ACME).targets[0].auth is None


def test_a_preset_with_another_kind_of_credentials_is_refused():
    with pytest.raises(ValueError, match="must be one of api_key, client_credentials"):
        parse_preset("acme", ABOUT.format(kind="signature", auth=""))


ROWS = """
[[targets]]
name = "docs"
provider = "generic"
base_url = "https://api.example"
statuses = { completed = ["done"] }
item = { path = "/{store}/{item_id}" }
list = { path = "/{store}" }
#target
[targets.sync_log]
url = "sqlite:///pipeline.db"
param_columns = { store = "collection" }
"""


def test_a_list_that_needs_a_parameter_of_each_row_is_not_used(load):
    (target,) = load(ROWS).targets

    assert _description(target).keys() == {"headers", "uuid_ids", "item"}


@pytest.mark.parametrize(("wrote", "key", "fix"), [
    ('check = { strategy = "list" }', "check.strategy", 'use "items"'),
    ('params = { store = "s" }', "sync_log.param_columns.store", "keep one of them"),
    ('list = { path = "/{store}" }', "sync_log.param_columns.store", "set it in params instead"),
    ('item = { path = "/{store}?ids={item_ids}", batch = 9, id = "id" }', "item.batch", "remove it"),
    ('item = { path = "/{item_id}", result = { when = ["x"], path = "/{store}/{item_id}" } }', "item.result.path",
     "set it in params instead"),
    ('item = { path = "/{item_id}" }\nlist = { path = "/" }', "sync_log.param_columns.store", "remove it"),
])  # fmt: skip
def test_what_a_parameter_of_each_row_can_not_do_is_refused(config_dir, wrote, key, fix):
    given = {line.partition(" ")[0] for line in wrote.splitlines()}
    item, list_ = 'item = { path = "/{store}/{item_id}" }\n', 'list = { path = "/{store}" }\n'
    text = ROWS.replace("#target", wrote)
    text = text.replace(item, "", int("item" in given or "list" in given)).replace(
        list_, "", int(bool(given - {"params", "check"}))
    )
    if wrote.startswith("list"):
        assert "item = " not in text

    problems = config_dir.problems(config_dir.write(text))

    (problem,) = [each for each in problems if each.startswith(f"targets.docs.{key} ")]
    assert fix in problem


def test_words_of_any_json_type_and_the_state_not_found_are_statuses(load):
    text = ROWS.replace('["done"] }', '["done", 1, true, "null"], failed = [0.5, 2.0, false], not_found = ["GONE"] }')

    (target,) = load(text).targets

    assert dict(target.statuses) == {
        "completed": ("done", "1", "true", "null"), "failed": ("0.5", "2", "false"), "not_found": ("GONE",),
    }  # fmt: skip


def test_a_column_has_at_most_a_thousand_values(config_dir):
    values = ", ".join(map(str, range(1001)))

    problems = config_dir.problems(config_dir.write(f"{ROWS}where = {{ status = [{values}] }}"))

    (problem,) = [each for each in problems if each.startswith("targets.docs.sync_log.where ")]
    assert 'gives the column "status" over 1000 values: let a view choose the rows instead' in problem


def test_names_of_the_api_that_look_like_files_of_secrets_stay_as_they_are(load):
    body = 'item = { method = "POST", path = "/{store}", body = { input_file = "{item_id}" } }'

    (target,) = load(ROWS.replace('item = { path = "/{store}/{item_id}" }', body)).targets

    assert target.item.body == {"input_file": "{item_id}"}
