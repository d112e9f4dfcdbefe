"""Fixtures for every test. Databases are real; each test gets its own, gone afterwards.

`postgres_url` (session)      a PostgreSQL server: MONITOR_TEST_POSTGRES_URL, or a private one (see postgres.py)
`new_postgres`                call it for the URL of one more empty PostgreSQL database; `new_postgres(migrated=True)`
`database_kind`               "sqlite", then "postgresql": whatever asks for one of the following runs on both
`database_url`                an EMPTY database of that kind (the SQLite file does not exist yet)
`store_url`                   a database of that kind with the newest schema
`engine`                      connected to `store_url`, disposed at the end
`world`                       an end-to-end World of that kind (see world.py); `small_world`: only on SQLite
`sandbox`                     a simulated data engine on loopback
`synclog_kind`, `synclog_url` likewise an empty database for the user's sync log (the SQLite file exists)
"""

import contextlib
import logging
import os
import shutil
import sqlite3
from uuid import uuid4

import psycopg
import pytest
import structlog
from hypothesis import settings
from postgres import private_server
from sqlalchemy import make_url
from world import World

from monitor.sandbox import Sandbox
from monitor.store.engine import connect
from monitor.store.schema import upgrade

KINDS = ["sqlite", "postgresql"]

settings.register_profile("monitor", deadline=None, max_examples=60, database=None)
settings.load_profile("monitor")


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """Whoever configures logging to a captured stream leaves nothing of it to the next test."""
    yield
    structlog.reset_defaults()
    logging.disable(logging.NOTSET)
    structlog.contextvars.clear_contextvars()
    logging.getLogger("uvicorn.access").propagate = True  # uvicorn switches it off for the whole process


@pytest.fixture(scope="session")
def postgres_url():
    given = os.environ.get("MONITOR_TEST_POSTGRES_URL")
    with contextlib.nullcontext(given) if given else private_server() as url:
        yield url


@contextlib.contextmanager
def _database(server_url, template=None):
    name = f"monitor_test_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server_url, autocommit=True) as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _postgres_template(postgres_url):
    with _database(postgres_url) as url:
        upgrade(url)
        yield make_url(url).database


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "monitor.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def new_postgres(request, postgres_url):
    with contextlib.ExitStack() as databases:

        def make(*, migrated=False):
            template = request.getfixturevalue("_postgres_template") if migrated else None
            return databases.enter_context(_database(postgres_url, template))

        yield make


@pytest.fixture(params=KINDS)
def database_kind(request):
    return request.param


@pytest.fixture
def database_url(request, database_kind, tmp_path):
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return request.getfixturevalue("new_postgres")()


@pytest.fixture
def store_url(request, database_kind, tmp_path):
    if database_kind == "postgresql":
        return request.getfixturevalue("new_postgres")(migrated=True)
    path = tmp_path / "monitor.db"
    shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
    return f"sqlite:///{path}"


@pytest.fixture
def engine(store_url):
    connected = connect(store_url)
    yield connected
    connected.dispose()


@pytest.fixture(params=KINDS)
def synclog_kind(request):
    return request.param


@pytest.fixture
def synclog_url(request, synclog_kind, tmp_path):
    if synclog_kind == "postgresql":
        return request.getfixturevalue("new_postgres")()
    path = tmp_path / "pipeline.db"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("VACUUM")
    return f"sqlite:///{path}"


@pytest.fixture
def sandbox():
    with Sandbox() as serving:
        yield serving


@pytest.fixture
def world(request, tmp_path, sandbox, database_kind):
    """A World whose database and sync log are of `database_kind`."""
    if database_kind == "postgresql":
        make = request.getfixturevalue("new_postgres")
        database, sync_log = make(migrated=True), make()
    else:
        database, sync_log = f"sqlite:///{tmp_path / 'monitor.db'}", f"sqlite:///{tmp_path / 'pipeline.db'}"
        shutil.copyfile(request.getfixturevalue("_sqlite_template"), tmp_path / "monitor.db")
    made = World(tmp_path, sandbox, database=database, sync_log=sync_log)
    yield made
    made.close()


@pytest.fixture
def small_world(tmp_path, sandbox, _sqlite_template):
    """A World on SQLite, for what does not depend on the database."""
    shutil.copyfile(_sqlite_template, tmp_path / "monitor.db")
    made = World(
        tmp_path,
        sandbox,
        database=f"sqlite:///{tmp_path / 'monitor.db'}",
        sync_log=f"sqlite:///{tmp_path / 'pipeline.db'}",
    )
    yield made
    made.close()
