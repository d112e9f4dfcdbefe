"""Takes the pictures of docs/images from the page of `make demo-page`: `python scripts/screenshots.py docs/images`.

Names after the folder choose some of them, such as `workers workers-dark`. The page of workers is another daemon's
(`fleet_page.py`).

The pictures have a palette of 256 colours, so that each is small. They are never the same twice, as the night ends now.
"""

import base64
import contextlib
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo_page import play_night, serving
from fleet_page import fleet_daemon
from playwright.sync_api import Browser, Page
from support.browser import chromium, visiting

PORT, FLEET_PORT = 8991, 8992
"""Others than that of `make demo-page`, so that all can run."""
COLORS = 256
START_S = 30.0
PIXELS = """async source => {
    const image = new Image(); image.src = source; await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, image.width, image.height).data;
    let text = "";
    for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
    return [image.width, image.height, btoa(text)];
}"""
"""The bytes of a picture's pixels, four for each, decoded by the browser."""
DRAWN = "() => [...document.querySelectorAll('.plotly-box')].every(box => box.hidden || box.firstChild)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One file: what it shows, and how."""

    name: str
    path: str
    width: int = 1200
    height: int = 820
    options: dict[str, Any] = field(default_factory=dict)
    """Of the browser's context."""
    scroll_to: str = ""
    """A selector of what is at the top; "" for the beginning of the page."""
    port: int = PORT
    """Of the daemon."""


PICTURES = (
    Picture(name="overview", path="/"),
    Picture(
        name="target",
        path="/targets/gloo-eu",
        height=1000,
        options={"color_scheme": "dark"},
        scroll_to="#chart-completed",
    ),
    Picture(
        name="incident", path="/incidents/5", width=390, height=844, options={"has_touch": True, "is_mobile": True}
    ),
    Picture(name="why", path="/incidents/11", height=700, scroll_to="#why-heading"),
    Picture(name="items", path="/items?state=stuck", height=520),
    Picture(name="status", path="/status", width=720, height=420),
    Picture(name="workers", path="/workers", height=1000, port=FLEET_PORT),
    Picture(name="workers-dark", path="/workers", height=1000, port=FLEET_PORT, options={"color_scheme": "dark"}),
    Picture(
        name="workers-phone", path="/workers", width=390, height=1400, port=FLEET_PORT,
        options={"has_touch": True, "is_mobile": True},
    ),
)  # fmt: skip


@contextlib.contextmanager
def daemon() -> Iterator[None]:
    """A daemon with the page, after the night."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ingestion-monitor-page-")))
        config = play_night(folder, stack, port=PORT)
        stack.enter_context(serving(config))
        yield


def wait_for_page(port: int) -> None:
    """Returns once the port of a page is open."""
    until = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def take(browser: Browser, picture: Picture) -> bytes:
    """A picture as PNG."""
    size = {"width": picture.width, "height": picture.height}
    with visiting(browser, viewport=size, **{"color_scheme": "light", **picture.options}) as visit:
        page = visit.page
        page.goto(f"http://127.0.0.1:{picture.port}{picture.path}")
        if picture.scroll_to:
            page.locator(picture.scroll_to).evaluate("element => element.scrollIntoView()")
        page.wait_for_function(DRAWN)
        page.wait_for_load_state("networkidle")
        return reduced(page, page.screenshot())


def reduced(page: Page, picture: bytes) -> bytes:
    """The same picture with a palette: the most frequent colours, and for all others the nearest of these."""
    width, height, text = page.evaluate(PIXELS, "data:image/png;base64," + base64.b64encode(picture).decode())
    data = base64.b64decode(text)
    pixels = list(zip(data[0::4], data[1::4], data[2::4], strict=True))
    counted = Counter(pixels).most_common()
    palette = [color for color, _ in counted[:COLORS]]
    places = {color: place for place, color in enumerate(palette)}
    for color, _ in counted[COLORS:]:
        places[color] = min(range(len(palette)), key=lambda place, of=color: distance(palette[place], of))
    rows = bytes(places[pixel] for pixel in pixels)
    lines = b"".join(b"\0" + rows[at : at + width] for at in range(0, len(rows), width))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": b"".join(bytes(color) for color in palette),
        b"IDAT": zlib.compress(lines, 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in chunks.items())


def distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How far two colours are apart."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0] if arguments else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [each for each in PICTURES if not arguments[1:] or each.name in arguments[1:]]
    with contextlib.ExitStack() as stack:
        for port, serving in ((PORT, daemon), (FLEET_PORT, lambda: fleet_daemon(port=FLEET_PORT))):
            if any(each.port == port for each in pictures):
                stack.enter_context(serving())
                wait_for_page(port)
        browser = stack.enter_context(chromium())
        for picture in pictures:
            content = take(browser, picture)
            (folder / f"{picture.name}.png").write_bytes(content)
            sys.stdout.write(f"{picture.name}.png: {len(content) // 1024} kB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
