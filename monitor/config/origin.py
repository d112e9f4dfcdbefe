"""Where a setting came from. Pure. It holds names and places, never values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

Loc = tuple[str | int, ...]
"""The location of a setting: `("targets", 0, "check", "deadline")`."""


class SettingSource(StrEnum):
    """The sources of settings; later ones win."""

    DEFAULT = "default"
    PRESET = "preset"
    FILE = "file"
    DOTENV = "dotenv"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one setting came from: the name of the file or variable, and the path of the file with the secret."""

    source: SettingSource
    name: str | None = None
    variables: tuple[str, ...] = ()
    """The variables in `${NAME}`: `GLOO_CLIENT_ID in .env`."""
    secret_file: str | None = None

    def __str__(self) -> str:
        """As in `config show`: `monitor.toml, with GLOO_CLIENT_ID in .env`."""
        words = _WORDS[self.source].format(name=self.name)
        if self.variables:
            words += f", with {' and '.join(self.variables)}"
        if self.secret_file is not None:
            words += f", from {self.secret_file}"
        return words


_WORDS: Mapping[SettingSource, str] = {
    SettingSource.DEFAULT: "default",
    SettingSource.PRESET: "preset {name}",
    SettingSource.FILE: "{name}",
    SettingSource.DOTENV: "{name} in .env",
    SettingSource.ENVIRONMENT: "{name} in the environment",
    SettingSource.FLAG: "command line",
}

DEFAULT = Origin(source=SettingSource.DEFAULT)


def origin_of(loc: Loc, origins: Mapping[Loc, Origin]) -> Origin:
    """The origin of a setting, or of the table or list that contains it; else the default."""
    for length in range(len(loc), 0, -1):
        if found := origins.get(loc[:length]):
            return found
    return DEFAULT


def iter_settings(value: object, loc: Loc = (), *, enter_lists: bool = False) -> Iterator[tuple[Loc, object]]:
    """Every single setting in unvalidated data, with its location. Without `enter_lists`, a list is one setting."""
    inner: Mapping[str, object] | dict[int, object] = value if isinstance(value, Mapping) else {}
    if enter_lists and isinstance(value, list) and any(isinstance(row, Mapping) for row in value):
        inner = dict(enumerate(value))
    if not inner:
        yield loc, value
    for key, part in inner.items():
        yield from iter_settings(part, (*loc, key), enter_lists=enter_lists)
