"""A data engine with as little work per request as a Python process can do: one `asyncio.Protocol`, canned answers.

`python benchmarks/bare_server.py BEHAVIOUR JSON` prints its port and serves until its stdin is closed. Requests are cut
at their ends and not parsed further; connections are kept alive, and pipelined requests are answered in their order.
`POST` is the token endpoint, `GET /stats` returns the counts, any other `GET` asks for an item.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping

from behaviours import BEHAVIOURS, Behaviour, response
from processes import SERVER_CORE, hold_to

_TOKEN = response(200, b'{"access_token":"bench","token_type":"Bearer","expires_in":3600}')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


class _Connection(asyncio.Protocol):
    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour, self._rest = behaviour, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # of TCP

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        start = 0
        while (end := data.find(_END, start)) >= 0:
            after = end + len(_END)
            if data.startswith(b"GET ", start):
                self._get(data[start + 4 : data.find(b" ", start + 4)])
            else:
                length = _LENGTH.search(data, start, end)
                after += int(length[1]) if length else 0
                if after > len(data):
                    break
                self._transport.write(_TOKEN)
            start = after
        self._rest = data[start:]

    def _get(self, path: bytes) -> None:
        if path != b"/stats":
            self._behaviour.answer(path[path.rfind(b"/") + 1 :], self._transport)
            return
        found = {**self._behaviour.counted(), "cpu_s": time.process_time(), "at_s": time.monotonic()}
        self._transport.write(response(200, json.dumps(found).encode()))


async def _serve(name: str, settings: Mapping[str, float]) -> None:
    loop, ending, behaviour = asyncio.get_running_loop(), asyncio.Event(), BEHAVIOURS[name](**settings)
    loop.add_reader(sys.stdin, ending.set)  # the parent process ended
    server = await loop.create_server(lambda: _Connection(behaviour), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ending.wait()


if __name__ == "__main__":
    hold_to(SERVER_CORE)
    asyncio.run(_serve(sys.argv[1], json.loads(sys.argv[2])))
