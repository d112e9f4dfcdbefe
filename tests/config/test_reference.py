from pathlib import Path

import config_reference as reference
import pytest

from monitor.config.json_schema import json_schema

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/configuration.md"


def test_the_reference_in_the_document_matches_the_schema():
    committed = DOCUMENT.read_text(encoding="utf-8")

    assert committed == reference.renewed(committed), "make docs"


def test_the_reference_has_every_key_of_every_table():
    text = reference.reference()
    schema = json_schema()
    keys = [key for table in [schema, *schema["$defs"].values()] for key in table.get("properties", ())]

    assert [key for key in keys if f"`{key}`" not in text] == []


def test_only_the_text_between_the_marks_is_replaced(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(f"before\n{reference.BEGIN}\nold\n{reference.END}\nafter\n", encoding="utf-8")

    reference.main([str(file)])

    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{reference.BEGIN}\n\n### ")
    assert text.endswith(f"{reference.END}\nafter\n")
    assert reference.renewed(text) == text


@pytest.mark.parametrize("text", ["", reference.BEGIN, f"{reference.BEGIN}{reference.END}{reference.END}"])
def test_a_document_without_its_marks_is_refused(text):
    with pytest.raises(ValueError, match="once each"):
        reference.renewed(text)
