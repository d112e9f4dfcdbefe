"""Dotted paths into JSON values (`data.status`, `documents.0.state`), and request paths from templates. Pure.

A value put into a request path can change neither host, path nor query: it is escaped to one segment or one value.
"""

import re
from collections.abc import Collection, Mapping
from urllib.parse import quote

from monitor.model.http import is_valid_path

_MAX_INTEGER = 1 << 63
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_UNRESERVED = re.compile(r"[A-Za-z0-9_~-]+")


def template_problem(template: str, *, required: str | None, known: Collection[str]) -> str | None:
    """What is wrong with a template such as `/documents/{item_id}`, as a predicate ("must …"); None if it is valid.

    It must contain the placeholder `required` exactly once, and none that is not in `known`.
    """
    names = _PLACEHOLDER.findall(template)
    if not template.startswith("/"):
        return "must begin with a slash: it is appended to base_url"
    if required is not None and names.count(required) != 1:
        return f"must contain {{{required}}} exactly once, in place of the id"
    unknown = sorted(set(names) - set(known))
    if unknown:
        return f"contains {{{unknown[0][:60]}}}, which the target does not set: write the value itself"
    if not is_valid_path(_PLACEHOLDER.sub("x", template)):
        return "must be a valid URL path: other characters escaped, no dot segments, no fragment"
    return None


def escape(value: str) -> str:
    """The value as one path segment or query value: everything but letters, digits and `-._~` escaped."""
    return value if _UNRESERVED.fullmatch(value) else quote(value, safe="", errors="replace")


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """The template with its placeholders replaced by escaped values."""
    return _PLACEHOLDER.sub(lambda match: escape(values[match[1]]), template)


def with_parameter(path: str, name: str, value: str) -> str:
    """The path with one more query parameter."""
    return f"{path}{'&' if '?' in path else '?'}{quote(name, safe='')}={escape(value)}"


def value_at(value: object, path: str) -> object:
    """The value at the path; None if there is none or it is null.

    The path joins names of object members and numbers (from 0) of array elements by dots; empty for the value itself. A
    member whose own name has a dot can't be reached.
    """
    for step in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < len(str(_MAX_INTEGER)):
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value


def is_null(value: object, path: str) -> bool:
    """Whether the path leads to null, or over a null on its way: the value is not there *yet*, and not misspelt."""
    for step in path.split(".") if path else ():
        if value is None:
            return True
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdigit() and 0 <= int(step[:6]) < len(value):
            value = value[int(step)]
        else:
            return False
    return value is None


def scalar_text(value: object) -> str | None:
    """A text, whole number or boolean as text (`true`, `false`); None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -_MAX_INTEGER < value < _MAX_INTEGER:
        return str(value)
    return None
