"""Paths of requests: filled from templates, given query parameters, and safe to send. Pure.

Nothing that is put into a path here can change host, path or query: it is escaped to one segment or one value.
"""

import re
from collections.abc import Collection, Mapping
from urllib.parse import quote

from monitor.model.http import is_valid_path

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_UNRESERVED = re.compile(r"[A-Za-z0-9_~-]+")


def template_problem(template: str, *, required: str | None, known: Collection[str]) -> str | None:
    """What is wrong with a template such as `/documents/{item_id}`, as a predicate ("must …"); None if nothing is.

    Args:
        template: path and query.
        required: the placeholder that it must hold exactly once; None for none.
        known: every placeholder that it may hold.
    """
    names = _PLACEHOLDER.findall(template)
    if not template.startswith("/"):
        return "must begin with a slash: it is appended to base_url"
    if required is not None and names.count(required) != 1:
        return f"must hold {{{required}}} once, where the id belongs"
    unknown = sorted(set(names) - set(known))
    if unknown:
        return f"holds {{{unknown[0][:60]}}}, which the target does not say: write its value instead"
    if not is_valid_path(_PLACEHOLDER.sub("x", template)):
        return "must be a path as it stands in a URL: other characters escaped, no dot segments, no fragment"
    return None


def escape(value: str) -> str:
    """The value as one segment or one value of a query: all but letters, digits and `-._~` escaped."""
    return value if _UNRESERVED.fullmatch(value) else quote(value, safe="", errors="replace")


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """The template with its placeholders replaced by values, escaped."""
    return _PLACEHOLDER.sub(lambda match: escape(values[match[1]]), template)


def with_parameter(path: str, name: str, value: str) -> str:
    """The path with one more query parameter."""
    separator = "&" if "?" in path else "?"
    return f"{path}{separator}{quote(name, safe='')}={escape(value)}"


def without_query(path: str) -> str:
    """The path alone."""
    return path.partition("?")[0]
