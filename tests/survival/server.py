"""A private PostgreSQL server that tests can stop, start, freeze and fill."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from support.memory import folder_in_memory
from support.postgres import _account, _initdb, _programs

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # only the server crashes, not the machine
    "max_connections": "20",
    "shared_buffers": "32MB",
    "autovacuum": "off",
}


class Server:
    """A server in its own folder; its port stays the same."""

    def __init__(self, folder, **settings):
        self._folder, self._settings = folder, {**SETTINGS, "unix_socket_directories": folder, **settings}
        self._account, self._secret = _account(folder), secrets.token_urlsafe(12)
        self._programs = _programs(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        _initdb(self._programs, folder, self._account, self._secret)
        self._process = None

    @property
    def url(self):
        return f"postgresql://postgres:{self._secret}@127.0.0.1:{self.port}/postgres"

    def start(self):
        """Starts the server and waits until it answers."""
        command = [self._programs / "postgres", "-D", self._folder / "data", "-p", str(self.port)]
        command += [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._account)
        ends_s = time.monotonic() + 60
        while True:
            try:
                return psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > ends_s:
                    raise
                time.sleep(0.05)

    def stop(self):
        """Stops like `pg_ctl stop -m immediate`: every session ends at once, and the next start recovers."""
        if self._process is not None:
            self.thaw()
            command = [self._programs / "pg_ctl", "stop", "-m", "immediate", "-D", self._folder / "data"]
            subprocess.run(command, cwd=self._folder, capture_output=True, check=True, **self._account)
            self._process.wait(timeout=20)
            self._process = None

    def freeze(self):
        """Stops all processes of the server; connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def _signal(self, sign):
        for pid in (self._process.pid, *_children(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)

    def ask(self, statement, **options):
        """Runs one statement as the superuser; returns its rows, if any."""
        with psycopg.connect(self.url, autocommit=True, **options) as conn:
            cursor = conn.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def end_sessions(self):
        """Ends every session of the monitor; returns their number."""
        ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ingestion-monitor'"
        return len(self.ask(ours))


def _children(parent):
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                yield int(stat.parent.name)


@contextlib.contextmanager
def own_server(folder=None, **settings):
    """A running server; it and its folder are removed afterwards, unless the folder was given."""
    made = Path(tempfile.mkdtemp(prefix="monitor-pg-", dir=folder_in_memory())) if folder is None else folder
    try:
        server = Server(made, **settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        if folder is None:
            shutil.rmtree(made)
