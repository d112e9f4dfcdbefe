"""Upgrades in real processes: many at once, and one that is killed at each of its steps. Forked, so that each is cheap.

`python forks.py race URL COUNT` prints how many revisions each applied, or the error that it met.
`python forks.py kill URL STEP` kills an upgrade at every STEP-th statement and at each commit, and prints what the
database was after each; then lets one through.
"""

import json
import os
import signal
import sys
import time

import alembic.command
import alembic.runtime.migration  # noqa: F401  # loaded once, for all children
import psycopg  # noqa: F401  # likewise
from database.older import fingerprint, version
from sqlalchemy import Engine, event

from monitor.database import schema
from monitor.errors import StoreError


def race(url, count):
    gate_out, gate_in = os.pipe()
    pipes = []
    for _ in range(count):
        out, into = os.pipe()
        if os.fork() == 0:
            os.close(gate_in)
            os.read(gate_out, 1)  # all at the same time: the pipe is closed
            try:
                said = len(schema.upgrade(url))
            except StoreError as error:
                said = str(error)
            os.write(into, json.dumps(said).encode())
            os._exit(0)
        os.close(into)
        pipes.append(out)
    time.sleep(0.2)
    os.close(gate_in)
    said = [b"".join(iter(lambda out=out: os.read(out, 4096), b"")) for out in pipes]
    for _ in range(count):
        os.wait()
    return [json.loads(each) for each in said]


def killed_at(url, step_number):
    """Whether an upgrade was killed at its n-th step; False if it finished before."""
    child = os.fork()
    if child == 0:
        left = [step_number]

        def step(*_arguments):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "after_cursor_execute", step)
        event.listen(Engine, "commit", step)
        schema.upgrade(url)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def kill(url, step):
    seen, step_number = [], 1
    while killed_at(url, step_number):
        seen.append([version(url), fingerprint(url) if version(url) else ""])
        step_number += step
    return {"after_kills": seen, "version": version(url)}


if __name__ == "__main__":
    what, where, number = sys.argv[1:]
    sys.stdout.write(json.dumps({"race": race, "kill": kill}[what](where, int(number))))
