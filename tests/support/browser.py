"""A real Chromium, for tests marked `process`: `make test` needs none."""

import contextlib
import shutil
from collections.abc import Iterator
from functools import cache

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Playwright, sync_playwright
from support.debian import program

_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@cache
def _installed() -> str | None:
    """A browser of this system; None: Playwright's own."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return None


def _launch(playwright: Playwright) -> Browser:
    path = _installed()
    if path is None:
        with contextlib.suppress(Error):  # `playwright install chromium` was not run
            return playwright.chromium.launch(args=list(_ARGUMENTS))
        path = program("chromium", package="chromium", elsewhere="playwright install chromium")
    return playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Yields a browser."""
    with sync_playwright() as playwright:
        browser = _launch(playwright)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One page that is open, with what went wrong in it."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.problems: list[str] = []
        self.page.on("console", self._on_message)
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        self.page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))

    def _on_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"{message.type}: {message.text}")


@contextlib.contextmanager
def visiting(browser: Browser, **options: object) -> Iterator[Visit]:
    """Yields a new page in a new profile. `options` are those of `Browser.new_context`."""
    context = browser.new_context(**{"viewport": DESKTOP, "timezone_id": "Europe/Berlin", "locale": "en-GB", **options})
    try:
        yield Visit(context)
    finally:
        context.close()
