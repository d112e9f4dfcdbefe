"""A small world for end-to-end tests: a sandbox, a sync log, a configuration, and the monitor's own database.

Everything in it is real: HTTP over loopback, SQLite files or PostgreSQL databases, and the product's own wiring.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from support.forkserver import START_OF_PYTHON, shared_fork_server

from monitor.app import App, open_database
from monitor.config import load_config
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run
from monitor.sandbox import Sandbox

CONFIG = """\
database = "{database}"
environment = "test"
group_wait = "{group_wait}"

[[targets]]
name = "gloo"
provider = "gloo"
base_url = "{base_url}"
publisher_id = "{publisher}"
auth = {auth}

[targets.sync_log]
url = "{sync_log}"
submitted_at_column = "uploaded_at"

[targets.check]
strategy = "{strategy}"
attempt_timeout = "5s"
{check}
{more}
"""
ANOTHER_TARGET = """
[[targets]]
name = "{name}"
provider = "gloo"
base_url = "{base_url}"
publisher_id = "{publisher}"
auth = {auth}
sync_log = {{ url = "{sync_log}" }}
{more}
[targets.check]
strategy = "items"
{check}
"""


class Clock:
    """A clock that tests move."""

    def __init__(self):
        self.now = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)

    def __call__(self):
        return self.now

    def advance(self, **span):
        self.now += timedelta(**span)


class World:
    """The world of one test; `run` is one run of the target, `check` the command in its own process."""

    def __init__(self, folder: Path, sandbox: Sandbox, *, database: str, sync_log: str):
        self.folder, self.sandbox, self.database, self.sync_log = folder, sandbox, database, sync_log
        self.clock = Clock()
        self.config_path = folder / "monitor.toml"
        self._apps = contextlib.ExitStack()
        self._app = None
        settings = sandbox.settings
        self.client_auth = f'{{ client_id = "{settings.client_id}", client_secret = "{settings.client_secret}" }}'
        self.key_auth = f'{{ api_key = "{settings.api_key}" }}'
        self.configure()
        self.log("CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)")

    def configure(
        self,
        *,
        auth=None,
        strategy="items",
        check="",
        more="",
        base_url=None,
        sync_log=None,
        database=None,
        built_in_log=False,
        group_wait="0s",
    ):
        """Writes the configuration for the next run."""
        content = CONFIG.format(
            database=database or self.database,
            base_url=base_url or self.sandbox.url,
            publisher=self.sandbox.settings.publisher_id,
            auth=auth or self.client_auth,
            sync_log=sync_log or self.sync_log,
            strategy=strategy,
            check=check,
            more=more,
            group_wait=group_wait,
        )
        if built_in_log:
            content = re.sub(r"\[targets\.sync_log\].*?\n\n", "", content, flags=re.DOTALL)
        self.config_path.write_text(content, encoding="utf-8")
        self.close()

    def another_target(self, name, *, auth=None, base_url=None, sync_log=None, check="", more=""):
        """The configuration of one more target beside the first, for `configure(more=…)`."""
        return ANOTHER_TARGET.format(
            name=name,
            base_url=base_url or self.sandbox.url,
            publisher=self.sandbox.settings.publisher_id,
            auth=auth or self.client_auth,
            sync_log=sync_log or self.sync_log,
            check=check,
            more=more,
        )

    @property
    def app(self):
        if self._app is None:
            config = load_config(self.config_path, environ={})
            engine = open_database(config)
            self._apps.callback(engine.dispose)
            self._app = App(config=config, engine=engine)
        return self._app

    def close(self):
        self._apps.close()
        self._app = None

    def log(self, statement, rows=()):
        """Runs a statement on the user's sync log."""
        engine = create_engine(make_url(self.sync_log).set(drivername=_driver(self.sync_log)))
        with engine.begin() as conn:
            conn.execute(text(statement), rows) if rows else conn.execute(text(statement))
        engine.dispose()

    def record(self, *item_ids, uploaded_at=None):
        """Adds uploads to the sync log, like the pipeline."""
        at = uploaded_at.isoformat() if uploaded_at else None
        self.log("INSERT INTO sync_log VALUES (:i, :at)", [{"i": item_id, "at": at} for item_id in item_ids])

    def track(self, count, status="COMPLETED", **fields):
        """Adds items to the engine and the sync log; returns their ids."""
        made = self.sandbox.create_items(count, status=status)
        self.record(*made, **fields)
        return made

    def job(self, **changes):
        by_clock = {"utcnow": self.clock, "lease_now": lambda _conn: self.clock()}
        return replace(self.app.job(self.app.config.targets[0]), **{**by_clock, **changes})

    def run(self, *, run_key=None, interrupt=None, **changes):
        """One run of the target at the clock's time; then the clock moves by a minute."""

        async def once():
            return await Run(
                self.job(**changes), interrupt=interrupt or asyncio.Event(), progress=NoProgress(), run_key=run_key
            )()

        try:
            return asyncio.run(once())
        finally:
            self.clock.advance(minutes=1)

    def rows(self, query):
        """Rows of our own database, as dictionaries."""
        with self.app.engine.connect() as conn:
            return [dict(row) for row in conn.execute(text(query)).mappings()]

    def cli(self, *arguments, env=None, config=True, timeout=240, cwd=None):
        """Runs the command in its own process; returns its output and exit code."""
        arguments = [*map(str, arguments), *(["--config", str(self.config_path)] if config else [])]
        cwd = cwd or self.folder
        if not any(name.startswith(START_OF_PYTHON) for name in env or ()):
            return shared_fork_server().run(arguments, env=environment(env), cwd=cwd, timeout_s=timeout)
        command = [sys.executable, "-m", "monitor", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment(env), cwd=cwd, check=False
        )

    def start(self, *arguments, env=None):
        """Starts the command and returns its process."""
        command = [sys.executable, "-m", "monitor", *arguments, "--config", str(self.config_path)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(env), cwd=self.folder
        )


def environment(extra=None):
    """The environment without settings of the monitor, and without health endpoints unless a test wants them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "GLOO_"))}
    return {**kept, "MONITOR_WEB__LISTEN": "off", **(extra or {})}


def _driver(url):
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"
