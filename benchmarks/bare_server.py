"""A data engine with as little work per request as a Python process can do: one `asyncio.Protocol`, canned answers.

`python benchmarks/bare_server.py BEHAVIOUR JSON [FOLDER]` prints its port and that of its control, and serves until its
stdin is closed; over TLS if the folder has `server.pem`. Requests are cut at their ends and not parsed further;
connections are kept alive, and pipelined requests are answered in their order. `POST` is the token endpoint, any `GET`
asks for an item or, if its path ends with `/items`, for the list. Of the control, `GET /stats` returns the counts, and
`GET /watch/PID` notes the CPU of that process at its next request.
"""

import asyncio
import json
import re
import ssl
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from behaviours import BEHAVIOURS, Behaviour, response
from processes import SERVER_CORE, cpu_clock_s, hold_to

_TOKEN = response(200, b'{"access_token":"bench","token_type":"Bearer","expires_in":3600}')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


class _Watch:
    """The process whose first request is awaited, and what that was."""

    def __init__(self) -> None:
        self.pid = 0
        self.first: Mapping[str, float] | None = None

    def start(self, pid: int) -> None:
        self.pid, self.first = pid, None

    def note(self) -> None:
        self.first = {"cpu_s": cpu_clock_s(self.pid), "at_s": time.monotonic()}
        self.pid = 0


class _Connection(asyncio.Protocol):
    def __init__(self, behaviour: Behaviour, watch: _Watch) -> None:
        self._behaviour, self._watch, self._rest = behaviour, watch, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # of TCP

    def data_received(self, data: bytes) -> None:
        if self._watch.pid:
            self._watch.note()
        if self._rest:
            data = self._rest + data
        start = 0
        while (end := data.find(_END, start)) >= 0:
            after = end + len(_END)
            if data.startswith(b"GET ", start):
                path = data[start + 4 : data.find(b" ", start + 4)]
                self._behaviour.answer(path[path.rfind(b"/") + 1 :], self._transport)
            else:
                length = _LENGTH.search(data, start, end)
                after += int(length[1]) if length else 0
                if after > len(data):
                    break
                self._transport.write(_TOKEN)
            start = after
        self._rest = data[start:]


class _Control(asyncio.Protocol):
    def __init__(self, behaviour: Behaviour, watch: _Watch) -> None:
        self._behaviour, self._watch = behaviour, watch

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # of TCP

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1]
        if path.startswith(b"/watch/"):
            self._watch.start(int(path[len(b"/watch/") :]))
        counts = {"cpu_s": time.process_time(), "at_s": time.monotonic(), "first": self._watch.first}
        self._transport.write(response(200, json.dumps({**self._behaviour.counted(), **counts}).encode()))


def _context(folder: str) -> ssl.SSLContext | None:
    if not folder:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(folder, "server.pem"))
    return context


async def _serve(name: str, settings: Mapping[str, float], folder: str) -> None:
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    behaviour, watch = BEHAVIOURS[name](**settings), _Watch()
    loop.add_reader(sys.stdin, ending.set)  # the parent process ended
    items = await loop.create_server(
        lambda: _Connection(behaviour, watch), "127.0.0.1", 0, backlog=1024, ssl=_context(folder)
    )
    control = await loop.create_server(lambda: _Control(behaviour, watch), "127.0.0.1", 0)
    print(*(each.sockets[0].getsockname()[1] for each in (items, control)), flush=True)
    await ending.wait()


if __name__ == "__main__":
    hold_to(SERVER_CORE)
    asyncio.run(_serve(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]))
