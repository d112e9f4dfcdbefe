"""What `demo` plays: upload, two checks, a revoked key, an incident, its end, and the history."""

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from monitor.app import App, open_database, utcnow
from monitor.client.auth import ClientCredentials
from monitor.client.client import Client
from monitor.client.transports import HttpxTransport
from monitor.config import Config, load_config
from monitor.database.engine import reading
from monitor.errors import MonitorError
from monitor.incidents import store as incident_store
from monitor.model import RunStatus
from monitor.model.http import Operation, Request
from monitor.reports.history import history_text
from monitor.reports.incidents import incident_text
from monitor.reports.runs import run_text
from monitor.runs import store as run_store
from monitor.runs.progress import NoProgress
from monitor.runs.report import RunReport
from monitor.runs.run import Run
from monitor.sandbox import Sandbox, SandboxSettings

TARGET = "sandbox"
ITEM_SECONDS = 6.0
TIMEOUT_S = 30.0

CONFIG = """\
database = "sqlite:///monitor.db"
environment = "demo"

[[targets]]
name = "{target}"
provider = "gloo"
base_url = "{url}"
publisher_id = "{publisher}"
auth = {{ client_id = "{client_id}", client_secret_file = "client-secret" }}

[targets.sync_log]
url = "sqlite:///pipeline.db"
table = "sync_log"
id_column = "item_id"
submitted_at_column = "uploaded_at"
"""

DOCUMENTS = {
    "sermon.txt": b"On patience: a document takes about six minutes, and a hung one takes for ever.",
    "letter.txt": b"On trust: what was accepted for ingestion is not yet ingested.",
}


class Demo:
    """Plays the main job. Everything is written to `folder`; `output` prints one paragraph."""

    def __init__(self, folder: Path, output: Callable[[str], None]) -> None:
        self._folder, self._output = folder, output
        self._sandbox_time_s = 0.0  # the sandbox has a clock of its own, so that a slow machine plays the same story

    async def run(self) -> None:
        """Plays all steps. Raises MonitorError if a step did not have the result that it should show."""
        with Sandbox(SandboxSettings(item_seconds=ITEM_SECONDS), clock=lambda: self._sandbox_time_s) as sandbox:
            self._output(f"A simulated data engine listens on {sandbox.url}.")
            config = self._configure(sandbox)
            await self._upload(sandbox)
            app = App(config=config, engine=open_database(config))
            try:
                await self._ingest(app)
                await self._revoke_key(app, sandbox)
                await self._restore_key(app, sandbox)
                self._print_history(app)
            finally:
                app.engine.dispose()

    def _configure(self, sandbox: Sandbox) -> Config:
        settings = sandbox.settings
        secret = self._folder / "client-secret"
        secret.write_text(settings.client_secret, encoding="utf-8")
        secret.chmod(0o600)
        path = self._folder / "monitor.toml"
        path.write_text(
            CONFIG.format(
                target=TARGET, url=sandbox.url, publisher=settings.publisher_id, client_id=settings.client_id
            ),
            encoding="utf-8",
        )
        return load_config(path, environ={})

    async def _upload(self, sandbox: Sandbox) -> None:
        """Uploads as a pipeline does, and records the ids in the sync log; one of them was never uploaded."""
        uploaded = [await upload(sandbox, name, content) for name, content in DOCUMENTS.items()]
        lost = str(uuid.uuid4())
        with sqlite3.connect(self._folder / "pipeline.db") as log:
            log.execute("CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)")
            rows = [(item_id, utcnow().isoformat()) for item_id in (*uploaded, lost)]
            log.executemany("INSERT INTO sync_log VALUES (?, ?)", rows)
        log.close()
        self._output(
            f"{len(uploaded)} documents are uploaded. The sync log has their ids, and one of an upload that was lost."
        )

    async def _ingest(self, app: App) -> None:
        await self._check(app, "check, right after the upload:")
        self._sandbox_time_s += ITEM_SECONDS
        report = await self._check(app, "check, after the engine has processed them:")
        finished = report.snapshot is not None and report.snapshot.completed == len(DOCUMENTS)
        _require(finished, "the sandbox did not finish the documents")

    async def _revoke_key(self, app: App, sandbox: Sandbox) -> None:
        sandbox.revoke_client()
        self._output("The key is rotated, but not in the configuration.")
        report = await self._check(app, "check: one refused run opens no incident yet.")
        _require(not report.open_incidents, "one run must not open the incident")
        report = await self._check(app, "check: the second in a row opens an incident.")
        _require(bool(report.open_incidents), "two runs must open an incident")
        incident = report.open_incidents[0]
        with reading(app.engine) as conn:
            events = incident_store.events(conn, incident.id)
        self._output(
            f"incidents show {incident.id}:\n" + incident_text(incident, events=events, members=(), now=utcnow())
        )

    async def _restore_key(self, app: App, sandbox: Sandbox) -> None:
        sandbox.restore_client()
        self._output("The key is restored.")
        await self._check(app, "check: one clean run does not resolve it yet.")
        report = await self._check(app, "check: the second resolves the incident.")
        _require(not report.open_incidents, "two clean runs must resolve the incident")
        _require(report.status is RunStatus.COMPLETE, "the last run must be complete")

    def _print_history(self, app: App) -> None:
        with reading(app.engine) as conn:
            rows = run_store.history(conn, target=None, limit=20)
        self._output("history:\n" + history_text(rows))

    async def _check(self, app: App, heading: str) -> RunReport:
        target = app.config.targets[0]
        report = await Run(app.job(target), interrupt=asyncio.Event(), progress=NoProgress())()
        await app.sender().deliver()
        self._output(f"{heading}\n{run_text(report, now=utcnow())}")
        return report


def _require(condition: bool, text: str) -> None:  # an assertion that stays in
    if not condition:
        raise MonitorError(f"demo: {text}; please report this with the output above")


async def upload(sandbox: Sandbox, name: str, content: bytes) -> str:
    """Uploads a document; returns the id that the API assigned. Raises MonitorError if it was not accepted."""
    settings, boundary = sandbox.settings, uuid.uuid4().hex
    transport = HttpxTransport(base_url=sandbox.url)
    auth = ClientCredentials(
        token_path="/oauth2/token",  # noqa: S106  # a path
        client_id=settings.client_id,
        read_secret=lambda: settings.client_secret,
    )
    request = Request(
        method="POST",
        path="/ingestion/v2/files",
        template="/ingestion/v2/files",
        operation=Operation.WRITE,
        headers={"content-type": f"multipart/form-data; boundary={boundary}"},
        body=_multipart(boundary, settings.publisher_id, name, content),
    )
    try:
        answer = await Client(transport=transport, auth=auth).send(request, deadline_s=time.monotonic() + TIMEOUT_S)
    finally:
        await transport.close()
    if answer.reply is None:
        raise MonitorError(f"demo: the sandbox refused an upload: {answer.error}")
    ids: list[str] = msgspec.json.decode(answer.reply.body)["ingesting"]
    return ids[0]


def _multipart(boundary: str, publisher_id: str, name: str, content: bytes) -> bytes:
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="publisher_id"\r\n\r\n'
        f"{publisher_id}\r\n--{boundary}\r\n"
        f'Content-Disposition: form-data; name="files"; filename="{name}"\r\n'
        "Content-Type: text/plain\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
