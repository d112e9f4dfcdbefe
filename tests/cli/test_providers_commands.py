"""`providers list` and `providers show`: what is described, and a target that can be pasted as it is printed."""

import json
import tomllib

import pytest

from monitor.cli import main
from monitor.providers.preset import find_preset, parse_preset, preset_names
from monitor.providers.registry import built_in_names
from monitor.reports.providers import limits


@pytest.fixture
def command(capsys):
    def call(*arguments):
        code = main(["providers", *arguments])
        return code, *capsys.readouterr()

    return call


def test_the_list_has_every_api_with_its_parameters(command):
    code, out, _ = command("list")

    lines = {line.split()[0]: line for line in out.splitlines()[1:] if line and not line.startswith("`")}
    assert code == 0
    assert lines.keys() == set(built_in_names())
    assert lines["openai"].endswith("vector_store_id")


def test_the_list_as_json_is_one_object(command):
    _, out, _ = command("list", "--json")

    listed = json.loads(out)
    assert listed["total"] == listed["shown"] == len(listed["providers"])
    rows = {row["name"]: row for row in listed["providers"]}
    assert (rows["openai"]["kind"], rows["openai"]["params"]) == ("built in", ["vector_store_id"])
    assert rows["generic"]["kind"] == "yours"


@pytest.mark.parametrize("name", preset_names())
def test_what_an_api_needs_is_shown_with_a_target_to_paste(command, name):
    code, out, _ = command("show", name)

    preset = find_preset(name)
    assert code == 0
    assert out.startswith(f"{name}: {preset.title}\n")
    assert all(about in " ".join(out.split()) for about in preset.params.values())
    assert preset.id in out
    assert ("base_url: " in out) == ("base_url" not in preset.settings and preset.is_description)
    (target,) = tomllib.loads(out[out.index("[[targets]]") :])["targets"]
    assert (target["name"], target["provider"]) == (name, name)


@pytest.mark.parametrize("name", preset_names())
def test_what_is_shown_as_json_is_the_whole_description(command, name):
    _, out, _ = command("show", name, "--json")

    shown = json.loads(out)
    assert shown["settings"] == json.loads(json.dumps(find_preset(name).settings))
    assert tomllib.loads(shown["example"])["targets"][0]["provider"] == name
    assert all(f"${{{variable}}}" in shown["example"] for variable in shown["variables"])


@pytest.mark.parametrize(
    ("name", "hint"), [("opnai", 'did you mean "openai"'), ("generic", "init --provider generic"), ("../x", "use ")]
)
def test_an_api_without_a_description_is_a_mistake_with_the_known_ones(command, name, hint):
    code, out, err = command("show", name)

    assert (code, out) == (2, "")
    assert hint in err


PRESET = '[about]\ntitle = "Acme"\nid = "its id"\n{}'


@pytest.mark.parametrize(("settings", "words"), [
    ("", "It is code"),
    ('[list]\npath = "/all"\n', "no question for one item"),
    ('[item]\npath = "/{item_id}"\n', "has no list: a run asks about each item."),
    ('[item]\npath = "/{item_id}"\n', "does not say why an item failed"),
    ('[item]\npath = "/?ids={item_ids}"\nbatch = 9\nid = "id"\n', "in batches"),
    ('cannot = "It forgets."\n[item]\npath = "/{item_id}"\n', "It forgets."),
])  # fmt: skip
def test_what_can_not_be_said_of_an_api_is_derived_from_its_description(settings, words):
    assert words in " ".join(limits(parse_preset("acme", PRESET.format(settings))))


@pytest.mark.parametrize("place", ["reason", "message"])
def test_the_words_of_an_api_about_a_failure_are_a_reason_too(place):
    settings = f'[item]\npath = "/{{item_id}}"\n{place} = "why"\n'
    assert "why an item failed" not in " ".join(limits(parse_preset("acme", PRESET.format(settings))))
