"""Where a setting is: found by regular expressions, since `tomllib` keeps no line numbers. Pure."""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitor.config.origin import Loc, Origin, SettingSource, origin_of

_TABLE_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLocation:
    """A setting and where it is."""

    setting: str
    """`targets.gloo.sync_log.table`."""
    where: str | None
    """`monitor.toml, line 12`; None if it is a default and there is no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLocations:
    """The locations of all settings of a configuration."""

    origins: Mapping[Loc, Origin]
    names: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Names of rows: `("targets", 0)` is gloo."""
    file: str | None = None
    lines: Mapping[Loc, int] = field(default_factory=dict)

    def of(self, *loc: str | int) -> SettingLocation:
        """The location of a setting, or where it belongs if it is not set."""
        return SettingLocation(setting=self._key(loc), where=self._where(loc))

    def _key(self, loc: Loc) -> str:
        parts = []
        for depth, part in enumerate(loc):
            if isinstance(part, int):
                named = self.names.get((str(loc[0]), part)) if depth == 1 else None
                parts.append(f".{named}" if named else f"[{part}]")
            else:
                parts.append(f".{part}" if parts else part)
        return "".join(parts)

    def _where(self, loc: Loc) -> str | None:
        origin = origin_of(loc, self.origins)
        if origin.source in {SettingSource.DOTENV, SettingSource.ENVIRONMENT}:
            return str(origin)
        sources = [self._line(loc), *origin.variables]
        if origin.secret_file is not None:
            sources.append(origin.secret_file)
        return ", ".join(each for each in sources if each) or None

    def _line(self, loc: Loc) -> str | None:
        if self.file is None:
            return None
        for length in range(len(loc), 0, -1):
            part = loc[:length]
            line = self.lines.get(part) or self.lines.get((*part[:-1], f"{part[-1]}_file"))
            if line is not None:
                return f"{self.file}, line {line}"
        return self.file


def lines_of(text: str) -> dict[Loc, int]:
    """The lines (from 1) of all tables and keys of a TOML file, except keys inside of values."""
    found: dict[Loc, int] = {}
    rows: Counter[Loc] = Counter()
    table: Loc = ()
    for number, line in enumerate(text.splitlines(), 1):
        if table_header := _TABLE_HEADER.match(line):
            table = _table(_parts(table_header[2]), rows, begins_row=table_header[1] == "[[")
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_parts(key[1])), number)
    return found


def with_lines(problems: Sequence[str], text: str, file: str) -> list[str]:
    """The problems, each with the line of the setting that it begins with, or of the table where it belongs.

    A problem about no setting of the file, such as one about a variable, stays as it is.
    """
    lines = lines_of(text)
    names = _names(text)
    keys: dict[str, int] = {}
    for loc, line in lines.items():
        for named in (names, {}):
            keys.setdefault(SettingLocations(origins={}, names=named).of(*loc).setting, line)
    return [_with_line(problem, keys, file) for problem in problems]


def _with_line(problem: str, keys: Mapping[str, int], file: str) -> str:
    key = problem.partition(" ")[0]
    while key and key not in keys:
        key = key[: max(key.rfind("."), key.rfind("["))] if {".", "["} & set(key) else ""
    return f"{problem} ({file}, line {keys[key]})" if key else problem


def _names(text: str) -> dict[tuple[str, int], str]:
    """The names of rows that have one of their own: `("targets", 0)` is gloo."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}
    rows = {
        (table, position): row["name"]
        for table, value in data.items()
        if isinstance(value, list)
        for position, row in enumerate(value)
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    }
    counts = Counter((table, name) for (table, _), name in rows.items())
    return {place: name for place, name in rows.items() if counts[place[0], name] == 1}


def _table(parts: Loc, rows: Counter[Loc], *, begins_row: bool) -> Loc:
    """The path of a heading, with the position of each row in it."""
    loc: Loc = ()
    for depth, part in enumerate(parts, 1):
        loc = (*loc, part)
        if begins_row and depth == len(parts):
            rows[loc] += 1
        if rows[loc]:
            loc = (*loc, rows[loc] - 1)
    return loc


def _parts(dotted: str) -> Loc:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
