"""A report as one HTML file that opens without the daemon and loads nothing. Pure.

Its charts are the drawings of the page without its script: Plotly alone would make a file of five megabytes, and mail
programs and ticket systems run no scripts. A policy in the file forbids everything but its own stylesheet.
"""

import base64
import hashlib
from dataclasses import replace

from markupsafe import Markup

from monitor.errors import MonitorError
from monitor.reports.document import Document
from monitor.reports.html.charts import target_charts
from monitor.reports.html.render import Frame, render
from monitor.reports.html.static import static_file

_STYLESHEET = "page.css"


def report_html(document: Document, *, environment: str) -> str:
    """The file's text, in UTF-8. Raises MonitorError if the installation lacks the stylesheet."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    sections = []
    for number, section in enumerate(document.sections, 1):
        charts = target_charts(section.target, document.bounds, now=document.generated_at)
        # ids are unique in the file, and figures are for the script
        named = [replace(chart, name=f"{chart.name}-{number}", figure=None) for chart in charts]
        sections.append((section, named))
    frame = Frame(title=document.title, generated_at=document.generated_at, environment=environment, offline=True)
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return render(
        "report.html",
        frame,
        document=document,
        sections=sections,
        style=Markup(style),  # noqa: S704  # our own file
        policy=policy,
    )


def _style() -> str:
    """The page's stylesheet, as the text of an element."""
    file = static_file(_STYLESHEET)
    if file is None:
        reason = f"the stylesheet {_STYLESHEET} is missing from this installation: install the program again"
        raise MonitorError(reason)
    return file.content.decode().replace("\r\n", "\n")
