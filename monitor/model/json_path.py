"""A path to one value in a JSON document: `$`, members and positions, such as `$.result.ids[0]`. Pure.

It is the part of JSONPath (RFC 9535) that names at most one value. Wildcards, slices and filters are refused.
"""

import re
from collections.abc import Sequence

import msgspec

JsonPath = tuple[str | int, ...]
"""Members and positions from the root; empty for the whole document."""

_STEP = re.compile(
    r"""\.(?P<member>[^\s.\[\]"'*()?@$,:]+)|\[(?P<index>0|[1-9]\d{0,8})\]"""
    r"""|\[(?P<quoted>"(?:[^"\\]|\\.)+"|'[^'\\]+')\]""",
    re.ASCII,
)


def parse_json_path(path: str) -> JsonPath:
    """The steps of a path. Raises ValueError, whose text is a predicate ("must …"), if it is no such path."""
    problem = ValueError('must be "$" with members and positions, such as "$.item_id", "$.ids[0]" or "$[\'file id\']"')
    if not path.startswith("$"):
        raise problem
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise problem
        steps.append(_read_step(step, problem))
        position = step.end()
    return tuple(steps)


def _read_step(step: re.Match[str], problem: ValueError) -> str | int:
    if step["index"]:
        return int(step["index"])
    if step["member"]:
        return step["member"]
    quoted = step["quoted"]
    if quoted.startswith("'"):
        return quoted[1:-1]
    try:
        return msgspec.json.decode(quoted, type=str)
    except msgspec.DecodeError:
        raise problem from None


def look_up(document: object, path: JsonPath) -> object:
    """The value at a path of decoded JSON; None if it is null, or if there is nothing."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(document, dict):
                return None
            document = document.get(step)
        else:
            if not isinstance(document, Sequence) or isinstance(document, str) or step >= len(document):
                return None
            document = document[step]
    return document
