"""Where a setting came from, in words and as data. Pure; it holds names and places, never a value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

Loc = tuple[str | int, ...]
"""Where a setting stands: `("targets", 0, "check", "deadline")`."""


class SettingSource(StrEnum):
    """The kinds of places that settings come from, the later winning."""

    DEFAULT = "default"
    FILE = "file"
    DOTENV = "dotenv"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one setting came from."""

    source: SettingSource
    name: str | None = None
    """The file's name, the variable, or None where there is nothing to name."""
    variables: tuple[str, ...] = ()
    """What filled in `${NAME}` in it, each in words: `GLOO_CLIENT_ID in .env`."""
    secret_file: str | None = None
    """The path of the file that holds the secret itself."""

    def __str__(self) -> str:
        """As a comment beside the setting: `monitor.toml, with GLOO_CLIENT_ID in .env`."""
        words = _WORDS[self.source].format(name=self.name)
        if self.variables:
            words += f", with {' and '.join(self.variables)}"
        if self.secret_file is not None:
            words += f", from {self.secret_file}"
        return words


_WORDS: Mapping[SettingSource, str] = {
    SettingSource.DEFAULT: "default",
    SettingSource.FILE: "{name}",
    SettingSource.DOTENV: "{name} in .env",
    SettingSource.ENVIRONMENT: "{name} in the environment",
    SettingSource.FLAG: "command line",
}

DEFAULT = Origin(source=SettingSource.DEFAULT)


def origin_of(loc: Loc, origins: Mapping[Loc, Origin]) -> Origin:
    """The origin of a setting: its own, or that of what it is a part of; what nobody wrote has its default."""
    for length in range(len(loc), 0, -1):
        if found := origins.get(loc[:length]):
            return found
    return DEFAULT


def iter_settings(value: object, loc: Loc = (), *, enter_lists: bool = False) -> Iterator[tuple[Loc, object]]:
    """Every setting in unchecked data that holds no other, with its place.

    A list is one setting; with `enter_lists`, one of tables is entered.
    """
    inner: Mapping[str, object] | dict[int, object] = {}
    if isinstance(value, Mapping):
        inner = value
    elif enter_lists and isinstance(value, list) and any(isinstance(row, Mapping) for row in value):
        inner = dict(enumerate(value))
    if not inner:
        yield loc, value
    for key, part in inner.items():
        yield from iter_settings(part, (*loc, key), enter_lists=enter_lists)
