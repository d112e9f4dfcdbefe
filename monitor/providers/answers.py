"""Looks up the answers about several ids in one body: an array of answers, or an object with the ids as keys. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Meaning
from monitor.providers.meanings import Absence, decoded_body
from monitor.providers.paths import JsonPath, is_null, scalar_text
from monitor.providers.status_reader import StatusReader, reports_error
from monitor.providers.statuses import worst

ItemAnswer = ItemStatus | BadBody | Meaning


def settled(status: ItemStatus | BadBody) -> ItemAnswer:
    """The status, or that its word means that there is no such item."""
    return Meaning.NOT_FOUND if isinstance(status, ItemStatus) and status.state is ItemState.NOT_FOUND else status


@dataclass(slots=True)
class _AnswersById:
    asked: frozenset[str]
    """An answer with one of these ids is about it alone; another may spell an id in another case."""
    exact: dict[str, list[object]] = field(default_factory=dict)
    folded: dict[str, list[object]] = field(default_factory=dict)
    complete: bool = True
    """Every answer has an id."""

    def add(self, item_id: str | None, answer: object) -> None:
        if item_id is None:
            self.complete = False
            return
        self.exact.setdefault(item_id, []).append(answer)
        if item_id not in self.asked:
            self.folded.setdefault(item_id.casefold(), []).append(answer)

    def about(self, item_id: str) -> Sequence[object]:
        return self.exact.get(item_id) or self.folded.get(item_id.casefold()) or ()


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Where a body has the answers, and how each is read."""

    items: JsonPath
    id: JsonPath | None
    """Where each answer has its id; None: the answers are the values of an object, and the ids its keys."""
    statuses: StatusReader
    absence: Absence | None
    about_one: bool
    """The whole body is about one item: a value in it says that there is none."""

    def read(self, body: bytes, item_ids: Sequence[str]) -> Mapping[str, ItemAnswer]:
        """A value for each of the ids, whatever else the body has. Never raises.

        An id that a complete body leaves out is not found if `not_found.absent` has the empty path, and unreadable
        without it. Of several answers about one id the worst counts.
        """
        decoded = decoded_body(body, "the items' body")
        if self.about_one and self.absence is not None and self.absence.has_value(decoded):
            return dict.fromkeys(item_ids, Meaning.NOT_FOUND)
        found = decoded if isinstance(decoded, BadBody) else self._by_id(decoded, frozenset(item_ids))
        if isinstance(found, BadBody):
            return dict.fromkeys(item_ids, found)
        return {item_id: self._read_one(found.about(item_id), complete=found.complete) for item_id in item_ids}

    def _by_id(self, decoded: object, asked: frozenset[str]) -> _AnswersById | BadBody:
        value = self.items.find(decoded)
        if value is None and is_null(decoded, self.items.text):
            value = [] if self.id is not None else {}
        by_id = _AnswersById(asked)
        if value is decoded and isinstance(value, dict) and reports_error(value):
            return BadBody(reason="the items' body reports an error")
        if self.id is None and isinstance(value, dict):
            for key, each in value.items():
                by_id.add(key, each)
        elif self.id is not None and isinstance(value, list):
            for each in value:
                by_id.add(scalar_text(self.id.find(each)), each)
        else:
            kind = "object" if self.id is None else "array"
            return BadBody(reason=f"the items' body has no {kind} at {self.items.text!r}")
        return by_id

    def _read_one(self, answers: Sequence[object], *, complete: bool) -> ItemAnswer:
        if not answers:
            if complete and self.absence is not None and self.absence.without_answer:
                return Meaning.NOT_FOUND
            return BadBody(reason="the body leaves this item out, and not_found does not say what that means")
        return worst_answer([self._read_answer(each) for each in answers])

    def _read_answer(self, answer: object) -> ItemAnswer:
        if self.absence is not None and self.absence.holds(answer):
            return Meaning.NOT_FOUND
        return settled(self.statuses.read(answer))


def worst_answer(answers: Sequence[ItemAnswer]) -> ItemAnswer:
    """Of several answers about one item, at least one, the worst; their order does not count.

    A failure counts even beside one that can't be read; what can't be read, beside all others.
    """
    statuses = [each for each in answers if isinstance(each, ItemStatus)]
    failed = [each for each in statuses if each.state is ItemState.FAILED]
    if failed:
        return worst(failed)
    unreadable = sorted(each.reason for each in answers if isinstance(each, BadBody))
    if unreadable:
        return BadBody(reason=unreadable[0])
    return next((each for each in answers if isinstance(each, Meaning)), None) or worst(statuses)
