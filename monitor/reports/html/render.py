"""Renders templates. Every value is escaped; an undefined name is an error."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monitor.reports.formatting import format_count, format_share, format_time, iso, plural


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
    environment.filters.update(time=time_tag, count=format_count, share=format_share, iso=iso, plural=plural)
    return environment


def time_tag(at: datetime | None) -> Markup:
    """A moment as `<time>`: UTC as text, which the script shows in the viewer's zone. A dash for None."""
    if at is None:
        return Markup("–")
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(utc.isoformat(timespec="seconds"), format_time(utc))
