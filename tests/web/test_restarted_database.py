"""The page while PostgreSQL is restarted, and while another version upgrades its schema: readable, then by itself."""

import pytest
from sqlalchemy import make_url, text
from support.observed import until
from survival.server import own_server
from web.browser import HTML
from web.served import Served, ask, config

from monitor.database.engine import connect, writing
from monitor.database.schema import upgrade

PATHS = ("/", "/targets/gloo", "/incidents", "/items", "/status", "/api/v1/report", "/api/v1/targets")
pytestmark = [pytest.mark.process, pytest.mark.nightly]


@pytest.fixture
def restartable(tmp_path):
    """A page over a private server of its own; yields both, and the URL of the database."""
    with own_server() as server:
        server.ask("CREATE DATABASE page")
        url = make_url(server.url).set(database="page").render_as_string(hide_password=False)
        upgrade(url)
        with Served(config(tmp_path, database=url)) as served:
            until(lambda: served.logged_events("web_listening"), "a page that listens")
            yield served, server, url


def answers(served, *, accept=HTML):
    return {path: ask(served.address, path, headers={"Accept": accept}, timeout=30) for path in PATHS}


def statuses(served):
    return {path: answer.status for path, answer in answers(served).items()}


WELL = dict.fromkeys(PATHS, 200)


def assert_readable(served):
    """Most pages need the database, and say that they can't be shown."""
    found = answers(served)
    refused = {path: answer for path, answer in found.items() if answer.status != 200 and path != "/status"}
    assert {"/", "/targets/gloo", "/api/v1/report"} <= set(refused)
    for path, answer in refused.items():
        shown = answer.body.decode()
        assert answer.status == 503, (path, shown)
        assert "Traceback" not in shown
        assert "SELECT" not in shown
        assert "PostgreSQL" in shown or "database" in shown


def test_a_page_answers_again_by_itself_after_a_restart_of_postgresql(restartable):
    served, server, _ = restartable
    assert statuses(served) == WELL
    server.stop()
    server.start()
    assert statuses(served) == WELL, "a connection that the restart ended is no reason to fail"
    server.stop()
    assert_readable(served)
    server.start()
    until(lambda: statuses(served) == WELL, "a page that answers again")
    assert [each for each in served.logged if each["log_level"] == "critical" or "exc_info" in each] == []


def test_a_page_over_the_schema_of_a_newer_version_says_so_until_it_is_back(restartable):
    served, _, url = restartable
    engine = connect(url)
    assert statuses(served) == WELL
    with writing(engine) as conn:
        before = conn.execute(text("SELECT version_num FROM ingestion_monitor_version")).scalar_one()
        conn.execute(text("UPDATE ingestion_monitor_version SET version_num = '9999'"))
        conn.execute(text("ALTER TABLE runs RENAME COLUMN target TO target_name"))
        conn.execute(text("ALTER TABLE incidents RENAME COLUMN target TO target_name"))
    assert_readable(served)
    assert "newer" in ask(served.address, "/", headers={"Accept": HTML}).body.decode()
    with writing(engine) as conn:
        conn.execute(text("ALTER TABLE runs RENAME COLUMN target_name TO target"))
        conn.execute(text("ALTER TABLE incidents RENAME COLUMN target_name TO target"))
        conn.execute(text("UPDATE ingestion_monitor_version SET version_num = :before"), {"before": before})
    engine.dispose()
    assert statuses(served) == WELL
