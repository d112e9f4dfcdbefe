"""The examples of the documents are valid, and docs/channels.md has every type."""

import re
import tomllib
from pathlib import Path

import pytest

from monitor.config.channel_settings import CHANNEL_TYPES

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = [
    pytest.param(block, id=f"{name} {number}")
    for name in ("channels.md", "slack.md", "webhook.md")
    for number, block in enumerate(
        re.findall(r"^```toml\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid_settings(example, tmp_path):
    (table,) = tomllib.loads(example)["channels"]
    secrets = {"routing_key_file": "a" * 32, "secret_file": "whsec_" + "A" * 32, "url_file": "https://hooks.example/x"}
    for key in [key for key in table if key.endswith("_file")]:
        file = tmp_path / key
        file.write_text(secrets.get(key, "s3cret"), encoding="utf-8")
        table[key] = str(file)
    assert CHANNEL_TYPES[table["type"]].model_validate(table).name == table["name"]


def test_every_type_has_an_example_and_a_line_in_both_tables():
    text = (DOCS / "channels.md").read_text(encoding="utf-8")
    types = {tomllib.loads(example.values[0])["channels"][0]["type"] for example in EXAMPLES}
    assert types == set(CHANNEL_TYPES)
    assert set(re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE)) == set(CHANNEL_TYPES)
    assert set(re.findall(r"^\| `(\w+)` ", text, re.MULTILINE)) == set(CHANNEL_TYPES)
