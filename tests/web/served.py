"""The endpoints in their own event loop, as in a daemon, and a client on loopback."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from dataclasses import dataclass

from structlog.testing import capture_logs

from monitor.app import utcnow
from monitor.config import load_config
from monitor.web.endpoints import Endpoints
from monitor.web.state import DaemonState, StateTracker

CONFIG = """\
database = "{database}"
[web]
listen = "{listen}"
{web}
[schedule]
every = "5m"
[[targets]]
name = "gloo"
provider = "gloo"
publisher_id = "p1"
auth = {{ client_id = "id", client_secret = "s3cret" }}
{more}
"""


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def ask(address, path, *, method="GET", headers=None, body=None, timeout=10):
    """One request on a new connection."""
    host, port = address
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=timeout)) as connection:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def free_port(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        return taken.getsockname()[1]


def config(folder, *, database, listen="127.0.0.1:0", web="", more="", name="monitor.toml"):
    path = folder / name
    path.write_text(CONFIG.format(database=database, listen=listen, web=web, more=more), encoding="utf-8")
    return load_config(path, environ={})


class Served:
    """Endpoints that serve until the end of a `with` block."""

    def __init__(self, settings, *, retry_s=30.0):
        self._retry_s = retry_s
        self._up, self._ended = threading.Event(), None
        self.state = DaemonState(config=settings)
        self.tracker = StateTracker(self.state, utcnow=utcnow)
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self._logs = contextlib.ExitStack()
        self.logged = self._logs.enter_context(capture_logs())
        self.thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self._ended.set)
        self.thread.join(20)
        self._logs.close()
        assert not self.thread.is_alive()

    async def _run(self):
        self.loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self.endpoints = Endpoints(self.tracker, retry_s=self._retry_s)
        self.endpoints.open()
        self._up.set()
        await self._ended.wait()
        await self.endpoints.close()

    def logged_events(self, event):
        return [each for each in self.logged if each["event"] == event]

    @property
    def address(self):
        host, _, port = self.logged_events("web_listening")[-1]["address"].rpartition(":")
        return host.strip("[]"), int(port)

    def do(self, act):
        """Runs a function in the loop and returns its result."""

        async def once():
            return act()

        return asyncio.run_coroutine_threadsafe(once(), self.loop).result(10)
