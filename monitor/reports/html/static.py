"""Files that the page loads: our stylesheet and script, and Plotly's script from its wheel."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_STYLE_ID = re.compile(
    r'if\(!document\.getElementById\("([0-9a-f]{64})"\)\)\{var \w+=document\.createElement\("style"\)'
)
_PLOTLY = "plotly/package_data/plotly.min.js"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    """One file, as it is served or inlined."""

    name: str
    content: bytes
    media_type: str
    etag: str
    """Changes with the content."""


@cache
def static_file(name: str) -> StaticFile | None:
    """A file of this package's `static` folder by its exact name; None if there is none."""
    for each in resources.files("monitor.reports.html").joinpath("static").iterdir():
        if each.name == name:
            return _file(name, each.read_bytes())
    return None


@cache
def plotly_script() -> StaticFile:
    """Plotly's own script, found without an import of plotly. Raises PackageNotFoundError if it is not installed."""
    path = metadata.distribution("plotly").locate_file(_PLOTLY)
    return _file("plotly.min.js", Path(str(path)).read_bytes())


@cache
def plotly_style_ids() -> tuple[str, ...]:
    """Ids of the style elements that Plotly's script adds when it is loaded, unless elements with these ids exist.

    The page's security policy refuses such elements, and its charts need none: they are for maps.
    """
    try:
        script = plotly_script().content.decode()
    except metadata.PackageNotFoundError:
        return ()
    return tuple(_STYLE_ID.findall(script))


def _file(name: str, content: bytes) -> StaticFile:
    digest = hashlib.blake2b(content, digest_size=12).hexdigest()
    return StaticFile(name=name, content=content, media_type=_TYPES[name.rpartition(".")[2]], etag=f'"{digest}"')
