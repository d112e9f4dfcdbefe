"""The effective settings with their origins, as data and as TOML. Pure. Secrets are masked before they get here."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from monitor.config.origin import Loc, Origin, origin_of

_WIDTH = 80
_COLUMN = 42  # of the comments, unless a setting is longer
_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One effective setting. `value` is a JSON value that contains no tables."""

    loc: Loc
    value: object
    origin: Origin

    @property
    def key(self) -> str:
        """`targets[0].check.deadline`."""
        path = ""
        for part in self.loc:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
        return path


def effective_settings(config: Mapping[str, object], origins: Mapping[Loc, Origin]) -> tuple[Setting, ...]:
    """Every setting in `Config.describe()`, in order, with its origin from `Config.origins`."""
    settings = _iter_settings(config, ())
    return tuple(Setting(loc=loc, value=value, origin=origin_of(loc, origins)) for loc, value in settings)


def format_toml(settings: Sequence[Setting]) -> str:
    """The settings as TOML; comments show the origins. Fits 80 columns."""
    lines: list[str] = []
    table: Loc | None = None
    for setting in sorted(settings, key=lambda setting: len(setting.loc) > 1):  # stable: top-level settings first
        parent, key = setting.loc[:-1], str(setting.loc[-1])
        if parent != table and parent:
            lines += ["", _format_heading(parent)] if lines else [_format_heading(parent)]
        table = parent
        lines += _format_setting(key, setting)
    return "\n".join(lines)


def _iter_settings(table: Mapping[str, object], parent: Loc) -> Iterator[tuple[Loc, object]]:
    """A table's own settings come before its nested tables, as TOML requires."""
    for key, value in table.items():
        if not _nested_tables(value):
            yield (*parent, key), value
    for key, value in table.items():
        for place, inner in _nested_tables(value):
            yield from _iter_settings(inner, (*parent, key, *place))


def _nested_tables(value: object) -> list[tuple[Loc, Mapping[str, object]]]:
    """The value if it is a table, or the tables in a list, each with its position."""
    if isinstance(value, Mapping):
        return [((), value)]
    rows = enumerate(value) if isinstance(value, list) else ()
    return [((position,), row) for position, row in rows if isinstance(row, Mapping)]


def _format_heading(table: Loc) -> str:
    name = ".".join(_quote_key(part) for part in table if isinstance(part, str))
    return f"[[{name}]]" if isinstance(table[-1], int) else f"[{name}]"


def _format_setting(key: str, setting: Setting) -> list[str]:
    written = f"{_quote_key(key)} = {json.dumps(setting.value, ensure_ascii=False)}"
    line = f"{written:<{_COLUMN}}  # {setting.origin}"
    return [line] if len(line) <= _WIDTH else [f"# {setting.origin}", written]


def _quote_key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
