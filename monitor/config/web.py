"""Where the daemon answers about itself: the table `[web]`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from monitor.config.addresses import listening_address
from monitor.config.checks import text_that
from monitor.config.section import Section

__all__ = ["Web"]

OFF = "off"


def _listen(value: str) -> str:
    if value != OFF:
        listening_address(value)
    return value


class Web(Section):
    """Where the daemon answers about itself: /healthz, /readyz and /metrics."""

    listen: Annotated[str, Field(max_length=300), AfterValidator(text_that(_listen))] = Field(
        default="127.0.0.1:8990",
        description="Host and port that the daemon's health endpoints listen on; only this machine reaches them unless "
        'said otherwise, and containers want "0.0.0.0:8990". Port 0 takes a free one, which the log names; "off" for '
        "no endpoints. They tell no secret and change nothing, but ask nobody for a password.",
        examples=["0.0.0.0:8990"],
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen on; None for no endpoints."""
        return None if self.listen == OFF else listening_address(self.listen)
