"""Reads an item's status, and why it failed, where a description says that they stand. Pure; nothing raises.

It guesses nothing: what a description names and the body lacks is a bad body.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import plain_text
from monitor.providers.description import ItemRule, ListRule, ResultRule, paths_of
from monitor.providers.paths import NULL, JsonPath, elements, is_null, scalar_text, split_each, word_text
from monitor.providers.statuses import StatusTable, worst

MAX_REASON_CHARS = 60
MAX_MESSAGE_CHARS = 500
_HTTP_STATUSES = range(100, 600)
"""Error objects repeat them as `status`."""

_FAILED = ItemState.FAILED  # looked up once: it is compared for every item
_BLANK = BadBody(reason="the item's status is blank")
_LIKE_HTTP = BadBody(reason="the item's status looks like an HTTP status, and `statuses` does not name it")


@dataclass(frozen=True, slots=True)
class _Place:
    """A path that begins at the element that the status is of, or at the whole answer."""

    path: JsonPath
    in_element: bool

    def find(self, element: object, answer: object) -> object:
        return self.path.find(element if self.in_element else answer)


class StatusReader:
    """The status at a path, or the worst of many at a path with `*`, by a table of statuses."""

    __slots__ = ("_first", "_member", "_messages", "_others", "_parent", "_reasons", "_shown", "_table")

    def __init__(
        self, table: StatusTable, *, status: Sequence[str], reason: Sequence[str] = (), message: Sequence[str] = ()
    ) -> None:
        """Of several `status` paths the first counts whose status the table names; of `reason` and `message`, the first
        that has one. All with `*` have it in the same place.
        """
        before, star, _ = split_each(status[0])
        self._table, self._shown = table, status[0]
        self._parent = JsonPath(before) if star else None
        self._first, *others = (JsonPath(split_each(path)[2] if star else path) for path in status)
        self._others = tuple(others)
        self._member = status[0] if not (star or others or not status[0] or "." in status[0]) else None
        self._reasons, self._messages = tuple(map(_place, reason)), tuple(map(_place, message))

    @classmethod
    def of(cls, rule: ItemRule | ResultRule | ListRule, table: StatusTable) -> "StatusReader":
        """The reader of what a rule's `status`, `reason` and `message` name."""
        return cls(table, status=paths_of(rule.status), reason=paths_of(rule.reason), message=paths_of(rule.message))

    def read(self, answer: object) -> ItemStatus | BadBody:
        """The status of an item in its decoded answer; of many the worst (failed, not found, pending, completed).

        A null counts, unless the answer reports an error. Of many, one that failed counts even beside one that can't be
        read.
        """
        if self._member is not None and isinstance(answer, dict):
            # nearly every item: a text, in a member of the answer itself
            value = answer.get(self._member)
            status = self._table.read(value) if isinstance(value, str) else None
            if status is not None and status.state is not _FAILED:
                return status
        if self._parent is not None:
            return self._worst(self._parent, answer)
        return self._read_element(answer, answer)

    def _worst(self, parent: JsonPath, answer: object) -> ItemStatus | BadBody:
        value = parent.find(answer)
        parts = elements(value)
        if value is None and (null := null_status(answer, f"{parent.text}.status" if parent.text else "")) is not None:
            return self._table.read(null) or _BLANK
        if not parts:
            return BadBody(reason=f"the item's body has no elements at {parent.text!r}")
        read = [self._read_element(part, answer) for part in parts]
        statuses = [each for each in read if isinstance(each, ItemStatus)]
        unreadable = sorted(each.reason for each in read if isinstance(each, BadBody))
        found = worst(statuses) if statuses else None
        if found is not None and (not unreadable or found.state is ItemState.FAILED):
            return found
        return BadBody(reason=unreadable[0])

    def _read_element(self, element: object, answer: object) -> ItemStatus | BadBody:
        value = self._first.find(element)
        found = self._read_value(value, element, self._first)
        if self._others and not (isinstance(found, ItemStatus) and found.recognised):
            found = self._first_known(element, found)
        if isinstance(found, ItemStatus) and found.state is ItemState.FAILED and (self._reasons or self._messages):
            return self._with_reason(found, element, answer)
        return found

    def _first_known(self, element: object, first: ItemStatus | BadBody) -> ItemStatus | BadBody:
        """The first status that the table names; else the last that there is."""
        last = first
        for path in self._others:
            found = self._read_value(path.find(element), element, path)
            if isinstance(found, ItemStatus):
                last = found
                if found.recognised:
                    break
        return last

    def _read_value(self, value: object, element: object, path: JsonPath) -> ItemStatus | BadBody:
        raw = value if isinstance(value, str) else self._raw(value, element, path)
        if raw is None:
            return BadBody(reason=f"the item's body has no status at {self._shown_path(path)!r}")
        status = self._table.read(raw)
        if status is None:
            return _BLANK
        if status.recognised or isinstance(value, str):
            return status
        if isinstance(value, float):
            return BadBody(reason=f"the item's body has no status at {self._shown_path(path)!r}")
        if isinstance(value, int) and not isinstance(value, bool) and value in _HTTP_STATUSES:
            return _LIKE_HTTP
        return status

    def _raw(self, value: object, element: object, path: JsonPath) -> str | None:
        if value is None:
            return null_status(element, path.text)
        return word_text(value) if isinstance(value, float) else scalar_text(value)

    def _shown_path(self, path: JsonPath) -> str:
        if self._parent is None:
            return path.text
        return ".".join(part for part in (self._parent.text, "*", path.text) if part)

    def _with_reason(self, status: ItemStatus, element: object, answer: object) -> ItemStatus:
        reason = _first_text(self._reasons, element, answer, MAX_REASON_CHARS)
        message = _first_text(self._messages, element, answer, MAX_MESSAGE_CHARS)
        if reason is None and message is None:
            return status
        return ItemStatus(
            state=status.state,
            stage=status.stage,
            recognised=status.recognised,
            failure_reason=reason,
            failure_message=message,
        )


def _place(path: str) -> _Place:
    _, star, after = split_each(path)
    return _Place(JsonPath(after if star else path), star)


def _first_text(places: Sequence[_Place], element: object, answer: object, limit: int) -> str | None:
    """The first text or number; a boolean, an object or an empty text says nothing."""
    for place in places:
        value = place.find(element, answer)
        text = None if isinstance(value, bool) else scalar_text(value)
        if text and (shown := plain_text(text, limit)):
            return shown
    return None


def null_status(answer: object, path: str) -> str | None:
    """The name of a status that is null; None if there is no such member, or if the answer is an error's envelope."""
    parent = path.rpartition(".")[0]
    if answer is None or not is_null(answer, path):
        return None
    return None if JsonPath(parent).find(answer) is None and reports_error(answer) else NULL


_ERROR_MEMBERS = frozenset(
    {
        "error", "errors", "code", "errorcode", "errcode", "message", "errormessage", "errmsg", "msg", "detail",
        "fault", "exception",
    }
)  # fmt: skip
"""In lower case and without underscores: `error_code`, `errorMessage` and `Message` are among them."""
_WELL = frozenset({"success", "succeeded", "ok"})
"""Members that are false in an error envelope."""


def reports_error(answer: object) -> bool:
    """Whether a body is an error envelope: then its null says that there is no item, not that its status is null."""
    if not isinstance(answer, dict):
        return False
    for name, value in answer.items():
        plain = name.replace("_", "").lower()
        if (value and plain in _ERROR_MEMBERS) or (value is False and plain in _WELL):
            return True
    return False
