"""Worlds with their own database for `make survive`, which runs outside pytest."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
from sqlalchemy import make_url
from support.memory import folder_in_memory
from support.world import World

from monitor.database.schema import upgrade
from monitor.sandbox import Sandbox

KINDS = ("sqlite", "postgresql")


def paths() -> dict[str, str]:
    """PYTHONPATH for processes that import the product and the parts of the tests."""
    tests = Path(__file__).resolve().parents[1]
    return {"PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}


class Environments:
    """Makes worlds of both kinds; their databases and folders are deleted at the end."""

    def __init__(self, postgres_url: str):
        self._server = make_url(postgres_url)
        self._ends = contextlib.ExitStack()

    def __enter__(self):
        self._folder = Path(self._ends.enter_context(_folder()))
        self._conn = self._ends.enter_context(psycopg.connect(_plain(self._server), autocommit=True))
        self._sqlite = self._folder / "template.db"
        upgrade(f"sqlite:///{self._sqlite}")
        self._template = self._ends.enter_context(self._database("template1"))
        upgrade(_plain(self._server.set(database=self._template)))
        return self

    def __exit__(self, *_):
        self._ends.close()

    @contextlib.contextmanager
    def world(self, kind: str) -> Iterator[World]:
        """A World with an empty sandbox and a database with the current schema."""
        if kind == "sqlite":
            with sqlite_world(self._sqlite) as made:
                yield made
            return
        with (
            self._database(self._template) as name,
            _folder() as folder,
            _world(Path(folder), database=_plain(self._server.set(database=name))) as made,
        ):
            yield made

    @contextlib.contextmanager
    def _database(self, template: str) -> Iterator[str]:
        name = f"survival_{uuid4().hex[:12]}"
        self._conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield name
        finally:
            self._conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.contextmanager
def sqlite_world(template: Path) -> Iterator[World]:
    """A World on a copy of a SQLite file."""
    with _folder() as folder:
        shutil.copyfile(template, Path(folder) / "monitor.db")
        with _world(Path(folder), database=f"sqlite:///{folder}/monitor.db") as made:
            yield made


@contextlib.contextmanager
def _world(folder: Path, *, database: str) -> Iterator[World]:
    sandbox = Sandbox()
    sandbox.start()
    made = World(folder, sandbox, database=database, sync_log=f"sqlite:///{folder / 'pipeline.db'}")
    try:
        yield made
    finally:
        made.close()
        sandbox.stop()


def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="monitor-survival-", dir=folder_in_memory())


def _plain(url) -> str:
    return url.render_as_string(hide_password=False)


def summed_row(what, kind, environments, kills, survive, sums):
    """A row of a table of kills, each survived in a world of its own, with the sums of these fields of what they cost.

    Returns whether all promises held, and the cells.
    """
    ends = []
    for kill in kills:
        with environments.world(kind) as world:
            ends.append(survive(world, **kill))
        for each in ends[-1].wrong:
            print(f"{kind}, {kill}: {each}", file=sys.stderr)
    totals = (sum(getattr(end, name) for end in ends) for name in sums)
    return not any(end.wrong for end in ends), (what, kind, *map(str, totals))
