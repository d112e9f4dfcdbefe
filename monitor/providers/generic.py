"""Any API with a status per item, described by configuration alone: paths, where the answer has what, statuses.

It reads; it does not send. It guesses nothing: a body without what the configuration names is a bad body.
docs/providers has examples.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from monitor.errors import ConfigError
from monitor.model import BadBody, ItemStatus
from monitor.model.http import Request, is_valid_path
from monitor.model.json_body import decode_json
from monitor.providers import ProviderSettings
from monitor.providers.id_pattern import compile_id_pattern
from monitor.providers.json_stream import JsonArrayReader
from monitor.providers.listing import Listing, ListReader
from monitor.providers.pagination import PageRequest, PageRule, first_page, next_page
from monitor.providers.paths import fill_template, is_null, scalar_text, template_problem, value_at
from monitor.providers.statuses import NULL, StatusTable

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, 5.6.2)."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and lone surrogates, which UTF-8 can't encode."""

_MAX_HEAD_BYTES = 1 << 16
"""Of a page without rows: enough to say what is wrong with it."""

_HTTP_STATUSES = range(100, 600)
"""Error objects repeat them as `status`."""


class _ItemRule(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    status: str = "status"
    id: str | None = None
    id_pattern: str | None = None
    text_errors: bool = False


class _ListRule(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    items: str = ""
    id: str = "id"
    status: str = "status"
    page: PageRule = PageRule()


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    item: _ItemRule | None = None
    list: _ListRule | None = None
    headers: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generic:
    """One API as its target describes it; made by `from_settings`."""

    name: ClassVar[str] = "generic"
    token_path: ClassVar[None] = None
    token_scope: ClassVar[str] = ""

    item: _ItemRule
    list_: _ListRule | None
    statuses: StatusTable
    base_url: str
    list_max_bytes: int
    headers: Mapping[str, str]
    matches_pattern: Callable[[str], bool]
    """Whether an id has the form of this API's ids; always true if that is not known."""
    values: Mapping[str, str]
    """The values of placeholders other than `item_id`."""

    @classmethod
    def from_settings(cls, settings: ProviderSettings) -> "Generic":
        """The API that a target's `item`, `list`, `headers` and `statuses` describe. ConfigError has all problems."""
        where = f"targets.{settings.target}"
        try:
            options = msgspec.convert(settings.options, type=_Options)
        except msgspec.ValidationError as error:
            raise ConfigError([f"{where}: item, list or headers have an unexpected form: {error}"]) from None
        known = {"publisher_id": settings.publisher_id} if settings.publisher_id else {}
        problems = [f"{where}.{problem}" for problem in _problems(options, settings, known)]
        if problems or options.item is None:
            raise ConfigError(problems)
        return cls(
            item=options.item,
            list_=options.list,
            statuses=StatusTable.with_overrides({}, settings.statuses),
            base_url=settings.base_url.rstrip("/"),
            list_max_bytes=settings.list_max_bytes,
            headers=options.headers,
            matches_pattern=_matcher(options.item.id_pattern),
            values=known,
        )

    @property
    def text_errors(self) -> bool:
        """Whether the API itself answers errors in plain text or HTML."""
        return self.item.text_errors

    def valid_id(self, item_id: str) -> bool:
        """Whether it can be sent and matches `item.id_pattern`. All but control characters can be escaped."""
        if not item_id.strip() or _CONTROL.search(item_id) or not is_valid_path(self._item_path(item_id)):
            return False
        return self.matches_pattern(item_id)

    def item_request(self, item_id: str) -> Request:
        """`GET` of `item.path`, the id escaped."""
        return Request(
            method="GET", path=self._item_path(item_id), template=self.item.path.partition("?")[0], headers=self.headers
        )

    def read_item(self, body: bytes, item_id: str) -> ItemStatus | BadBody:
        """The status at `item.status`: a text, a whole number, a boolean or null.

        A null on the way counts as well, unless the body reports an error. A `BadBody` if the body is not JSON, has no
        status there, or has another id at `item.id`.
        """
        decoded = _decoded(body, "the item's body")
        if isinstance(decoded, BadBody):
            return decoded
        found_id = scalar_text(value_at(decoded, self.item.id)) if self.item.id is not None else item_id
        if found_id is None:
            return BadBody(reason=f"the item's body has no id at {self.item.id!r}")
        if found_id.casefold() != item_id.casefold():
            return BadBody(reason="the body is about another item than requested")
        value = value_at(decoded, self.item.status)
        raw = scalar_text(value) if value is not None else _null_status(decoded, self.item.status)
        if raw is None:
            return BadBody(reason=f"the item's body has no status at {self.item.status!r}")
        meaning = self.statuses.read(raw)
        if meaning is not None and not meaning.recognised and isinstance(value, int) and value in _HTTP_STATUSES:
            return BadBody(reason="the item's status looks like an HTTP status, and `statuses` does not name it")
        return meaning or BadBody(reason="the item's status is blank")

    def canonical(self, item_id: str) -> str:
        """The id as it is: other spellings are not known."""
        return item_id

    def list_request(self) -> PageRequest | None:
        """`GET` of `list.path`, its first page; None if the target has no `list`."""
        if self.list_ is None:
            return None
        request = Request(
            method="GET",
            path=fill_template(self.list_.path, self.values),
            template=self.list_.path.partition("?")[0],
            headers=self.headers,
            max_bytes=self.list_max_bytes,
        )
        return first_page(self.list_.page, request)

    def list_reader(self, page: Request, listing: Listing) -> ListReader:
        """Reads one page, while it arrives, as `list` describes it.

        Raises:
            ValueError: the target has no `list`, or the page is not a request of this provider.
        """
        if self.list_ is None or not isinstance(page, PageRequest):
            raise ValueError("only pages of this provider's own list can be read")
        return _PageReader(rule=self.list_, statuses=self.statuses, base_url=self.base_url, page=page, listing=listing)

    def _item_path(self, item_id: str) -> str:
        return fill_template(self.item.path, {**self.values, "item_id": item_id})


class _PageReader:
    """Adds the rows of one page to the listing while the page arrives: what is kept of it is one row, and the rest of
    the body without the rows.
    """

    def __init__(
        self, *, rule: _ListRule, statuses: StatusTable, base_url: str, page: PageRequest, listing: Listing
    ) -> None:
        self._rule, self._statuses, self._base_url = rule, statuses, base_url
        self._page, self._listing = page, listing
        self._array: JsonArrayReader[Any] = JsonArrayReader(object, path=rule.items)
        self._received = self._count = 0
        self._head = bytearray()
        self._problem: str | None = None

    def feed(self, piece: bytes) -> bool:
        """Reads the rows that are complete with this piece; False if the rest need not be read."""
        if len(self._head) < _MAX_HEAD_BYTES:
            self._head += piece[:_MAX_HEAD_BYTES]
        self._received += len(piece)
        if self._received > self._page.max_bytes:
            self._problem = f"a page of the list is larger than {self._page.max_bytes} bytes"
        self._add_to_listing(self._array.feed(piece))
        return self._problem is None and self._array.error is None

    def finish(self, headers: Mapping[str, str]) -> Request | BadBody | None:
        """Adds the last rows and returns what follows the page."""
        if self._problem is None:
            self._add_to_listing(self._array.finish())
        if self._problem is not None:
            return BadBody(reason=self._problem)
        if self._array.error is not None:
            return self._array_problem()
        decoded = _decoded(self._array.envelope, "a page of the list")
        if isinstance(decoded, BadBody):
            return decoded
        return next_page(
            self._rule.page,
            self._page,
            body=decoded,
            count=self._count,
            known=len(self._listing),
            headers=headers,
            base_url=self._base_url,
        )

    def _array_problem(self) -> BadBody:
        """Why there is no array of rows."""
        if self._array.started or self._received > len(self._head):
            return BadBody(reason=f"a page of the list can't be read: {self._array.error}")
        decoded = _decoded(bytes(self._head), "a page of the list")
        return (
            decoded
            if isinstance(decoded, BadBody)
            else BadBody(reason=f"a page of the list has no array at {self._rule.items!r}")
        )

    def _add_to_listing(self, items: list[Any]) -> None:
        self._count += len(items)
        found = []
        for item in items:
            item_id = scalar_text(value_at(item, self._rule.id))
            if not item_id:
                self._problem = self._problem or f"an item of the list has no id at {self._rule.id!r}"
                return
            raw = scalar_text(value_at(item, self._rule.status)) or _null_status(item, self._rule.status) or ""
            found.append((item_id, self._statuses.read(raw)))
        self._listing.add(found)


def _null_status(decoded: object, path: str) -> str | None:
    """The name of a status that is null; None if there is no such member, or if the body is an error's envelope."""
    parent = path.rpartition(".")[0]
    if decoded is None or not is_null(decoded, path) or (value_at(decoded, parent) is None and _reports_error(decoded)):
        return None
    return NULL


_ERROR_MEMBERS = ("error", "errors", "code", "error_code", "message", "detail", "msg")


def _reports_error(decoded: object) -> bool:
    """Whether a body is an error envelope: then its null says that there is no item, not that its status is null."""
    return isinstance(decoded, dict) and any(decoded.get(name) for name in _ERROR_MEMBERS)


def _decoded(body: bytes, what: str) -> object:
    """The JSON value, or a `BadBody`."""
    try:
        return decode_json(body)
    except (ValueError, RecursionError):
        return BadBody(reason=f"{what} is not JSON" if body else f"{what} is empty")


def _problems(options: _Options, settings: ProviderSettings, known: Mapping[str, str]) -> list[str]:
    problems = []
    if options.item is None:
        problems.append('item is missing: add the request for one item, as in { path = "/documents/{item_id}" }')
    elif problem := template_problem(options.item.path, required="item_id", known=("item_id", *known)):
        problems.append(f"item.path {problem}")
    if options.item is not None and (problem := _pattern_problem(options.item.id_pattern)):
        problems.append(f"item.id_pattern {problem}")
    if options.list is not None and (problem := template_problem(options.list.path, required=None, known=tuple(known))):
        problems.append(f"list.path {problem}")
    problems += [
        f"headers.{name[:60]!r} must be a name and one line of printable ASCII"
        for name, value in options.headers.items()
        if not (_HEADER.fullmatch(name) and value.isascii() and value.isprintable())
    ]
    if not settings.statuses.get("completed"):
        problems.append("statuses.completed is missing: name the statuses of an item that is ready")
    return problems


def _matcher(pattern: str | None) -> Callable[[str], bool]:
    return _any_id if pattern is None else compile_id_pattern(pattern)


def _any_id(_: str) -> bool:
    return True


def _pattern_problem(pattern: str | None) -> str | None:
    try:
        _matcher(pattern)
    except ValueError as error:
        return str(error)
    return None
