"""Candidate rules and routes from a file of their own: the configuration as it would be with them.

The same code validates them as in the configuration; each problem says its key and, where it can be found, its line.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from monitor.config.load import parse_toml, read_text
from monitor.config.schema import Config
from monitor.errors import ConfigError

_TABLES = ("rules", "routes")
_KEY = re.compile(r"(rules|routes)\[(\d+)\](?:\.([A-Za-z_]+))?")
_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.\"' -]+?)\s*\]?\]")
_EMPTY = "has neither [[rules]] nor [[routes]]: write at least one such table, as in the configuration"


def load_candidate(path: Path, reload: Callable[[Mapping[str, object]], Config]) -> Config:
    """The configuration with the `[[rules]]` and `[[routes]]` of a file in place of its own.

    A kind of table that the file does not have stays as configured. `reload` reads the configuration again, with
    settings that win over all others.

    Raises:
        ConfigError: every problem of the file, each with its key, its line where it can be found, and a remedy.
    """
    errors: list[str] = []
    text = read_text(path, errors) or ""
    data = parse_toml(path, text, errors)
    if errors:
        raise ConfigError(errors)
    unknown = [key for key in data if key not in _TABLES]
    problems = [f"{key} is not for candidate rules: only [[rules]] and [[routes]] are" for key in unknown]
    if not data:
        raise ConfigError([f"{path} {_EMPTY}"])
    config = None
    try:
        config = reload({key: data[key] for key in _TABLES if key in data})
    except ConfigError as error:
        problems += error.problems
    if problems or config is None:
        raise ConfigError([_placed(problem, path, text) for problem in problems])
    return config


def _placed(problem: str, path: Path, text: str) -> str:
    """A problem with the file, and the line of its key if it can be found."""
    line = _line_of(problem, text.splitlines())
    return f"{path}{f', line {line}' if line else ''}: {problem}"


def _line_of(problem: str, lines: list[str]) -> int | None:
    """The line, from 1, of the key that a problem begins with: of its table, if the key itself is not written."""
    found = _KEY.match(problem)
    if found is None:
        return _first(lines, re.escape(problem.partition(" ")[0]))
    table, row, key = found[1], int(found[2]), found[3]
    headers = [number for number, line in enumerate(lines, 1) if _is_header(line, table)]
    if row >= len(headers):
        return None
    start = headers[row]
    for number, line in enumerate(lines[start:], start + 1):
        if _HEADER.match(line) and not line.lstrip().startswith(f"[{table}."):
            break
        if key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return start


def _is_header(line: str, table: str) -> bool:
    return re.match(rf"\s*\[\[\s*{table}\s*\]\]", line) is not None


def _first(lines: list[str], key: str) -> int | None:
    pattern = re.compile(rf"\s*(\[\[?\s*)?[\"']?{key}\b")
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), None)
