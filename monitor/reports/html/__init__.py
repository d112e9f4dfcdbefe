"""HTML of the page and of `report --format html`: templates, the stylesheet, charts.

It renders view models of `monitor.reports` and does nothing else: no HTTP, no SQL, no clock. `monitor.web` serves the
page, the command writes the file; both use the same templates.
"""

from monitor.reports.html.render import Frame, compile_templates, render
from monitor.reports.html.static import StaticFile, plotly_script, static_file

__all__ = ["Frame", "StaticFile", "compile_templates", "plotly_script", "render", "static_file"]
