"""The item question of a description: its requests, and what an answer says about an item. Pure; no body raises."""

from collections.abc import Callable, Mapping, Sequence

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Meaning, Request
from monitor.model.json_body import decode_json
from monitor.providers import FollowUp, ProviderSettings
from monitor.providers.answers import Answers, ItemAnswer, settled
from monitor.providers.description import Description, ItemRule
from monitor.providers.id_pattern import compile_id_pattern
from monitor.providers.meanings import Absence, decoded_body
from monitor.providers.paths import JsonPath, scalar_text
from monitor.providers.questions import Question
from monitor.providers.status_reader import StatusReader
from monitor.providers.statuses import StatusTable, fold_word

_MAX_BATCH_BYTES = 64 << 20
"""The most that is read of the answer about a batch, which may have `item_max_bytes` for each id."""


class ItemQuestion:
    """How to ask about an item, or about several at once, and how to read the answer."""

    __slots__ = (
        "_absence", "_answers", "_has_absent_words", "_id", "_matches", "_question", "_result", "_result_statuses",
        "_statuses", "batch_size", "read", "request", "unsettled",
    )  # fmt: skip

    def __init__(
        self,
        rule: ItemRule,
        *,
        description: Description,
        settings: ProviderSettings,
        params: Mapping[str, str],
        table: StatusTable,
    ) -> None:
        """The rule is one without problems."""
        self.batch_size = rule.batch or 1
        """How many ids one request takes."""
        self._question = Question(
            rule.path,
            method=rule.method,
            body=rule.body,
            params=params,
            row_params=settings.row_params,
            headers=description.headers,
            max_bytes=max(settings.item_max_bytes, min(settings.item_max_bytes * self.batch_size, _MAX_BATCH_BYTES)),
        )
        self.request = self._question.about
        """The request for one item; not a method, since it is made for every item."""
        self._matches = None if rule.id_pattern is None else compile_id_pattern(rule.id_pattern)
        self._statuses = StatusReader.of(rule, table)
        self._has_absent_words = ItemState.NOT_FOUND in table.states.values()
        self._absence = Absence.of(rule.not_found) or None
        self._id = None if rule.id is None else JsonPath(rule.id)
        self._answers = self._find_answers(rule) if rule.has_many else None
        self._result = self._result_statuses = None
        plain = self._answers is None and rule.result is None
        self.read: Callable[[bytes, str], ItemAnswer | FollowUp] = self._read if plain else self._read_any
        """What the body of a 2xx says about the item; it is called for every item."""
        self.unsettled: frozenset[str] = frozenset()
        """Folded statuses that only the second question settles."""
        if (result := rule.result) is not None:
            self.unsettled = frozenset(map(fold_word, result.when))
            self._result = Question(
                result.path, params=params, headers=description.headers, max_bytes=settings.item_max_bytes
            )
            self._result_statuses = StatusReader.of(result, table)

    def _find_answers(self, rule: ItemRule) -> Answers:
        return Answers(
            items=JsonPath(rule.items or ""),
            id=self._id,
            statuses=self._statuses,
            absence=self._absence,
            about_one=rule.batch is None,
        )

    def accepts(self, item_id: str) -> bool:
        """Whether the id can be sent and has the form of this API's ids, if that is known."""
        return self._question.accepts(item_id) and (self._matches is None or self._matches(item_id))

    def request_for(self, item_id: str, params: Mapping[str, str]) -> Request:
        """The request with parameters of the item's row. Raises ValueError: one is missing, or can't be sent."""
        return self._question.about_row(item_id, params)

    def batch_request(self, item_ids: Sequence[str]) -> Request:
        """The request for several items, at most `batch_size`."""
        return self._question.about_all(item_ids)

    def _read_any(self, body: bytes, item_id: str) -> ItemAnswer | FollowUp:
        found = self._read(body, item_id) if self._answers is None else self._answers.read(body, (item_id,))[item_id]
        if isinstance(found, ItemStatus) and self._result is not None and fold_word(found.stage) in self.unsettled:
            return FollowUp(request=self._result.about(item_id))
        return found

    def read_batch(self, body: bytes, item_ids: Sequence[str]) -> Mapping[str, ItemAnswer]:
        """What the body of a 2xx says about each item of a batch."""
        if self._answers is None:
            return {item_id: self._read(body, item_id) for item_id in item_ids}
        return self._answers.read(body, item_ids)

    def read_follow_up(self, body: bytes, item_id: str) -> ItemAnswer:  # noqa: ARG002  # Provider's signature
        """What the answer to the second question says."""
        decoded = decoded_body(body, "the body of the second question")
        if isinstance(decoded, BadBody):
            return decoded
        return settled((self._result_statuses or self._statuses).read(decoded))

    def _read(self, body: bytes, item_id: str) -> ItemAnswer:
        try:
            decoded: object = decode_json(body)
        except (ValueError, RecursionError):
            return BadBody(reason="the item's body is not JSON" if body else "the item's body is empty")
        if self._absence is not None and self._absence.holds(decoded):
            return Meaning.NOT_FOUND
        if self._id is not None:
            found_id = scalar_text(self._id.find(decoded))
            if found_id is None:
                return BadBody(reason=f"the item's body has no id at {self._id.text!r}")
            if found_id != item_id and found_id.casefold() != item_id.casefold():
                return BadBody(reason="the body is about another item than requested")
        status = self._statuses.read(decoded)
        return settled(status) if self._has_absent_words else status
