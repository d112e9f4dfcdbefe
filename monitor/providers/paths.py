"""Dotted paths into JSON values (`data.status`, `documents.0.state`), and the texts of what stands there. Pure.

A path joins names of object members and numbers (from 0) of array elements by dots; empty, it is the value itself. A
member whose own name has a dot can't be reached. `*` stands for every element of an array or every value of an object.
"""

import re

EACH = "*"
NULL = "null"
"""What a description calls a value that is null."""

_MAX_INTEGER = 1 << 63
_OTHER_NOTATION = re.compile(r"^\$(?:\.|\[|$)|\[(?:\d+|\*|\"[^\"]*\"|'[^']*')?\]|^/")
"""How JSONPath, jq and JSON Pointer write places; as a member's name nobody means it."""


class JsonPath:
    """A dotted path without `*`, split once: it is followed for every item."""

    __slots__ = ("_member", "_steps", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._member = text if text and "." not in text else None
        self._steps = tuple((step, _index(step)) for step in text.split(".")) if text else ()

    def find(self, value: object) -> object:
        """The value at the path; None if there is none or it is null."""
        if self._member is not None and isinstance(value, dict):
            return value.get(self._member)
        for name, index in self._steps:
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and index is not None:
                value = value[index] if index < len(value) else None
            else:
                return None
        return value


def _index(step: str) -> int | None:
    return int(step) if step.isascii() and step.isdigit() and len(step) < len(str(_MAX_INTEGER)) else None


def value_at(value: object, path: str) -> object:
    """The value at a path without `*`; None if there is none or it is null."""
    return JsonPath(path).find(value)


def split_each(path: str) -> tuple[str, bool, str]:
    """The path before its first `*`, whether it has one, and the path behind it, from the element on."""
    steps = path.split(".")
    if EACH not in steps:
        return path, False, ""
    at = steps.index(EACH)
    return ".".join(steps[:at]), True, ".".join(steps[at + 1 :])


def elements(value: object) -> list[object] | None:
    """The elements of an array or the values of an object; None for anything else."""
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, dict) else None


def is_null(value: object, path: str) -> bool:
    """Whether the path leads to null, or over a null on its way: the value is not there *yet*, and not misspelt."""
    for step in path.split(".") if path else ():
        if value is None:
            return True
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and (index := _index(step)) is not None and index < len(value):
            value = value[index]
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


def word_text(value: object) -> str | None:
    """The text of a word as a description or an API writes it: also null, and other numbers; None: no scalar."""
    if value is None:
        return NULL
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _MAX_INTEGER else repr(value)
    return scalar_text(value)


def path_problem(path: str, *, each: bool = False, whole: bool = False) -> str | None:
    """What is wrong with a dotted path of a description, as a predicate ("must …"); None if it is valid.

    `each`: it may have one `*`. `whole`: it may be empty, for the value itself.
    """
    if "{" in path or "}" in path:
        return (
            'must be a place in the JSON body, such as "status" or "data.status", and no placeholder: for a status '
            "under a key that is the id, set keyed = true"
        )
    if _OTHER_NOTATION.search(path):
        return (
            'must be names and positions joined by dots, such as "data.status" or "documents.0.status": no "$.", no '
            "brackets, no slash in front"
        )
    steps = path.split(".")
    if not (path or whole) or (path and not all(step.strip() for step in steps)):
        return 'must be names joined by dots, such as "status" or "data.status"'
    stars = steps.count(EACH)
    if stars and not each:
        return 'must lead to one place: "*" (every element) may stand only in status, reason, message and conditions'
    if stars > 1:
        return 'has more than one "*": name the elements of one array'
    if not stars and any(EACH in step for step in steps):
        return 'must have "*" as a whole step, as in "documents.*.status"'
    return None
