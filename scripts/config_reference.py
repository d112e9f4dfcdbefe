"""Generates the reference of all settings in docs/configuration.md from the schema.

`python scripts/config_reference.py FILE` replaces the text between the two marks in the file.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from monitor.config.json_schema import json_schema

BEGIN = "<!-- made from the schema: begin -->"
END = "<!-- made from the schema: end -->"

Json = dict[str, Any]


def reference() -> str:
    """Every table and key of `monitor.toml` as Markdown."""
    schema = json_schema()
    return "\n".join(_section(schema, schema["$defs"], name="", heading="The top of the file"))


def renewed(document: str) -> str:
    """A document with the reference between its marks.

    Raises:
        ValueError: the two marks are not there exactly once.
    """
    if document.count(BEGIN) != 1 or document.count(END) != 1:
        raise ValueError(f"the document must hold {BEGIN} and {END}, once each")
    before, _, rest = document.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str]) -> None:
    """Rewrites the files named."""
    for path in map(Path, arguments):
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


def _section(schema: Json, defs: Json, *, name: str, heading: str, skip: frozenset[str] = frozenset()) -> Iterator[str]:
    yield f"### {heading}"
    yield ""
    if name:
        yield from _wrapped(schema["description"])
        yield ""
    if skip and skip >= schema["properties"].keys():
        return
    yield from _keys(schema, defs, name=name, skip=skip)


def _keys(schema: Json, defs: Json, *, name: str, skip: frozenset[str]) -> Iterator[str]:
    required = {*schema.get("required", ())} | {
        each["required"][0] for rule in schema.get("allOf", ()) for each in rule.get("oneOf", ())
    }
    below = []
    for key, field in schema["properties"].items():
        if key in skip or key.removesuffix("_file") in schema["properties"].keys() - {key}:
            continue  # described once for all types, or with its alternative
        tables = [defs[table] for table in _tables(field, defs)]
        has_file_key = f"{key}_file" in schema["properties"]
        yield from _entry(key, field, defs, required=key in required, has_file_key=has_file_key, table=bool(tables))
        below += [(key, field, table) for table in tables]
    yield ""
    previous = None
    for key, field, table in below:
        path = f"{name}.{key}" if name else key
        if key == "schedule" and name:
            continue  # the same as the common one
        brackets = f"`[[{path}]]`" if field.get("type") == "array" else f"`[{path}]`"
        type_ = _const(table["properties"].get("type", {}))
        if not type_:
            yield from _section(table, defs, name=path, heading=brackets)
            continue
        tables = [other for name_, _, other in below if name_ == key]
        if key != previous:
            yield from _common(tables, defs, heading=brackets)
        previous = key
        yield from _section(table, defs, name=path, heading=f"{brackets} of the type `{type_}`", skip=_shared(tables))


def _shared(tables: list[Json]) -> frozenset[str]:
    """The keys that all types of a table have, with the same meaning, and the type itself."""
    first, *others = (table["properties"] for table in tables)
    return frozenset(key for key in first if key == "type" or all(first[key] == each.get(key) for each in others))


def _common(tables: list[Json], defs: Json, *, heading: str) -> Iterator[str]:
    """The section of the keys that all types have."""
    yield f"### {heading}"
    yield ""
    yield from _wrapped("Each has a `type`, and these keys:")
    yield ""
    for key in sorted(_shared(tables) - {"type"}, key=list(tables[0]["properties"]).index):
        required = all(key in table.get("required", ()) for table in tables)
        yield from _entry(key, tables[0]["properties"][key], defs, required=required, has_file_key=False, table=False)
    types = ", ".join(f"`{_const(table['properties']['type'])}`" for table in tables)
    yield from _wrapped(
        f"**`type`** (one of {types}; required): The kind of receiver. Its other keys are below.", first="- ", rest="  "
    )
    yield ""


def _entry(key: str, field: Json, defs: Json, *, required: bool, has_file_key: bool, table: bool) -> Iterator[str]:
    facts = [] if table else [_kind(field, defs)]
    if has_file_key:
        facts = [f"secret text, or `{key}_file`"]
    if required:
        facts.append("required")
    if field.get("default") not in (None, []):
        facts.append(f"default `{json.dumps(field['default'], ensure_ascii=False)}`")
    about = f" ({'; '.join(facts)})" if facts else ""
    text = f"**`{key}`**{about}: {field['description']}"
    yield from _wrapped(text, first="- ", rest="  ")
    for example in field.get("examples", ()):
        yield f"  Example: `{key} = {_toml(example)}`"


def _tables(field: Json, defs: Json) -> list[str]:
    """The names of the tables that a setting is or contains."""
    items = field.get("items", {})
    parts = [field, items, *field.get("anyOf", ()), *field.get("oneOf", ())]
    parts += [rule.get("then", {}) for rule in items.get("allOf", ())]
    names = [str(part["$ref"]).rpartition("/")[2] for part in parts if "$ref" in part]
    return [name for name in names if "properties" in defs[name]]


def _const(field: Json) -> object:
    """The only value that a setting may have; None if there are others."""
    return next((part["const"] for part in (field, *field.get("anyOf", ())) if "const" in part), None)


def _kind(field: Json, defs: Json) -> str:
    """The permitted values, in words."""
    part = field
    if "$ref" in part:
        part = defs[str(part["$ref"]).rpartition("/")[2]]
    part = next(iter(part.get("anyOf", ())), part)
    if "enum" in part or "const" in part:
        return "one of " + ", ".join(f"`{each}`" for each in part.get("enum", [part.get("const")]))
    if "$comment" in part:
        return f"duration, {part['$comment']}"
    if not isinstance(part.get("type"), str):
        return "text, number or boolean" if "type" in part else "any JSON value"
    if part["type"] == "integer":
        return f"whole number, {part['minimum']} to {part['maximum']}"
    if part["type"] == "number" and "exclusiveMaximum" in part:
        return f"number above {part['exclusiveMinimum']} and below {part['exclusiveMaximum']}"
    if part["type"] == "number":
        return f"number above {part['exclusiveMinimum']}, up to {part['maximum']}"
    return {"boolean": "`true` or `false`", "array": "list", "object": "table"}.get(part["type"], "text")


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, 118, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    main(sys.argv[1:])
