"""The tables of a canary: `[targets.canary]`, the steps `upload`, `retrieve` and `delete`, and `[targets.find]`."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.fields import Text, invalid_value
from monitor.config.request_fields import (
    Body,
    DottedPath,
    DottedPathOrBody,
    FormField,
    JsonScalar,
    KeptName,
    ParamName,
    StarPathOrValue,
    StarPlaces,
    StepPath,
    WholePlaces,
)
from monitor.config.schedule import ScheduleConfig
from monitor.config.section import Remedy, Section
from monitor.model.durations import DurationRange, format_duration
from monitor.model.schedule import DueTimes

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class CanaryConfig(Section):
    """A tiny document of the monitor's own that is uploaded, waited for, retrieved and deleted."""

    every: Annotated[timedelta, DurationRange("1m", "7d")] | None = Field(
        default=None,
        description="The time between two canaries in the daemon. Without it, only the command `canary` runs one.",
        examples=["1h"],
    )
    slow_after: Annotated[timedelta, DurationRange("1s", "1d")] = Field(
        default=timedelta(minutes=15), description="A canary whose document takes longer to be indexed is slow."
    )
    timeout: Annotated[timedelta, DurationRange("1s", "2d")] = Field(
        default_factory=lambda given: 2 * given.get("slow_after", timedelta(minutes=15)),
        validate_default=False,
        description="How long the document may take to be indexed until the canary fails. Default: twice `slow_after`.",
    )
    params: Mapping[ParamName, Text] = Field(
        default_factory=dict,
        description="The canary's own values of placeholders: a store, site or publisher apart from the one that your "
        "users search. They win over those of the target, and replace `param_columns`.",
        examples=[{"vector_store_id": "vs_canary"}],
    )

    @field_validator("timeout")
    @classmethod
    def _validate_timeout(cls, timeout: timedelta, info: ValidationInfo) -> timedelta:
        slow_after = info.data.get("slow_after")
        if slow_after is not None and timeout <= slow_after:
            raise invalid_value(
                f"must be longer than slow_after, {format_duration(slow_after)}: else no canary is ever slow"
            )
        return timeout

    def due_times(self, target: str) -> DueTimes | None:
        """When a target's canaries are due; None: by the command alone."""
        if self.every is None:
            return None
        return ScheduleConfig(every=self.every).due_times(target, daemon_managed=True)


class StepConfig(Section):
    """One request of the canary, for an API that is described."""

    method: Method | None = Field(
        default=None,
        description="The HTTP method. Default: `DELETE` in `delete`; else `POST` with a body or a form, or `GET`.",
    )
    path: Annotated[StepPath, Remedy('give the path of the request, such as "/documents"')] = Field(
        description="The path below `base_url`. Placeholders: the target's params, `{name}` (the document's unique "
        "name), `{marker}` (the word to look for), `{text}` (the document), `{query}` (a question about it), "
        "`{item_id}`, and what earlier steps keep.",
        examples=["/files/{item_id}"],
    )
    body: Body | None = Field(
        default=None,
        description="The JSON body. Its texts can contain the same placeholders.",
        examples=[{"title": "{name}", "content": "{text}"}],
    )
    form: Mapping[FormField, str] = Field(
        default_factory=dict,
        description="Fields of a form, in place of a body; with `file` it is a multipart form.",
        examples=[{"purpose": "assistants"}],
    )
    file: FormField | None = Field(
        default=None,
        description="In `upload`: the field of the form that has the document, as a text file.",
        examples=["file"],
    )
    keep: Mapping[KeptName, WholePlaces] = Field(
        default_factory=dict,
        description="Values of the answer that later requests use, by name, each with its place; of several places, "
        "the first that is there. `upload` keeps `item_id`.",
        examples=[{"item_id": "id"}],
    )
    expect: Mapping[StarPathOrValue, tuple[JsonScalar, ...]] = Field(
        default_factory=dict,
        description="What the answer must say, by place. Until it does, `retrieve` and `delete` ask again; an upload "
        "fails.",
        examples=[{"status": ["completed"]}],
    )
    snippets: StarPlaces | None = Field(
        default=None,
        description="In `retrieve`: where the answer has texts of the document; one of them must contain the marker.",
        examples=["data.*.text"],
    )


class FindConfig(Section):
    """How the canary finds a document by its name, after an upload whose answer never came."""

    method: Literal["GET", "POST"] | None = Field(
        default=None, description="The HTTP method. Default: `POST` with a body, else `GET`."
    )
    path: Annotated[StepPath, Remedy('give the path of a list, such as "/files"')] = Field(
        description="The path of a list, or of a search by `{name}`. One page is read.", examples=["/files?order=desc"]
    )
    body: Body | None = Field(
        default=None, description="The JSON body, as in a step.", examples=[{"producer_ids": ["{name}"]}]
    )
    items: DottedPathOrBody = Field(default="", description="The place of the array of items in the response.")
    id: DottedPath = Field(default="id", description="The place of the id in each item.")
    name: DottedPath | None = Field(
        default=None,
        description="The place of the name in each item: `{name}`, or `{name}.txt`. Without it, all that are found "
        "are the canary's.",
        examples=["filename"],
    )
