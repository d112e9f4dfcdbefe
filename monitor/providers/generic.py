"""Any API with a status per item, as a description says: what to ask, where the answer has what, what it means.

It reads; it does not send. It guesses nothing: a body without what the description names is a bad body. A named
preset is the same under its own name. docs/providers has the format and examples.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self, cast

import msgspec

from monitor.errors import ConfigError
from monitor.model import BadBody
from monitor.model.http import Meaning, Request
from monitor.providers import FollowUp, ProviderSettings
from monitor.providers.answers import ItemAnswer
from monitor.providers.description import Description, ListRule, parse_description
from monitor.providers.description_problems import description_problems
from monitor.providers.item_question import ItemQuestion
from monitor.providers.listing import Listing, ListReader
from monitor.providers.meanings import Meanings
from monitor.providers.page_reader import ListRows
from monitor.providers.pagination import PageRequest, first_page
from monitor.providers.paths import JsonPath
from monitor.providers.questions import Question
from monitor.providers.status_reader import StatusReader
from monitor.providers.statuses import StatusTable, Word
from monitor.providers.templates import is_sendable

if TYPE_CHECKING:
    from monitor.providers.canary import CanaryRequests

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_NO_STATUSES: Mapping[str, Sequence[Word]] = {}


class Generic:
    """One API as its description says; made by `from_settings`."""

    __slots__ = (
        "_ask", "_description", "_item", "_list", "_params", "_rows", "batch_size", "list_only", "name",
        "read_meaning", "text_errors", "token_path", "token_scope", "uuid_ids",
    )  # fmt: skip

    def __init__(
        self, description: Description, settings: ProviderSettings, table: StatusTable, params: Mapping[str, str]
    ) -> None:
        """Of a description without problems."""
        rule, meanings = description.item, Meanings.of(description)
        self._description, self._params = description, params
        self.name = "generic"
        self.token_path: str | None = None
        self.token_scope = ""
        self.text_errors = rule is not None and rule.text_errors
        """Whether the API itself answers errors in plain text or HTML."""
        self.uuid_ids = description.uuid_ids
        """Whether its ids are UUIDs."""
        self.list_only = rule is None
        """Whether the list alone answers: there is no question for one item."""
        self.read_meaning: Callable[[int, bytes], Meaning | None] | None = meanings.read if meanings else None
        """What a complete answer of any status means; None: the description says nothing about that."""
        self._item = None
        if rule is not None:
            self._item = ItemQuestion(rule, description=description, settings=settings, params=params, table=table)
        self.batch_size = 1 if self._item is None else self._item.batch_size
        """How many ids one request takes."""
        self._list = self._rows = None
        if description.list is not None:
            self._list = _list_request(description.list, description, settings, params)
            self._rows = self._list_rows(description.list, settings, table, meanings)
        first = cast("PageRequest", self._list)  # a description has at least one of the two
        self._ask = (lambda _: first) if self._item is None else self._item.request

    @classmethod
    def from_settings(
        cls,
        settings: ProviderSettings,
        *,
        name: str = "generic",
        token_path: str | None = None,
        token_scope: str = "",
        statuses: Mapping[str, Sequence[Word]] = _NO_STATUSES,
    ) -> Self:
        """The API that a target's tables describe. ConfigError has all problems of the description at once.

        `statuses` are the words that a preset knows; the target's own are added, and win.
        """
        where = f"targets.{settings.target}"
        try:
            description = parse_description(settings.options)
        except msgspec.ValidationError as error:
            raise ConfigError([f"{where}: item, list or headers have an unexpected form: {error}"]) from None
        params = {**({"publisher_id": settings.publisher_id} if settings.publisher_id else {}), **settings.params}
        problems = [
            f"{where}.{problem}"
            for problem in description_problems(
                description,
                params=params,
                row_params=settings.row_params,
                has_completed=bool(settings.statuses.get("completed") or statuses.get("completed")),
            )
        ]
        known = StatusTable.with_overrides({}, statuses)
        table = known
        try:
            table = StatusTable.with_overrides(known.states, settings.statuses)
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError(problems)
        provider = cls(description, settings, table, params)
        provider.name, provider.token_path, provider.token_scope = name, token_path, token_scope
        return provider

    def valid_id(self, item_id: str) -> bool:
        """Whether it can be sent and matches `item.id_pattern`. All but control characters can be escaped."""
        return is_sendable(item_id) if self._item is None else self._item.accepts(item_id)

    def item_request(self, item_id: str) -> Request:
        """The request for one item; the list's first page if there is no question for one."""
        return self._ask(item_id)

    def request_for(self, item_id: str, params: Mapping[str, str]) -> Request:
        """The same with parameters of the item's row. Raises ValueError: one is missing, or can't be sent."""
        return self.item_request(item_id) if self._item is None else self._item.request_for(item_id, params)

    def read_item(self, body: bytes, item_id: str) -> ItemAnswer | FollowUp:
        """What the body of a 2xx says about the item: its status, that there is none, or a second question."""
        return _NO_QUESTION if self._item is None else self._item.read(body, item_id)

    def read_follow_up(self, body: bytes, item_id: str) -> ItemAnswer:
        """What the answer to the second question says about the item."""
        return _NO_QUESTION if self._item is None else self._item.read_follow_up(body, item_id)

    def batch_request(self, item_ids: Sequence[str]) -> Request:
        """The request for at most `batch_size` items."""
        if self._item is None:
            raise ValueError("an API whose list alone answers has no batches")
        return self._item.batch_request(item_ids)

    def read_batch(self, body: bytes, item_ids: Sequence[str]) -> Mapping[str, ItemAnswer]:
        """What the body of a 2xx says about each item of a batch."""
        return dict.fromkeys(item_ids, _NO_QUESTION) if self._item is None else self._item.read_batch(body, item_ids)

    def canonical(self, item_id: str) -> str:
        """A UUID in lower case if the API's ids are UUIDs; else the id as it is: other spellings are not known."""
        lowered = item_id.lower()  # most are so already, and a million of them are asked for
        return lowered if lowered != item_id and self.uuid_ids and _UUID.fullmatch(item_id) else item_id

    def canary_requests(self) -> "CanaryRequests | None":
        """How a canary uploads, retrieves and deletes its document; None if the description does not say so."""
        from monitor.providers.canary import CanaryRequests  # runs need none

        return CanaryRequests.of(self._description, self._params)

    def list_request(self) -> PageRequest | None:
        """The first page of the list; None if the description has none."""
        return self._list

    def list_reader(self, page: Request, listing: Listing) -> ListReader:
        """Reads one page, while it arrives, as `list` describes it.

        Raises:
            ValueError: the description has no `list`, or the page is not a request of this provider.
        """
        if self._rows is None or not isinstance(page, PageRequest):
            raise ValueError("only pages of this provider's own list can be read")
        return self._rows.reader(page, listing)

    def _list_rows(
        self, rule: ListRule, settings: ProviderSettings, table: StatusTable, meanings: Meanings
    ) -> ListRows:
        return ListRows(
            items=rule.items,
            id=None if rule.keyed else JsonPath(rule.id),
            statuses=StatusReader.of(rule, table),
            page=rule.page,
            meanings=meanings,
            base_url=settings.base_url.rstrip("/"),
            unsettled=frozenset() if self._item is None else self._item.unsettled,
            canonical=self.canonical if self.uuid_ids else None,
        )


_NO_QUESTION = BadBody(reason="the API has no question for one item")


def _list_request(
    rule: ListRule, description: Description, settings: ProviderSettings, params: Mapping[str, str]
) -> PageRequest:
    question = Question(
        rule.path,
        method=rule.method,
        body=rule.body,
        params=params,
        headers=description.headers,
        max_bytes=settings.list_max_bytes,
    )
    return first_page(rule.page, question.about_all())
