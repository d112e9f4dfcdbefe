"""A report as one HTML file that opens without the daemon and loads nothing. Pure.

Its charts are the drawings of the page without its script: Plotly alone would make a file of five megabytes, and mail
programs and ticket systems run no scripts. A policy in the file forbids everything but its own stylesheet.
"""

import base64
import hashlib
from dataclasses import replace

from markupsafe import Markup

from monitor.errors import MonitorError
from monitor.reports.document import report_document, worst_targets
from monitor.reports.html.charts import Chart, target_charts
from monitor.reports.html.render import Frame, render
from monitor.reports.html.static import static_file
from monitor.reports.overview import Overview
from monitor.reports.triage import summary_of

_STYLESHEET = "page.css"


def report_html(overview: Overview, *, public_url: str | None = None, details: int | None = None) -> str:
    """The file's text, in UTF-8. Raises MonitorError if the installation lacks the stylesheet.

    Incidents link the page at `public_url`, if there is one. `details`: how many targets are shown (None: all).
    """
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    document = report_document(overview, public_url=public_url, details=details)
    shown = replace(overview, targets=worst_targets(overview.targets, details))
    return render(
        "report.html",
        Frame(title=document.title, generated_at=overview.generated_at, environment=overview.environment, offline=True),
        document=document,
        overview=shown,
        summaries=[summary_of(target, overview.incidents) for target in shown.targets],
        period_query="",
        charts_of=[_charts(shown, number) for number in range(len(shown.targets))],
        style=Markup(style),  # noqa: S704  # our own file
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    )


def _charts(overview: Overview, number: int) -> list[Chart]:
    """The charts of one target: their ids are unique in the file, and figures are for the script."""
    charts = target_charts(overview.targets[number], overview.bounds, now=overview.generated_at)
    return [replace(chart, name=f"{chart.name}-{number + 1}", figure=None) for chart in charts]


def _style() -> str:
    """The page's stylesheet, as the text of an element."""
    file = static_file(_STYLESHEET)
    if file is None:
        reason = f"the stylesheet {_STYLESHEET} is missing from this installation: install the program again"
        raise MonitorError(reason)
    return file.content.decode().replace("\r\n", "\n")
