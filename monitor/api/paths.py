"""Paths with `{names}`, filled so that no value can change the path: everything in it is escaped. Pure."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from monitor.errors import ConfigError
from monitor.model.http import is_valid_path

Query = Mapping[str, str | int | float | bool | Sequence[str]]
"""What comes behind the `?`."""

_NAME = re.compile(r"\{(\w+)\}")


def build_path(path: str, params: Mapping[str, str], query: Query) -> tuple[str, str]:
    """The template for logs, and the path and query to send. Raises ConfigError if it can't be sent."""
    template = path.partition("?")[0]
    if not path.startswith("/"):
        raise ConfigError([f"the path {template!a} must begin with a slash: it is relative to the target's base_url"])
    missing = sorted({name for name in _NAME.findall(path) if not params.get(name)})
    if missing:
        raise ConfigError([f"the path {template!a} needs {', '.join(missing)}: give them in params"])
    try:
        built = _NAME.sub(lambda match: quote(params[match[1]], safe=""), path)
        if query:
            built += ("&" if "?" in built else "?") + urlencode(
                {name: _text(value) for name, value in query.items()}, doseq=True
            )
    except UnicodeEncodeError:
        raise ConfigError([f"a value for the path {template!a} is no Unicode text"]) from None
    if not is_valid_path(built):
        raise ConfigError(
            [f"the path {template!a} can't be sent: it is too long, or has a dot segment or an unescaped character"]
        )
    return template, built


def _text(value: str | float | bool | Sequence[str]) -> str | Sequence[str]:  # noqa: FBT001  # any value of a query
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str | Sequence) else str(value)
