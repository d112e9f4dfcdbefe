"""Generates the tables of docs/sync-log.md about well-known tools: `python scripts/sync_log_tables.py FILE`.

One says what each preset fills, the other what each tool stores, as the fixtures of `make sync-logs` show it.
"""

import json
import sys
from itertools import groupby
from pathlib import Path

from support.synclog_fixtures import all_fixtures

from monitor.config.sync_log_presets import load_preset, preset_names

GIVEN_BY_USER = {"preset", "table", "id_column", "submitted_at_column", "group_column"}
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def renewed(document):
    """The document with both tables between their marks."""
    for name, table in (("presets", presets()), ("tools", tools())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        assert document.count(begin) == document.count(end) == 1, f"the document must hold {begin} and {end}, once each"
        before, rest = document.split(begin)
        document = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    return document


def presets():
    found = [load_preset(name) for name in preset_names()]
    rows = [(f"`{each.name}`", fills(each), each.about) for each in found]
    return "\n".join(["| preset | fills | for |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def fills(preset):
    return "<br>".join(f"`{key} = {in_toml(value)}`" for key, value in preset.settings.items())


def in_toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {in_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def tools():
    lines = ["| tool, version | database | what it stores | what reads it |", "|---|---|---|---|"]
    fixtures = sorted(all_fixtures(), key=lambda each: (each.tool.casefold(), each.name))
    for _, group in groupby(fixtures, key=lambda each: (each.tool, each.stores, reads(each))):
        same = list(group)
        databases = ", ".join(dict.fromkeys(DATABASES[each.database] for each in reversed(same)))
        lines.append(f"| {same[0].tool} {same[0].version} | {databases} | {same[0].stores} | {reads(same[0])} |")
    return "\n".join(lines)


def reads(fixture):
    if fixture.refused:
        return "nothing: write a table of your own"
    settings = fixture.sync_log
    told = [f'`preset = "{settings["preset"]}"`'] if "preset" in settings else []
    told += [f"`{key} = {in_toml(value)}`" for key, value in settings.items() if key not in GIVEN_BY_USER]
    return ", ".join(told) or "no preset is needed"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
