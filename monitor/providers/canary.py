"""The requests of a canary as a description has them: upload, retrieve, delete, and find what was left. Pure.

It builds requests and reads answers; it neither sends nor repeats. What a body says can make nothing here raise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlencode

from monitor.model import BadBody
from monitor.model.http import Operation, Request, is_valid_path
from monitor.providers.description import Description, FindRule, StepRule, paths_of
from monitor.providers.forms import multipart
from monitor.providers.meanings import decoded_body, value_conditions
from monitor.providers.paths import JsonPath, elements, scalar_text, split_each
from monitor.providers.templates import ITEM_ID, BodyTemplate, PathTemplate, fill_text, is_sendable

NAME, MARKER, TEXT, QUERY = "name", "marker", "text", "query"
PLACEHOLDERS = (NAME, MARKER, TEXT, QUERY)
"""What every step knows of the document: its unique name, the word to look for, its text, and a question about it."""
MAX_KEPT_CHARS = 512
"""Of a value that an answer gives for later requests: as long as an item's id may be."""
MAX_ANSWER_BYTES = 16 << 20
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"
_WHAT = "the body of the answer"


def method_of(kind: str, rule: StepRule | FindRule) -> str:
    """The method of a step: its own, or by default `DELETE` to delete, `POST` with a body or a form, else `GET`."""
    if rule.method is not None:
        return rule.method
    if kind == "delete":
        return "DELETE"
    has_form = isinstance(rule, StepRule) and bool(rule.form or rule.file)
    return "POST" if rule.body is not None or has_form else "GET"


def file_name(name: str) -> str:
    """The name of the document as a file."""
    return f"{name}.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAnswer:
    """What the answer to a step says."""

    kept: Mapping[str, str] = field(default_factory=dict)
    """Values for later requests, by name."""
    lacking: str | None = None
    """What it does not say, although the description expects it, as a place in the body; None: nothing is missing."""
    snippets: Sequence[str] = ()


class CanaryStep:
    """One request of the upload, of the retrieval or of the deletion."""

    __slots__ = (
        "_body", "_content_type", "_expected", "_file", "_form", "_headers", "_kept", "_method", "_operation", "_path",
        "_snippets", "needs",
    )  # fmt: skip

    def __init__(self, kind: str, rule: StepRule, *, params: Mapping[str, str], headers: Mapping[str, str]) -> None:
        """Of a rule without problems. `kind`: `upload`, `retrieve` or `delete`."""
        self._method, self._path = method_of(kind, rule), PathTemplate(rule.path, params)
        self._operation = _operation(kind, self._method)
        self._body = None if rule.body is None else BodyTemplate(_with_params(rule.body, params))
        self._form = {name: fill_text(text, params) for name, text in rule.form.items()}
        self._file, self._headers = rule.file, headers
        self._kept = {name: tuple(map(JsonPath, paths_of(paths))) for name, paths in rule.keep.items()}
        self._expected = dict(zip(rule.expect, value_conditions(rule.expect.items()), strict=True))
        self._snippets = paths_of(rule.snippets)
        self.needs: frozenset[str] = frozenset(names_in(rule)) - params.keys()
        """The values that it takes beside the target's parameters."""

    @property
    def template(self) -> str:
        """The path with placeholders, for logs and messages."""
        return self._path.shown

    @property
    def gives_snippets(self) -> bool:
        """Whether its answer has texts of the document."""
        return bool(self._snippets)

    @property
    def waits(self) -> bool:
        """Whether it is asked again until the answer says what is expected."""
        return bool(self._expected or self._kept)

    def request(self, values: Mapping[str, str]) -> Request | None:
        """The request with these values; None if one is missing or would lead to another path."""
        if self.needs - values.keys():
            return None
        path = self._path.fill(values)
        if not is_valid_path(path):
            return None
        body, content_type = self._content(values)
        headers = self._headers
        if content_type and "content-type" not in {name.lower() for name in headers}:
            headers = {"content-type": content_type, **headers}
        return Request(
            method=self._method,
            path=path,
            template=self._path.shown,
            operation=self._operation,
            item_id=values.get(ITEM_ID, ""),
            headers=headers,
            body=body,
            max_bytes=MAX_ANSWER_BYTES,
        )

    def _content(self, values: Mapping[str, str]) -> tuple[bytes | None, str]:
        if self._file is not None:
            fields = {name: fill_text(text, values) for name, text in self._form.items()}
            file = (file_name(values[NAME]), values[TEXT].encode(), "text/plain; charset=utf-8")
            content_type, body = multipart(fields, {self._file: file}, boundary=f"canary-{values[MARKER]}")
            return body, content_type
        if self._form:
            return urlencode({name: fill_text(text, values) for name, text in self._form.items()}).encode(), _FORM
        return (None, "") if self._body is None else (self._body.fill(values), _JSON)

    def read(self, body: bytes) -> StepAnswer | BadBody:
        """What the body of a 2xx says; nothing is read if the description expects nothing of it."""
        if not (self._kept or self._expected or self._snippets):
            return StepAnswer()
        decoded = decoded_body(body, _WHAT)
        if isinstance(decoded, BadBody):
            return decoded
        kept = {name: value for name, paths in self._kept.items() if (value := _first_value(paths, decoded))}
        missing = next((paths[0].text for name, paths in self._kept.items() if name not in kept), None)
        unmet = next((path for path, condition in self._expected.items() if not condition.holds(decoded)), None)
        return StepAnswer(
            kept=kept, lacking=unmet if unmet is not None else missing, snippets=_texts_at(self._snippets, decoded)
        )


class CanaryFind:
    """The question for items whose id is not known, by the document's name."""

    __slots__ = ("_body", "_headers", "_id", "_items", "_method", "_name", "_path")

    def __init__(self, rule: FindRule, *, params: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self._method, self._path = method_of("find", rule), PathTemplate(rule.path, params)
        self._body = None if rule.body is None else BodyTemplate(_with_params(rule.body, params))
        self._headers = headers
        self._items, self._id = JsonPath(rule.items), JsonPath(rule.id)
        self._name = None if rule.name is None else JsonPath(rule.name)

    def request(self, name: str) -> Request:
        """The request for the items of that name. One page is read."""
        values = {NAME: name}
        headers = {"content-type": _JSON, **self._headers} if self._body is not None else self._headers
        return Request(
            method=self._method,
            path=self._path.fill(values),
            template=self._path.shown,
            headers=headers,
            body=None if self._body is None else self._body.fill(values),
            max_bytes=MAX_ANSWER_BYTES,
        )

    def read(self, body: bytes, name: str) -> tuple[str, ...] | BadBody:
        """The ids of the items of that name."""
        decoded = decoded_body(body, _WHAT)
        if isinstance(decoded, BadBody):
            return decoded
        rows = elements(self._items.find(decoded))
        if rows is None:
            return BadBody(reason=f"the answer has no list of items at {self._items.text!r}")
        ids = [_sendable(self._id.find(row)) for row in rows if self._is_named(row, name)]
        if None in ids:
            return BadBody(reason=f"an item in the answer has no id at {self._id.text!r}")
        return tuple(dict.fromkeys(each for each in ids if each is not None))

    def _is_named(self, row: object, name: str) -> bool:
        return self._name is None or scalar_text(self._name.find(row)) in {name, file_name(name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRequests:
    """Everything that a canary asks, but for the item's status."""

    upload: tuple[CanaryStep, ...]
    retrieve: tuple[CanaryStep, ...]
    delete: tuple[CanaryStep, ...]
    find: CanaryFind | None
    """None: what was uploaded before its id was known can't be found."""

    @classmethod
    def of(cls, description: Description, params: Mapping[str, str]) -> Self | None:
        """The requests of a description without problems; None if it lacks upload, retrieve or delete."""
        if missing_steps(description):
            return None

        def steps(kind: str, rules: Sequence[StepRule]) -> tuple[CanaryStep, ...]:
            return tuple(CanaryStep(kind, rule, params=params, headers=description.headers) for rule in rules)

        find = description.find
        return cls(
            upload=steps("upload", description.upload),
            retrieve=steps("retrieve", description.retrieve),
            delete=steps("delete", description.delete),
            find=None if find is None else CanaryFind(find, params=params, headers=description.headers),
        )


def missing_steps(description: Description) -> tuple[str, ...]:
    """Which of upload, retrieve and delete the description lacks."""
    given = {"upload": description.upload, "retrieve": description.retrieve, "delete": description.delete}
    return tuple(kind for kind, rules in given.items() if not rules)


def names_in(rule: StepRule | FindRule) -> tuple[str, ...]:
    """The names of all placeholders of a step."""
    form = rule.form if isinstance(rule, StepRule) else {}
    texts = [BodyTemplate([rule.body, *form.values()])]
    return (*sorted(PathTemplate(rule.path).missing), *(name for text in texts for name in text.names))


def _operation(kind: str, method: str) -> Operation:
    """An upload is a write, which is not repeated if it may have been executed; a deletion may be executed twice."""
    if method == "GET" or kind == "retrieve":
        return Operation.READ
    return Operation.CLOSE if kind == "delete" else Operation.WRITE


def _with_params(body: object, params: Mapping[str, str]) -> object:
    return BodyTemplate(body).with_values(params)


def _first_value(paths: Sequence[JsonPath], decoded: object) -> str | None:
    return next((value for path in paths if (value := _sendable(path.find(decoded))) is not None), None)


def _sendable(value: object) -> str | None:
    """A text or a number that can be put into a request."""
    text = scalar_text(value)
    return text if text is not None and len(text) <= MAX_KEPT_CHARS and is_sendable(text) else None


def _texts_at(places: Sequence[str], decoded: object) -> tuple[str, ...]:
    """The texts at paths, of which each may have one `*`."""
    found: list[object] = []
    for place in places:
        before, star, after = split_each(place)
        value, rest = JsonPath(before).find(decoded), JsonPath(after)
        found += [rest.find(each) for each in elements(value) or ()] if star else [value]
    return tuple(text for value in found for text in _texts_in(value))


def _texts_in(value: object) -> Sequence[str]:
    """The text, or those of a list: a search may answer with one text per chunk."""
    if isinstance(value, str):
        return (value,)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else ()
