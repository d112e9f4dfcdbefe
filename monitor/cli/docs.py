"""`docs`: prints a page of the documentation, which an installed wheel has no other way to show."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.options import AsJson
from monitor.cli.session import print_json, print_lines
from monitor.errors import ConfigError, MonitorError

_HOME = "README"
"""The name of a folder's own page."""


def docs(
    page: Annotated[
        str | None,
        typer.Argument(help="A page, such as channels or providers/openai.", show_default="the list of pages"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a page of the documentation as Markdown, or the list of pages.

    Example: ingestion-monitor docs channels
    """
    pages = _pages()
    if page is None:
        titles = {name: _title(path) for name, path in pages.items()}
        if as_json:
            print_json({"pages": [{"page": name, "title": title} for name, title in titles.items()]})
        else:
            width = max(map(len, titles))
            print_lines("\n".join(f"{name:<{width}}  {title}" for name, title in titles.items()))
        return
    name = page.removeprefix("docs/").removesuffix(".md").removesuffix(f"/{_HOME}").rstrip("/")
    if name not in pages:
        raise ConfigError([f"there is no page {name!a}{_hint(name, pages)}"])
    text = pages[name].read_text(encoding="utf-8")
    if as_json:
        print_json({"page": name, "text": text})
    else:
        print_lines(text.rstrip("\n"))


def _hint(name: str, pages: Iterable[str]) -> str:
    from monitor.config.fields import did_you_mean
    from monitor.providers.preset import find_preset

    api = name.removeprefix("providers/")
    preset = find_preset(api)
    if preset is None:
        return did_you_mean(name, pages) or "; `ingestion-monitor docs` lists them"
    shown = f"`ingestion-monitor providers show {api}`"
    if preset.docs is None:
        return f" of its own: {shown} says what there is to know"
    page = preset.docs.removeprefix("docs/").removesuffix(".md")
    return f" of its own: {shown}, and `ingestion-monitor docs {page}` has it among others"


def _pages() -> dict[str, Path]:
    """The pages by name; those that give reasons (docs/adr) are for people with the source."""
    folder = _folder()
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.md"))}
    named = {name.removesuffix(f"/{_HOME}"): path for name, path in found.items()}
    return {name: path for name, path in sorted(named.items()) if not name.startswith("adr/")}


def _folder() -> Path:
    """The folder of the pages: in the wheel inside the package, in a clone beside it."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "docs", package.parent / "docs"):
        if folder.is_dir():
            return folder
    raise MonitorError("this installation has no documentation: install the wheel, or read docs/ in the source")


def _title(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), "")
