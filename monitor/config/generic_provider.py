"""An API that the monitor has no provider for, described by settings alone: `[targets.item]` and `[targets.list]`."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.fields import DottedPath, DottedPathOrBody, ItemPath, ListPath, QueryParameter, Regex, invalid_value
from monitor.config.section import Remedy, Section

_PARAMETERS = {"cursor": "cursor", "offset": "offset", "number": "page"}


class ItemConfig(Section):
    """How the generic provider asks for one item, and where the answer says how the item is."""

    path: Annotated[ItemPath, Remedy('give the path of one item, such as "/documents/{item_id}"')] = Field(
        description="Path of one item below `base_url`, with `{item_id}` where its id belongs; `{publisher_id}` may "
        "stand in it too. Ids are escaped.",
        examples=["/v1/documents/{item_id}"],
    )
    status: DottedPath = Field(
        default="status",
        description="Where in the JSON answer the status is: names with dots between them.",
        examples=["document.status"],
    )
    id: DottedPath | None = Field(
        default=None,
        description="Where the answer names the item itself. When given, an answer about another item is not believed.",
        examples=["id"],
    )
    id_pattern: Regex | None = Field(
        default=None,
        description="A regular expression that a whole id has to match. An id that does not costs no request and is "
        "counted as invalid; without a pattern every id is asked about.",
        examples=["doc_[0-9a-f]{32}"],
    )


class PaginationConfig(Section):
    """How one page of the list leads to the next."""

    by: Literal["none", "link", "cursor", "offset", "number"] = Field(
        default="none",
        description="`none`: one answer holds all. `link`: the header Link names the next page. `cursor`: the body "
        "names it. `offset`: pages begin at a count of items. `number`: pages are numbered.",
    )
    parameter: QueryParameter | None = Field(
        default_factory=lambda given: _PARAMETERS.get(str(given.get("by"))),
        validate_default=False,
        description="The query parameter that carries the cursor, offset or page number: `cursor`, `offset` or `page` "
        "unless said otherwise.",
    )
    next: DottedPath = Field(
        default="next_cursor",
        description="With `cursor`: where in the answer the next cursor is; none or an empty one ends the list.",
    )
    more: DottedPath | None = Field(
        default=None, description="Where in the answer a yes or no says whether more pages follow; a no ends the list."
    )
    total: DottedPath | None = Field(
        default=None, description="With `offset` or `number`: where in the answer the count of all items is."
    )
    size: int | None = Field(
        default=None, ge=1, le=1_000_000, description="How many items to ask for per page; left out, the API decides."
    )
    size_parameter: QueryParameter = Field(default="limit", description="The query parameter that carries `size`.")
    first: int = Field(default=1, ge=0, le=1, description="With `number`: the number of the first page.")

    @field_validator("parameter", "next", "more", "total", "first")
    @classmethod
    def _validate_applies(cls, value: object, info: ValidationInfo) -> object:
        by, name = info.data.get("by"), str(info.field_name)
        if by is not None and by not in _APPLIES_TO[name]:
            raise invalid_value(f'has no meaning where pages go by "{by}": remove it')
        return value


_APPLIES_TO = {
    "parameter": ("cursor", "offset", "number"),
    "next": ("cursor",),
    "more": ("cursor", "offset", "number"),
    "total": ("offset", "number"),
    "first": ("number",),
}
"""The page rules for which a setting says something."""


class ListConfig(Section):
    """How the generic provider asks for all items at once, and where each is in the answer."""

    path: Annotated[ListPath, Remedy('give the path of the list, such as "/documents"')] = Field(
        description="Path of the list below `base_url`; `{publisher_id}` may stand in it.", examples=["/v1/documents"]
    )
    items: DottedPathOrBody = Field(
        default="", description="Where in the answer the array of items is; empty when the answer itself is the array."
    )
    id: DottedPath = Field(default="id", description="Where in each item its id is.")
    status: DottedPath = Field(default="status", description="Where in each item its status is.")
    page: PaginationConfig = Field(default=PaginationConfig(), description="How one page leads to the next.")
