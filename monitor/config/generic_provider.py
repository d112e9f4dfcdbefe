"""The tables `[targets.item]` and `[targets.list]`, which describe an API for the generic provider."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.fields import (
    DottedPath,
    DottedPathOrBody,
    IdPattern,
    ItemPath,
    ListPath,
    QueryParameter,
    invalid_value,
)
from monitor.config.section import Remedy, Section

_PARAMETERS = {"cursor": "cursor", "offset": "offset", "number": "page"}


class ItemConfig(Section):
    """How the generic provider requests one item, and where the response holds its status."""

    path: Annotated[ItemPath, Remedy('give the path of one item, such as "/documents/{item_id}"')] = Field(
        description="The path of one item below `base_url`. `{item_id}` is replaced with the escaped id, and "
        "`{publisher_id}` with the publisher.",
        examples=["/v1/documents/{item_id}"],
    )
    status: DottedPath = Field(
        default="status",
        description="The place of the status in the JSON response: names separated by dots.",
        examples=["document.status"],
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
    text_errors: bool = Field(
        default=False,
        description="Whether the API itself answers errors in plain text or HTML. Without it, a 400, 403, 404 or 410 "
        "that is not JSON is a gateway's, and says nothing about the item.",
    )


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
        description="The query parameter for the cursor, offset or page number. Default: `cursor`, `offset` or `page`.",
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
    size_parameter: QueryParameter = Field(default="limit", description="The query parameter for `size`.")
    first: int = Field(default=1, ge=0, le=1, description="With `number`: the number of the first page.")

    @field_validator("parameter", "next", "more", "total", "first")
    @classmethod
    def _validate_applies(cls, value: object, info: ValidationInfo) -> object:
        by, name = info.data.get("by"), str(info.field_name)
        if by is not None and by not in _APPLIES_TO[name]:
            raise invalid_value(f'does not apply to pages by "{by}": remove it')
        return value


_APPLIES_TO = {
    "parameter": ("cursor", "offset", "number"),
    "next": ("cursor",),
    "more": ("cursor", "offset", "number"),
    "total": ("offset", "number"),
    "first": ("number",),
}
"""The kinds of pages that a setting applies to."""


class ListConfig(Section):
    """How the generic provider requests all items at once, and where the response holds them."""

    path: Annotated[ListPath, Remedy('give the path of the list, such as "/documents"')] = Field(
        description="The path of the list below `base_url`. It can contain `{publisher_id}`.",
        examples=["/v1/documents"],
    )
    items: DottedPathOrBody = Field(
        default="", description="The place of the array of items in the response; empty if the response is the array."
    )
    id: DottedPath = Field(default="id", description="The place of the id in each item.")
    status: DottedPath = Field(default="status", description="The place of the status in each item.")
    page: PaginationConfig = Field(default=PaginationConfig(), description="How one page leads to the next.")
