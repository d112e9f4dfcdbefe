"""Any API with a status per item, described by configuration alone: paths, where the answer has what, statuses.

It reads; it does not send. It guesses nothing: a body without what the configuration names is a bad body.
docs/providers has examples.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from monitor.errors import ConfigError
from monitor.model import BadBody, ItemStatus
from monitor.model.http import Request, is_valid_path
from monitor.model.json_body import decode_json
from monitor.providers import ProviderSettings
from monitor.providers.id_pattern import compile_id_pattern
from monitor.providers.listing import Listing, ListReader
from monitor.providers.pagination import PageRequest, PageRule, first_page, next_page
from monitor.providers.paths import fill_template, scalar_text, template_problem, value_at
from monitor.providers.statuses import StatusTable

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, 5.6.2)."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and lone surrogates, which UTF-8 can't encode."""

_HTTP_STATUSES = range(100, 600)
"""Error objects repeat them as `status`."""


class _ItemRule(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    status: str = "status"
    id: str | None = None
    id_pattern: str | None = None


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
        """The status at `item.status`: a text, a whole number or a boolean; a `BadBody` if the body is not JSON, has no
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
        raw = scalar_text(value)
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
        """Reads one page, whole, as `list` describes it.

        Raises:
            ValueError: the target has no `list`, or the page is not a request of this provider.
        """
        if self.list_ is None or not isinstance(page, PageRequest):
            raise ValueError("only pages of this provider's own list can be read")
        return _PageReader(rule=self.list_, statuses=self.statuses, base_url=self.base_url, page=page, listing=listing)

    def _item_path(self, item_id: str) -> str:
        return fill_template(self.item.path, {**self.values, "item_id": item_id})


@dataclass(slots=True, kw_only=True)
class _PageReader:
    """Collects a whole page; an unusable page adds nothing to the listing."""

    rule: _ListRule
    statuses: StatusTable
    base_url: str
    page: PageRequest
    listing: Listing
    body: bytearray = field(default_factory=bytearray)
    too_large: bool = False

    def feed(self, piece: bytes) -> bool:
        """Keeps the piece; False once the page is larger than allowed."""
        self.too_large = self.too_large or len(self.body) + len(piece) > self.page.max_bytes
        if not self.too_large:
            self.body += piece
        return not self.too_large

    def finish(self, headers: Mapping[str, str]) -> Request | BadBody | None:
        """Adds the page's items and returns what follows it."""
        if self.too_large:
            return BadBody(reason=f"a page of the list is larger than {self.page.max_bytes} bytes")
        decoded = _decoded(bytes(self.body), "a page of the list")
        if isinstance(decoded, BadBody):
            return decoded
        items = value_at(decoded, self.rule.items)
        if not isinstance(items, list):
            return BadBody(reason=f"a page of the list has no array at {self.rule.items!r}")
        next_request = next_page(
            self.rule.page, self.page, body=decoded, count=len(items), headers=headers, base_url=self.base_url
        )
        return next_request if isinstance(next_request, BadBody) else self._add_to_listing(items) or next_request

    def _add_to_listing(self, items: list[object]) -> BadBody | None:
        found = []
        for item in items:
            item_id = scalar_text(value_at(item, self.rule.id))
            if not item_id:
                return BadBody(reason=f"an item of the list has no id at {self.rule.id!r}")
            found.append((item_id, self.statuses.read(scalar_text(value_at(item, self.rule.status)) or "")))
        known = len(self.listing)
        self.listing.add(found)
        if items and len(self.listing) == known:
            # an API that ignores the page parameter sends the first page for ever
            return BadBody(reason="a page of the list has no new items: the pages lead in a circle")
        return None


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
