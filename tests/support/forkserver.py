"""Starts the command quickly: a server that has imported it forks a process for each call.

A test of how the interpreter starts (signals, missing streams, imports) uses `World.start` or subprocess instead.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PRELOADED = (
    "monitor.app",
    "monitor.cli",
    "monitor.cli.app",
    "monitor.config",
    "monitor.runs.run",
    "pyreqwest.client",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
)
START_OF_PYTHON = ("PYTHON", "LC_", "LANG")
"""Prefixes of variables that change how the interpreter starts."""
REQUEST_BYTES = 1 << 18


@functools.cache
def shared_fork_server():
    """The server of this process, which ends with it."""
    server = ForkServer()
    atexit.register(server.close)
    return server


class ForkServer:
    """A call is a process with its own environment, folder, output and exit code."""

    def __init__(self):
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * REQUEST_BYTES)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd="/",
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )  # fmt: skip

    def run(self, arguments, *, env, cwd, timeout_s):
        """Like `subprocess.run` of `python -m monitor`, with its text captured."""
        ours, theirs = zip(*(os.pipe() for _ in range(3)), strict=True)
        request = json.dumps({"arguments": arguments, "environ": env, "cwd": str(cwd)}).encode()
        socket.send_fds(self._connection, [request], theirs)
        for each in theirs:
            os.close(each)
        ended, read = _read_all(ours, timeout_s)
        out, err, status = (each.decode() for each in read)
        pid, _, code = status.partition("\n")
        if not ended:
            os.kill(int(pid), signal.SIGKILL)
            raise subprocess.TimeoutExpired(arguments, timeout_s, out, err)
        return subprocess.CompletedProcess(arguments, int(code), out, err)

    def close(self):
        self._connection.close()
        self._process.wait(timeout=60)


def _read_all(pipes, timeout_s):
    """What the other ends write, and whether all of them were closed in time."""
    parts, open_pipes, ends_s = {each: [] for each in pipes}, set(pipes), time.monotonic() + timeout_s
    while open_pipes and (left_s := ends_s - time.monotonic()) > 0:
        for each in select.select(open_pipes, [], [], left_s)[0]:
            parts[each].append(os.read(each, 65536))
            if not parts[each][-1]:
                open_pipes.remove(each)
    for each in pipes:
        os.close(each)
    return not open_pipes, [b"".join(parts[each]) for each in pipes]


def serve(connection):
    """Forks for each request, until the other end is closed. Returns in the process of a command."""
    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the supervisors
    while True:
        request, pipes, *_ = socket.recv_fds(connection, REQUEST_BYTES, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (command := os.fork()) == 0:
                return json.loads(request), pipes
            for each in pipes[:2]:
                os.close(each)
            os.write(pipes[2], f"{command}\n".encode())
            _, status = os.waitpid(command, 0)
            with contextlib.suppress(BrokenPipeError):  # the caller did not wait any longer
                os.write(pipes[2], str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        for each in pipes:
            os.close(each)


def become(request, pipes):
    """Makes this process what `python -m monitor` would be."""
    out, err, status = pipes
    os.close(status)
    for pipe, stream in ((out, 1), (err, 2)):
        os.dup2(pipe, stream)
        os.close(pipe)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    sys.argv = ["monitor", *request["arguments"]]
    sys.path[:] = [each for each in sys.path if each != str(Path(__file__).parent)]
    runpy.run_module("monitor", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    become(*serve(socket.socket(fileno=int(sys.argv[1]))))
