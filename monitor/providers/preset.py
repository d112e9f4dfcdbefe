"""The descriptions of well-known APIs, `presets/NAME.toml`: found by name, read at first use.

A preset is a partial target, which the configuration merges under the user's own, and the table `about`, which says
what a person must know of the API. What the description means is in `generic`.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import msgspec

_SUFFIX = ".toml"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
AUTH_KINDS = ("api_key", "client_credentials", "password", "aws", "none")
"""The credentials that an API needs."""


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One described API."""

    name: str
    title: str
    """One line."""
    docs: str | None = None
    """Its page, relative to the project: `docs/providers/openai.md`."""
    tested: str | None = None
    """What it was tested against, with versions."""
    id: str | None = None
    """What a right id looks like: "the id of an attached file, such as file-abc123"."""
    cannot: str | None = None
    """What the description can't say of this API, as one sentence."""
    params: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The path parameters that a target must set, each with what it is."""
    auth_kind: str = "none"
    """One of `AUTH_KINDS`."""
    auth: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Defaults of `header`, `scheme`, `token_path`, `scope` and `service` in the target's `auth`."""
    settings: Mapping[str, object] = msgspec.field(default_factory=dict)
    """The partial target."""

    @property
    def is_description(self) -> bool:
        """Whether it says how to ask; the others belong to an API that has code of its own."""
        return "item" in self.settings or "list" in self.settings


@cache
def preset_names() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    names = (file.name.removesuffix(_SUFFIX) for file in _folder().iterdir() if file.name.endswith(_SUFFIX))
    return tuple(sorted(name for name in names if _NAME.fullmatch(name)))


@cache
def find_preset(name: str) -> Preset | None:
    """The preset of that name, if there is one."""
    file = _folder().joinpath(f"{name}{_SUFFIX}")
    if not _NAME.fullmatch(name) or not file.is_file():
        return None
    return parse_preset(name, file.read_text(encoding="utf-8"))


def parse_preset(name: str, text: str) -> Preset:
    """A preset from the text of its file. Raises KeyError, TypeError or ValueError if the file is wrong."""
    settings = tomllib.loads(text)
    about = settings.pop("about")
    params, auth = about.pop("params", {}), about.pop("auth", {})
    kind = auth.pop("kind", "none")
    if kind not in AUTH_KINDS:
        raise ValueError(f"about.auth.kind of the preset {name} must be one of {', '.join(AUTH_KINDS)}")
    return Preset(name=name, params=params, auth_kind=kind, auth=auth, settings=settings, **about)


def _folder() -> Traversable:
    return resources.files("monitor.providers").joinpath("presets")
