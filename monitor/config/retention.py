"""How long the past is kept, as configured: the table `[retention]`. What is never pruned is decided elsewhere."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from monitor.config.durations import Between
from monitor.config.section import Section
from monitor.health.ageing import Ages

__all__ = ["Retention"]


class Retention(Section):
    """How long the past is kept. What is not set here is kept for good."""

    # no rule looks back further than 30 days (`rules.window`): nothing that a rule counts can be pruned
    snapshots: Annotated[timedelta, Between("31d", "36500d")] | None = Field(
        default=None,
        description="Runs that finished longer ago are deleted, with their snapshots and evidence; the newest of each "
        "target stay. 31d at the least: rules look back as far.",
        examples=["400d"],
    )
    item_events: Annotated[timedelta, Between("1d", "36500d")] | None = Field(
        default=None,
        description="Changes of single items that are older are deleted: what `items show` tells of an item's life.",
        examples=["90d"],
    )
    notifications: Annotated[timedelta, Between("1d", "36500d")] | None = Field(
        default=None,
        description="Delivered messages that are older are deleted, once their incident was resolved as long ago. "
        "What is due or was given up stays.",
        examples=["30d"],
    )

    def ages(self) -> Ages:
        """The ages alone."""
        return Ages(snapshots=self.snapshots, item_events=self.item_events, notifications=self.notifications)
