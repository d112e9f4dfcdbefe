"""A real PgBouncer in transaction mode, for tests marked `process`: `make test` needs none."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import make_url
from support.debian import program


@contextlib.contextmanager
def pooled(url: str, *, connections: int) -> Iterator[str]:
    """Yields the URL of the same database behind PgBouncer, which has so many connections to the server."""
    server = make_url(url)
    folder = Path(tempfile.mkdtemp(prefix="monitor-pgbouncer-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    target = f"host={server.host} port={server.port or 5432} dbname={server.database} user={server.username}"
    (folder / "users.txt").write_text(f'"{server.username}" "{server.password}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{server.database} = {target} password='{server.password}'\n"
        "[pgbouncer]\npool_mode = transaction\nauth_type = plain\n"
        f"auth_file = {folder}/users.txt\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"default_pool_size = {connections}\nmax_client_conn = 200\nlogfile = {folder}/log\n"
    )
    command = [
        program("pgbouncer", package="pgbouncer", elsewhere="brew install pgbouncer"),
        str(folder / "pgbouncer.ini"),
    ]
    if os.geteuid() == 0:  # it refuses to run as root
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        through = server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        _await(through, process, folder)
        yield through
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder)


def _await(url: str, process: subprocess.Popen, folder: Path) -> None:
    ends_s = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > ends_s:
                log = folder / "log"
                raise RuntimeError(f"PgBouncer did not start: {log.read_text() if log.exists() else ''}") from error
            time.sleep(0.05)
        else:
            return
