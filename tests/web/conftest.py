"""Fixtures for tests of the page: a server with a database, and what may be in it."""

import shutil
from datetime import UTC, datetime

import pytest
from database.troubles import TroubleBuilder
from reports.html.documents import Document
from support.observed import until
from web.browser import HTML, Browser
from web.served import Served, ask, config

TOKEN = "a-token-of-this-page"


@pytest.fixture
def database(tmp_path, _sqlite_template):
    """A SQLite database with the newest schema."""
    shutil.copyfile(_sqlite_template, tmp_path / "monitor.db")
    return f"sqlite:///{tmp_path / 'monitor.db'}"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n", encoding="utf-8")
    return path


@pytest.fixture
def page(tmp_path, database):
    """Call it with the lines of [web] for endpoints that listen; they end with the test."""
    started = []

    def start(web="", *, listen="127.0.0.1:0", more="", engine=None):
        settings = config(tmp_path, database=database, listen=listen, web=web, more=more)
        served = Served(settings).__enter__()
        started.append(served)
        served.state.engine = engine
        until(lambda: served.logged_events("web_listening"), "a page that listens")
        return served

    yield start
    for served in started:
        served.__exit__()


@pytest.fixture
def locked(page, token_file):
    """A page with a token, and a browser that has not logged in."""
    served = page(f'token_file = "{token_file}"\nactions = true')
    return Browser(served.address)


@pytest.fixture
def troubles(engine):
    """Adds items and incidents to the database."""
    return TroubleBuilder(engine, now=datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def served(tmp_path, store_url, troubles):
    """A page over the database of `troubles`."""
    with Served(config(tmp_path, database=store_url)) as found:
        until(lambda: found.logged_events("web_listening"), "endpoints that listen")
        yield found


def page_of(served, path, *, status=200):
    """The document of a page."""
    answer = ask(served.address, path, headers={"Accept": HTML})
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store"
    return Document(answer.body.decode())
