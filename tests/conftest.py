"""Fixtures for all tests. Databases are real; each test has its own, which is deleted afterwards.

`postgres_url` (session)      a PostgreSQL server: MONITOR_TEST_POSTGRES_URL, or a private one (see postgres.py), which
                              the workers of a parallel session (`pytest -n auto`) share
`new_postgres`                call it for the URL of one more empty PostgreSQL database; `new_postgres(migrated=True)`
`database_kind`               "sqlite", then "postgresql": a test that uses one of the following runs on both
`database_url`                an EMPTY database of that kind (the SQLite file does not exist yet)
`store_url`                   a database of that kind with the newest schema
`engine`                      an engine for `store_url`, disposed at the end
`connected`                   call it with a URL for an engine; all are disposed at the end
`world`                       an end-to-end World of that kind (see world.py); `small_world`: only on SQLite
`sandbox`                     a simulated data engine on loopback, without items
`here`                        calls the command in this process, for tests that need no separate process
`synclog_kind`, `synclog_url` likewise an empty database for the user's sync log (the SQLite file exists)
"""

import contextlib
import gc
import logging
import os
import shutil
import sqlite3
import time
from types import SimpleNamespace
from uuid import uuid4

import psycopg
import pytest
import structlog
import trustme
from hypothesis import settings
from sqlalchemy import make_url
from support.compiled import shared_compiled_statements
from support.memory import folder_in_memory
from support.postgres import private_server
from support.scale import examples
from support.world import World

from monitor import logs as log
from monitor.cli import main
from monitor.database.engine import connect
from monitor.database.schema import upgrade
from monitor.logs import Redactor
from monitor.sandbox import Sandbox

KINDS = ["sqlite", "postgresql"]

if folder := folder_in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))  # where `tmp_path` is

settings.register_profile("monitor", deadline=None, max_examples=examples(15), database=None)
settings.load_profile("monitor")

POSTGRES = pytest.StashKey[str]()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which may be switched off
def pytest_xdist_auto_num_workers(config):
    """One worker more than processors, because many tests wait, and two with those that wait most. Not more, because
    each worker collects all tests.
    """
    waiting = 1 if "not process" in config.option.markexpr else 2
    return min(len(os.sched_getaffinity(0)) + waiting, 12)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """The controller owns the server for all workers, so that it ends even if a worker crashes."""
    if os.environ.get("MONITOR_TEST_POSTGRES_URL"):
        return
    if POSTGRES not in node.config.stash:
        server = contextlib.ExitStack()
        node.config.stash[POSTGRES] = server.enter_context(private_server())
        node.config.add_cleanup(server.close)
    node.workerinput["postgres_url"] = node.config.stash[POSTGRES]


ON_ONE_DATABASE = {"app", "cli", "daemon", "house", "web"}
"""Folders whose tests on PostgreSQL repeat those on SQLite; packages with SQL are tested on both."""


ALWAYS_ON_BOTH = {"survival", "test_main_job.py"}
"""Folders whose repetitions on PostgreSQL are part of `make check`; those of the others run in `make test-all`."""

EACH_PARAMETER = {
    "test_early_signals.py",
    "test_in_chromium.py",
    "test_incremental_sync.py",
    "test_secrets.py",
    "test_watermark_sync.py",
}
"""Files of which `make check` runs slow tests with each parameter; of the others with one."""

LONGEST = {"test_faults_table.py", "test_growth.py", "test_benchmarks.py", "test_in_chromium.py", "test_drill.py"}
"""Files with tests of half a minute."""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    """Marks what repeats on PostgreSQL, at a higher layer or with random examples, what runs on SQLite."""
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("database_kind")
        folder = item.path.relative_to(config.rootpath / "tests").parts[0]
        whole_run = "world" in item.fixturenames
        if kind == "postgresql" or hasattr(item.function, "hypothesis"):
            item.add_marker(pytest.mark.no_cover)  # tracing is slow, and one database and the examples reach each line
        repeats = folder in ON_ONE_DATABASE or whole_run or hasattr(item.function, "hypothesis")
        if kind == "postgresql" and (repeats or item.get_closest_marker("slow_twice")):
            item.add_marker(pytest.mark.process)
            item.own_markers = [mark for mark in item.own_markers if mark.name != "smoke"]
            if folder not in ALWAYS_ON_BOTH:
                item.add_marker(pytest.mark.nightly)
        if item.get_closest_marker("process") and not item.get_closest_marker("smoke"):
            item.add_marker(pytest.mark.no_cover)  # `make test` reaches each line
    for item in _further_parameters(config, items):
        item.add_marker(pytest.mark.nightly)
    yield  # here pytest selects by marker, and puts the tests into a random order
    # the longest first, so that no worker begins them when the others are done
    items.sort(key=lambda item: item.path.name not in LONGEST)


def _further_parameters(config, items):
    """Slow tests that differ from another one, of `make check`, in nothing but a parameter."""
    kept = {_kind(item) for item in items if item.get_closest_marker("smoke") or not item.get_closest_marker("process")}
    for item in items:
        folder = item.path.relative_to(config.rootpath / "tests").parts[0]
        if folder in ALWAYS_ON_BOTH or item.path.name in EACH_PARAMETER or not hasattr(item, "callspec"):
            continue
        marks = {mark.name for mark in item.iter_markers()}
        if "process" in marks and not marks & {"smoke", "nightly"}:
            if _kind(item) in kept:
                yield item
            kept.add(_kind(item))


def _kind(item):
    """Its function and database."""
    return item.path, item.originalname, hasattr(item, "callspec") and item.callspec.params.get("database_kind")


def pytest_collection_finish(session):
    """Leaves the hundreds of thousands of objects of collected tests out of every later garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


@pytest.fixture(scope="session", autouse=True)
def _one_cache_of_statements():
    with shared_compiled_statements():
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_authorities(tmp_path_factory):
    """One unused authority: otherwise every client would read the system's hundreds, although tests use loopback."""
    bundle = tmp_path_factory.mktemp("authorities") / "authority.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(bundle))
        patch.delenv("SSL_CERT_DIR", raising=False)
        yield


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """Resets logging after each test, because a test may configure it for a captured stream."""
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()
    logging.disable(logging.NOTSET)
    structlog.contextvars.clear_contextvars()
    for name in ("uvicorn.access", "uvicorn.error", "uvicorn.asgi"):  # uvicorn changes them for the whole process
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)
    log._redactor = Redactor()  # otherwise masking would look for the secrets of all tests and become slow


@pytest.fixture
def here(capsys, monkeypatch):
    """Calls the command in this process, for tests that need no separate process."""
    for name in [name for name in os.environ if name.startswith(("MONITOR_", "GLOO_"))]:
        monkeypatch.delenv(name)

    def call(world, *arguments):
        capsys.readouterr()  # drop earlier output of the test
        code = main([*arguments, "--config", str(world.config_path)])
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return call


@pytest.fixture(scope="session")
def postgres_url(request):
    shared = getattr(request.config, "workerinput", {}).get("postgres_url")
    given = os.environ.get("MONITOR_TEST_POSTGRES_URL") or shared
    with contextlib.nullcontext(given) if given else private_server() as url:
        yield url


@pytest.fixture(scope="session")
def _postgres(postgres_url):
    """A connection that creates databases, and the server's URL."""
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        yield conn, make_url(postgres_url)


def _strategy(conn):
    """Copies template files instead of logging every page: fast if checkpoints need not wait for a disk."""
    quick = conn.info.server_version >= 150000 and conn.execute("SHOW fsync").fetchone() == ("off",)
    return "STRATEGY file_copy" if quick else ""


@contextlib.contextmanager
def _database(conn, server, template="template1"):
    name = f"monitor_test_{uuid4().hex[:12]}"
    conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} {_strategy(conn)}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _postgres_template(_postgres):
    with _database(*_postgres) as url:
        upgrade(url)
        yield make_url(url).database


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "monitor.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def new_postgres(request, _postgres):
    with contextlib.ExitStack() as databases:

        def make(*, migrated=False):
            template = request.getfixturevalue("_postgres_template") if migrated else "template1"
            return databases.enter_context(_database(*_postgres, template))

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


@pytest.fixture
def connected():
    """Connects, and closes all at the end."""
    engines = []

    def make(url, how=connect):
        engines.append(how(url))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


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


@pytest.fixture(scope="session")
def _sandboxes():
    """Running sandboxes without connections."""
    idle = []
    yield idle
    for serving in idle:
        serving.stop()


@pytest.fixture
def sandbox(_sandboxes):
    """A reset sandbox. One that a test stopped or left with open connections is not reused."""
    serving = _sandboxes.pop() if _sandboxes else Sandbox()
    serving.reset()
    serving.start()
    yield serving
    if at_rest(serving):
        _sandboxes.append(serving)
    else:
        serving.stop()


def at_rest(serving, *, within_s=0.2):
    """Whether it serves without connections: then no late request can be counted."""
    ends_s = time.monotonic() + within_s
    while serving._state.connections and time.monotonic() < ends_s:
        time.sleep(0.001)
    return serving._server is not None and not serving._state.connections


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
