"""Requests from templates: a path such as `/documents/{item_id}`, and a JSON body with placeholders in its texts. Pure.

What is put into a path can change neither host, path nor query: it is escaped to one segment or one value, or, as
`{item_id:path}`, to segments below the same place. What is put into a body can't change its structure: it is put into
texts of the decoded value, which is encoded afterwards.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from monitor.model.http import is_valid_path

ITEM_ID, ITEM_IDS = "item_id", "item_ids"
_PLACEHOLDER = re.compile(r"\{(\w+)(:path)?\}")
_UNRESERVED = re.compile(r"[A-Za-z0-9_~-]+")
_UNSENDABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and lone surrogates, which UTF-8 can't encode."""


def escape(value: str) -> str:
    """The value as one path segment or query value: everything but letters, digits and `-._~` escaped."""
    return value if _UNRESERVED.fullmatch(value) else quote(value, safe="", errors="replace")


def escape_segments(value: str) -> str:
    """The value as path segments: its slashes stay, everything else is escaped.

    If a segment is empty or a dot segment, the whole becomes one segment, so that no path leads elsewhere.
    """
    return "/".join(map(escape, value.split("/"))) if are_segments(value) else escape(value)


def are_segments(value: str) -> bool:
    """Whether a value can stand for `{…:path}`: no segment is empty, `.` or `..`."""
    return not {"", ".", ".."}.intersection(value.split("/"))


def is_sendable(value: str) -> bool:
    """Whether a value is not blank and has only characters that can be escaped."""
    return bool(value.strip()) and not _UNSENDABLE.search(value)


def with_parameter(path: str, name: str, value: str) -> str:
    """The path with one more query parameter."""
    return f"{path}{'&' if '?' in path else '?'}{quote(name, safe='')}={escape(value)}"


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One `{name}` or `{name:path}` of a template."""

    name: str
    keeps_slashes: bool = False

    @property
    def escape(self) -> Callable[[str], str]:
        """How its value is escaped in a path."""
        return escape_segments if self.keeps_slashes else escape


class PathTemplate:
    """A path and query with placeholders; known values are filled in once."""

    __slots__ = ("_id", "_parts", "around_id", "shown", "text")

    def __init__(self, text: str, values: Mapping[str, str] | None = None) -> None:
        self.text = text
        self.shown = text.partition("?")[0]
        """What logs show: without the query, with the placeholders."""
        self._parts = _partial(text, values or {})
        self._id = next(
            (at for at, part in enumerate(self._parts) if isinstance(part, Placeholder) and part.name == ITEM_ID), None
        )
        fixed = [
            "".join(map(_literal, part)) for part in (self._parts[: self._id or 0], self._parts[(self._id or 0) + 1 :])
        ]
        missing = [part for part in self._parts if isinstance(part, Placeholder)]
        self.around_id = (fixed[0], missing[0].escape, fixed[1]) if self._id is not None and len(missing) == 1 else None
        """What stands before the id, how it is escaped, and what follows; None if it is not the only gap."""

    def fill_id(self, item_id: str) -> str:
        """The path for one item; placeholders without a value stay as they are, which no transport sends."""
        if self.around_id is not None:
            before, escaped, after = self.around_id
            return f"{before}{escaped(item_id)}{after}"
        return self.fill({ITEM_ID: item_id})

    def fill(self, values: Mapping[str, str], ids: Sequence[str] = ()) -> str:
        """The path with more values, and with `ids` for `{item_ids}`, joined by commas."""
        filled = []
        for part in self._parts:
            if not isinstance(part, Placeholder):
                filled.append(part)
            elif part.name == ITEM_IDS:
                filled.append(",".join(map(escape, ids)))
            elif part.name in values:
                filled.append(part.escape(values[part.name]))
            else:
                filled.append(_literal(part))
        return "".join(filled)

    @property
    def keeps_slashes(self) -> bool:
        """Whether the id's slashes stay."""
        part = self._parts[self._id] if self._id is not None else None
        return isinstance(part, Placeholder) and part.keeps_slashes

    @property
    def missing(self) -> frozenset[str]:
        """Names of the placeholders that have no value yet."""
        return frozenset(part.name for part in self._parts if isinstance(part, Placeholder))


def _partial(text: str, values: Mapping[str, str]) -> tuple[str | Placeholder, ...]:
    parts: list[str | Placeholder] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        placeholder = Placeholder(match[1], keeps_slashes=bool(match[2]))
        known = values.get(placeholder.name)
        parts += [text[end : match.start()], placeholder if known is None else placeholder.escape(known)]
        end = match.end()
    return (*parts, text[end:])


def _literal(part: str | Placeholder) -> str:
    return part if isinstance(part, str) else f"{{{part.name}}}"


class BodyTemplate:
    """A JSON value whose texts may have placeholders.

    A text that is exactly `{item_ids}` becomes the array of ids. An array of one element that has `{item_id}`, and in
    no array of its own, gets that element once for each id.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def fill(self, values: Mapping[str, str], ids: Sequence[str] = ()) -> bytes:
        """The body as JSON; a placeholder without a value stays as it is."""
        return msgspec.json.encode(_filled(self._value, values, list(ids)))

    def with_values(self, values: Mapping[str, str]) -> object:
        """The same JSON value with these placeholders filled in."""
        return _filled(self._value, values, [])

    @property
    def names(self) -> list[str]:
        """Names of the placeholders, each as often as it stands there."""
        return _names_in(self._value)

    @property
    def names_in_batch(self) -> list[str]:
        """The same without each `{item_id}` that a batch repeats."""
        return _names_in(_filled(self._value, {}, [""]))


def fill_text(text: str, values: Mapping[str, str]) -> str:
    """The text with the values of its placeholders; one without a value stays as it is."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def _names_in(value: object) -> list[str]:
    return [name for text in texts_in(value) for name, _ in _PLACEHOLDER.findall(text)]


def _filled(value: object, values: Mapping[str, str], ids: list[str]) -> object:
    if isinstance(value, str):
        if value == f"{{{ITEM_IDS}}}":
            return ids
        return fill_text(value, values)
    if isinstance(value, Mapping):
        return {name: _filled(each, values, ids) for name, each in value.items()}
    if isinstance(value, list | tuple):
        if ids and _is_per_id(value):
            return [_filled(value[0], {**values, ITEM_ID: item_id}, ids) for item_id in ids]
        return [_filled(each, values, ids) for each in value]
    return value


def _is_per_id(array: Sequence[object]) -> bool:
    """Whether it has one element, which stands for each id."""
    return len(array) == 1 and any(f"{{{ITEM_ID}}}" in text for text in texts_in(array[0], in_arrays=False))


def texts_in(value: object, *, in_arrays: bool = True) -> Iterable[str]:
    """All texts of a JSON value, also those in arrays or not; names of members are not among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts_in(each, in_arrays=in_arrays)
    elif isinstance(value, list | tuple) and in_arrays:
        for each in value:
            yield from texts_in(each)


def placeholders_of(template: str) -> list[str]:
    """Names of a template's placeholders, each as often as it stands there."""
    return [name for name, _ in _PLACEHOLDER.findall(template)]


def template_problem(template: str, *, known: Collection[str]) -> str | None:
    """What is wrong with the template of a path, as a predicate ("must …"); None if it is valid.

    It must have no placeholder that is not in `known`, and lead to no other origin.
    """
    if not template.startswith("/"):
        return "must begin with a slash: it is appended to base_url"
    if template.startswith("//"):
        return "must begin with one slash: two would name another host"
    if problem := placeholder_problem(placeholders_of(template), known=known):
        return problem
    path, _, query = template.partition("?")
    if ":path}" in query or re.search(r"[^/]\{\w+:path\}", path):
        return "may have {…:path} only as whole segments of the path, as in /files/{item_id:path}"
    if f"{{{ITEM_IDS}}}" in path:
        return "may have {item_ids} only in its query, as in ?ids={item_ids}; or put it into the body of a POST"
    if not is_valid_path(_PLACEHOLDER.sub("x", template)):
        return "must be a valid URL path: other characters escaped, no dot segments, no fragment"
    return None


def placeholder_problem(names: Iterable[str], *, known: Collection[str]) -> str | None:
    """Which placeholder has no value, and which would have one; None if each has."""
    unknown = sorted(set(names) - set(known))
    if not unknown:
        return None
    name = unknown[0][:60]
    if name == ITEM_IDS:
        return "contains {item_ids}, which needs batch: the number of ids that one request takes"
    if name == ITEM_ID:
        return "contains {item_id}, but it is about many items: remove it, or name them by {item_ids} in a batch"
    choices = ", ".join(f"{{{each}}}" for each in known) or "none"
    return (
        f'contains {{{name}}}, which the target does not set: give it, as in params = {{ {name} = "…" }}, or write '
        f"the value itself (known here: {choices})"
    )
