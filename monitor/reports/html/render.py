"""Renders templates. Every value is escaped; an undefined name is an error."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from monitor.reports.formatting import format_count, format_latency, format_share, iso, plural
from monitor.reports.html.marks import age, is_number, is_time, segment, time_tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What surrounds the content of a page: its head, navigation and forms."""

    title: str
    """In the browser's tab, before the product's name."""
    generated_at: datetime
    environment: str = ""
    path: str = "/"
    """The path of this page, to mark it in the navigation and to return after an action."""
    viewer: str | None = None
    """The name that the viewer logged in with; None: no login was needed."""
    can_log_out: bool = False
    can_act: bool = False
    """Whether forms that acknowledge, silence and resolve are shown."""
    csrf_token: str = ""
    offline: bool = False
    """Whether the page is one file that is opened without the daemon: no links to other pages, assets inlined."""


def render(template: str, frame: Frame, **values: object) -> str:
    """The HTML of a template of this package, such as "overview.html"."""
    return _environment().get_template(template).render(frame=frame, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("monitor.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        age=age,
        count=format_count,
        iso=iso,
        latency=format_latency,
        plural=plural,
        segment=segment,
        share=format_share,
        time=time_tag,
    )
    environment.tests.update(moment=is_time, numeric=is_number)
    return environment
