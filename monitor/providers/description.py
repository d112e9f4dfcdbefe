"""The form of a provider's description: what a target's `item`, `list`, `errors` and the canary's steps contain. Pure.

docs/providers says what each key means. Whether the values make sense together is checked in `description_problems`.
"""

from collections.abc import Mapping, Sequence

import msgspec

from monitor.providers.pagination import PageRule
from monitor.providers.statuses import Word

Paths = str | tuple[str, ...]
"""A dotted path, or several of them: the first that leads somewhere counts."""


class NotFoundRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What else means that there is no such item."""

    statuses: tuple[int, ...] = ()
    """HTTP statuses of the item question."""
    absent: tuple[str, ...] = ()
    """Paths in a 2xx; one that is missing, null, or an empty list or object means so. `""` is the item's answer."""
    values: dict[str, tuple[Word, ...]] = {}
    """Values by path, in a body of any status; with `batch`, in the item's answer."""


class ResultRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second question, asked when the first does not settle the state."""

    when: tuple[Word, ...] = ()
    """The statuses of the first answer that need it."""
    path: str = ""
    status: Paths = "status"
    reason: Paths | None = None
    message: Paths | None = None


class ItemRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The question for one item, or for a batch of them."""

    path: str
    method: str = "GET"
    body: object = None
    """Any JSON value; its texts may have placeholders."""
    batch: int | None = None
    """How many ids one request takes, as `{item_ids}`; None: one, as `{item_id}`."""
    items: str | None = None
    """Where the answers are, if the body may have several."""
    keyed: bool = False
    """The answers are an object whose keys are the ids."""
    status: Paths = "status"
    id: str | None = None
    id_pattern: str | None = None
    reason: Paths | None = None
    message: Paths | None = None
    text_errors: bool = False
    not_found: NotFoundRule = NotFoundRule()
    result: ResultRule | None = None

    @property
    def has_many(self) -> bool:
        """Whether the body has answers for several ids, of which each is looked up."""
        return self.batch is not None or self.items is not None or self.keyed


class ErrorRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer that means a cause, whatever its status says."""

    cause: str
    statuses: tuple[int, ...] = ()
    path: str | None = None
    values: tuple[Word, ...] = ()


class ListRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The question for all items."""

    path: str
    method: str = "GET"
    body: object = None
    items: str = ""
    keyed: bool = False
    id: str = "id"
    status: Paths = "status"
    reason: Paths | None = None
    message: Paths | None = None
    page: PageRule = PageRule()


class StepRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request of the canary: a part of the upload, of the retrieval or of the deletion."""

    path: str
    method: str | None = None
    """None: see `method_of`."""
    body: object = None
    """Any JSON value; its texts may have placeholders."""
    form: dict[str, str] = {}
    """Fields of a form; their texts may have placeholders."""
    file: str | None = None
    """The form's field that has the document; with it the form is multipart."""
    keep: dict[str, Paths] = {}
    """Values of the answer by name, for the requests after it; `item_id` is the item's."""
    expect: dict[str, tuple[Word, ...]] = {}
    """What the answer must say, by path; it is asked again until it does, but for an upload."""
    snippets: Paths | None = None
    """Where an answer of the retrieval has texts of the document."""


class FindRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The question for items by the name of the canary's document, whose id is not known."""

    path: str
    method: str | None = None
    """None: `POST` with a body, else `GET`."""
    body: object = None
    items: str = ""
    id: str = "id"
    name: str | None = None
    """The place of the name in each item; None: all that are found have it."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a target, or a preset under it, says about an API; its other keys are not about questions and answers."""

    item: ItemRule | None = None
    list: ListRule | None = None
    errors: tuple[ErrorRule, ...] = ()
    upload: tuple[StepRule, ...] = ()
    retrieve: tuple[StepRule, ...] = ()
    delete: tuple[StepRule, ...] = ()
    find: FindRule | None = None
    headers: dict[str, str] = {}
    uuid_ids: bool = False


def parse_description(options: Mapping[str, object]) -> Description:
    """The description in plain JSON values; a null is the same as a key that is left out.

    Raises:
        msgspec.ValidationError: it has a key or a value of another form; the text names the place.
    """
    return msgspec.convert(_without_nulls(options), type=Description)


def _without_nulls(value: object) -> object:
    """The same without members that are null, except inside `body`, where null is JSON's."""
    if isinstance(value, Mapping):
        return {
            name: each if name == "body" else _without_nulls(each) for name, each in value.items() if each is not None
        }
    return list(map(_without_nulls, value)) if isinstance(value, list | tuple) else value


def paths_of(given: Paths | None) -> Sequence[str]:
    """One or several paths, or none, as a sequence."""
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else given
