"""The tables that describe an API: `[targets.item]`, `[targets.list]` and `[[targets.errors]]`."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from monitor.config.fields import StatusWord, invalid_value
from monitor.config.request_fields import (
    Body,
    DottedPath,
    DottedPathOrBody,
    HttpStatus,
    IdPattern,
    ItemPath,
    JsonScalar,
    ListPath,
    MissingStatus,
    QueryParameter,
    StarPathOrValue,
    StarPlaces,
    StatusPlaces,
    placeholders,
)
from monitor.config.section import Remedy, Section
from monitor.providers.templates import BodyTemplate

_PARAMETERS = {"cursor": "cursor", "offset": "offset", "number": "page"}


class NotFoundConfig(Section):
    """What else means that the API has no such item, beside 404 and 410."""

    statuses: tuple[MissingStatus, ...] = Field(
        default=(), description="Further HTTP statuses of the item question.", examples=[[400]]
    )
    absent: tuple[DottedPathOrBody, ...] = Field(
        default=(),
        description="Places in a 2xx where a missing value, a null or an empty list or table says so.",
        examples=[["documents"]],
    )
    values: Mapping[StarPathOrValue, tuple[JsonScalar, ...]] = Field(
        default_factory=dict,
        description="Values by their place in the body, at any HTTP status.",
        examples=[{"code": [102]}],
    )


class ResultConfig(Section):
    """A second question, for an API whose first answer does not say how it ended."""

    when: tuple[StatusWord, ...] = Field(
        min_length=1, description="The statuses of the first answer that need the second question."
    )
    path: Annotated[ItemPath, Remedy('give the path of the result, such as "/results/{item_id}"')] = Field(
        description="The path of the second question. It contains `{item_id}`, and may contain parameters.",
        examples=["/v1/result/{item_id}"],
    )
    status: StatusPlaces = Field(
        default="status", validate_default=True, description="The place of the status, as in the item."
    )
    reason: StarPlaces | None = Field(default=None, description="Why a failed item failed, as in the item.")
    message: StarPlaces | None = Field(default=None, description="The provider's own text, as in the item.")

    @field_validator("path")
    @classmethod
    def _validate_path(cls, path: str) -> str:
        if not {"item_id", "item_id:path"} & set(placeholders(path)):
            raise invalid_value('must contain {item_id} once, as in "/results/{item_id}"')
        return path


class ItemConfig(Section):
    """How one item is requested, and where the response holds its status."""

    method: Literal["GET", "POST"] = Field(default="GET", description="The HTTP method of the request.")
    path: Annotated[ItemPath, Remedy('give the path of one item, such as "/documents/{item_id}"')] = Field(
        description="The path of one item below `base_url`. `{item_id}` is replaced with the escaped id, "
        "`{item_id:path}` with the id whose slashes stay, any other `{name}` with that parameter.",
        examples=["/v1/documents/{item_id}"],
    )
    body: Body | None = Field(
        default=None,
        validate_default=True,
        description='With `POST`: the JSON body. Placeholders stand in its texts; the text `"{item_ids}"` becomes the '
        "array of ids. The one element of an array that has `{item_id}` is repeated for each id of a batch.",
        examples=[{"ids": "{item_ids}", "store": "{store}"}],
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many ids one request asks about, as `{item_ids}` in the body or in the query. Default: one, "
        "as `{item_id}`.",
    )
    items: DottedPathOrBody | None = Field(
        default=None,
        description="With `batch`: the place of the array of answers; `id` and `status` are places in each.",
    )
    keyed: bool = Field(
        default=False, description="Whether the table at `items`, or the body, has ids as its keys, and statuses below."
    )
    status: StatusPlaces = Field(
        default="status",
        validate_default=True,
        description="The place of the status in the JSON response: names separated by dots. With `*` for every element "
        "of a list, the worst counts: failed, then pending, then completed.",
        examples=["document.status", "documents.*.status"],
    )
    id: DottedPath | None = Field(
        default=None,
        description="The place of the item's id in the response. If given, a response about another item is rejected.",
        examples=["id"],
    )
    id_pattern: IdPattern | None = Field(
        default=None,
        description="A regular expression that a whole id must match. An id that does not match is counted as invalid, "
        "without a request. It is matched in linear time, so it has neither look-around nor back-references.",
        examples=["doc_[0-9a-f]{32}"],
    )
    reason: StarPlaces | None = Field(
        default=None,
        description="The place of the code that says why a failed item failed; of several, the first that is there.",
        examples=["last_error.code"],
    )
    message: StarPlaces | None = Field(
        default=None,
        description="The place of the provider's own text about a failure. Only channels with `include_api_message` "
        "show it.",
        examples=["last_error.message"],
    )
    text_errors: bool = Field(
        default=False,
        description="Whether the API itself answers errors in plain text or HTML. Without it, a 400, 403, 404 or 410 "
        "that is not JSON is a gateway's, and says nothing about the item.",
    )
    not_found: NotFoundConfig = Field(
        default=NotFoundConfig(), description="What else means that there is no such item."
    )
    result: ResultConfig | None = Field(
        default=None, description="A second question, if the first does not settle the state."
    )

    @field_validator("body")
    @classmethod
    def _validate_body(cls, body: object, info: ValidationInfo) -> object:
        return _with_method(body, info)

    @model_validator(mode="after")
    def _validate_ids(self) -> Self:
        """The ids are in the request, once, and in the form that `batch` needs."""
        in_path, in_body = set(placeholders(self.path)), set(placeholders(self.body))
        in_query = self.path.partition("?")[2]
        per_id = "item_id" in in_body and "item_id" not in BodyTemplate(self.body).names_in_batch
        if self.batch is not None and not per_id and "item_ids" not in in_body | set(placeholders(in_query)):
            raise invalid_value(
                "needs {item_ids} in item.body, or in the query of item.path, or {item_id} in the one element of an "
                "array in item.body: add it",
                suffix=".batch",
            )
        if self.batch is None and not {"item_id", "item_id:path"} & (in_path | in_body):
            raise invalid_value('must contain {item_id} once, as in "/documents/{item_id}"', suffix=".path")
        if self.batch is not None and not self.keyed and self.id is None:
            raise invalid_value('is missing: say where each answer of a batch has its id, such as "id"', suffix=".id")
        return self


class ErrorConfig(Section):
    """What a value in the body of an answer, or an HTTP status, means."""

    cause: Literal[
        "unauthorized", "forbidden", "spending_limit", "wrong_scope", "rate_limited", "outage", "bad_request", "invalid"
    ] = Field(description="The cause; `invalid`: the API can't accept this id.")
    statuses: tuple[HttpStatus, ...] = Field(default=(), description="Only at these HTTP statuses. Default: at any.")
    path: StarPathOrValue | None = Field(default=None, description="The place of the value in the body.")
    values: tuple[JsonScalar, ...] = Field(
        default=(), validate_default=True, description="The values that mean it; case is ignored."
    )

    @field_validator("values")
    @classmethod
    def _validate_values(cls, values: tuple[object, ...], info: ValidationInfo) -> tuple[object, ...]:
        place = info.data.get("path", "")
        if place is None and (values or not info.data.get("statuses")):
            raise invalid_value('needs path: say where in the body the values are, such as "error.type"')
        if place is not None and not values and "path" in info.data:
            raise invalid_value("is missing: say which values at path mean this cause")
        return values


class PaginationConfig(Section):
    """How one page of the list leads to the next."""

    by: Literal["none", "link", "cursor", "offset", "number"] = Field(
        default="none",
        description="`none`: one response holds all items. `link`: the Link header names the next page. `cursor`: the "
        "body names it. `offset`: a page starts at an item count. `number`: pages are numbered.",
    )
    parameter: QueryParameter | None = Field(
        default_factory=lambda given: _PARAMETERS.get(str(given.get("by"))),
        validate_default=False,
        description="The parameter for the cursor, offset or page number. Default: `cursor`, `offset` or `page`.",
    )
    next: DottedPath = Field(
        default="next_cursor",
        description="With `cursor`: the place of the next cursor in the response. A missing or empty cursor ends the "
        "list.",
    )
    more: DottedPath | None = Field(
        default=None, description="The place of a boolean that says whether more pages follow; false ends the list."
    )
    total: DottedPath | None = Field(
        default=None, description="With `offset` or `number`: the place of the total item count."
    )
    size: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Items per page. By default the API decides."
    )
    size_parameter: QueryParameter = Field(default="limit", description="The parameter for `size`.")
    first: int = Field(default=1, ge=0, le=1, description="With `number`: the number of the first page.")
    in_: Literal["query", "body"] | None = Field(
        default=None,
        alias="in",
        description="Where the parameters go. Default: into the body of a `POST`, else the query.",
    )

    @field_validator("parameter", "next", "more", "total", "first", "in_")
    @classmethod
    def _validate_applies(cls, value: object, info: ValidationInfo) -> object:
        by, name = info.data.get("by"), str(info.field_name)
        if by is not None and by not in _APPLIES_TO[name] and value != cls.model_fields[name].default:
            raise invalid_value(f'does not apply to pages by "{by}": remove it')
        return value


_APPLIES_TO = {
    "parameter": ("cursor", "offset", "number"),
    "next": ("cursor",),
    "more": ("cursor", "offset", "number"),
    "total": ("offset", "number"),
    "first": ("number",),
    "in_": ("cursor", "offset", "number"),
}
"""The kinds of pages that a setting applies to."""


class ListConfig(Section):
    """How all items are requested at once, and where the response holds them."""

    method: Literal["GET", "POST"] = Field(default="GET", description="The HTTP method of the request.")
    path: Annotated[ListPath, Remedy('give the path of the list, such as "/documents"')] = Field(
        description="The path of the list below `base_url`. It can contain parameters.", examples=["/v1/documents"]
    )
    body: Body | None = Field(
        default=None, validate_default=True, description="With `POST`: the JSON body. Its texts can contain parameters."
    )
    items: DottedPathOrBody = Field(
        default="", description="The place of the array of items in the response; empty if the response is the array."
    )
    keyed: bool = Field(default=False, description="Whether the table at `items` has ids as its keys.")
    id: DottedPath = Field(default="id", description="The place of the id in each item; not used with `keyed`.")
    status: StatusPlaces = Field(
        default="status",
        validate_default=True,
        description="The place of the status in each item; with `keyed`, empty for the value itself.",
    )
    reason: StarPlaces | None = Field(default=None, description="The place of a failure's reason in each item.")
    message: StarPlaces | None = Field(default=None, description="The place of the provider's own text in each item.")
    page: PaginationConfig = Field(default=PaginationConfig(), description="How one page leads to the next.")

    @field_validator("body")
    @classmethod
    def _validate_body(cls, body: object, info: ValidationInfo) -> object:
        names = set(placeholders(body)) & {"item_id", "item_id:path", "item_ids"}
        if names:
            raise invalid_value(f"contains {{{min(names)}}}, but a list is not about one item: remove it")
        return _with_method(body, info)

    @property
    def placeholders(self) -> frozenset[str]:
        """The parameters in path and body."""
        return frozenset((*placeholders(self.path), *placeholders(self.body)))


def _with_method(body: object, info: ValidationInfo) -> object:
    if body is not None and info.data.get("method") == "GET":
        raise invalid_value('needs method = "POST": a GET has no body')
    return body
