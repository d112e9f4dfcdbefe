"""What well-known tools store of their uploads, as data: `monitor/synclog/presets/NAME.toml`, found by name.

A preset fills settings of `[targets.sync_log]` that the user did not give. Each is tested on tables that the tool
itself wrote (`make sync-logs`).
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

_FOLDER = Path(__file__).resolve().parents[1] / "synclog" / "presets"


class SyncLogPreset(msgspec.Struct, frozen=True, kw_only=True):
    """How to read what one tool stores."""

    name: str
    title: str
    """The tool's own name."""
    about: str
    """What the preset is for, and what the user must give beside it."""
    settings: Mapping[str, object] = msgspec.field(default_factory=dict)
    """Settings of `[targets.sync_log]`, as in the file."""


@cache
def preset_names() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@cache
def load_preset(name: str) -> SyncLogPreset:
    """The preset of this name, which is one of `preset_names`. Raises KeyError for any other."""
    if name not in preset_names():
        raise KeyError(name)
    data = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return SyncLogPreset(name=name, title=data["title"], about=data["about"], settings=data["sync_log"])
