"""The public status over HTTP: words only, from what is stored; badges for targets that are listed."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest
from incidents.test_evaluate import Site
from web.browser import Browser
from web.served import ask

from monitor.database.engine import connect, writing
from monitor.incidents.acknowledge import resolve
from monitor.incidents.decide import OperatorAction
from monitor.model import Cause, Evidence, RunStatus, Snapshot
from monitor.runs import store as runs
from monitor.web import status_pages

SVG = "{http://www.w3.org/2000/svg}"
NAMED = 'status_name = "Search & <docs>"'


@pytest.fixture
def stored(database):
    engine = connect(database)
    yield Stored(engine)
    engine.dispose()


class Stored:
    """Runs and incidents of the target `gloo`, as of now."""

    def __init__(self, engine):
        self.engine = engine

    def run(self, *, ago=timedelta(0), completed=10):
        at = datetime.now(UTC) - ago
        with writing(self.engine) as conn:
            run_id = runs.start(conn, target="gloo", environment="test", run_key=None, epoch=1, started_at=at)
            runs.finish(
                conn, run_id=run_id, status=RunStatus.COMPLETE, abort_reason=None, owner_cause=None, due=10,
                answered=10, error=None, finished_at=at, snapshot=Snapshot(completed=completed, checked=completed),
            )  # fmt: skip

    def open_incident(self):
        site = Site(self.engine)
        site.now = datetime.now(UTC) - timedelta(minutes=5)
        site.run(Evidence(cause=Cause.SPENDING_LIMIT, count=3, code="SPENDING_LIMIT_EXCEEDED"))


@pytest.fixture
def status(page, stored, token_file, monkeypatch):
    """Call it for a browser of a page with a token, where the state is read anew each time."""
    monkeypatch.setattr(status_pages, "CACHE_S", 0.0)

    def start(more=NAMED, web=""):
        served = page(f'token_file = "{token_file}"\n{web}', more=more)
        monkeypatch.setattr(served.endpoints._database_probe, "_cache_s", 0.0)
        browser = Browser(served.address)
        browser.served = served
        return browser

    return start


def words(browser):
    return ask(browser.address, "/status.json").json


def test_before_the_first_run_there_is_no_data(status):
    browser = status()
    assert words(browser)["status"] == "no_data"
    assert b"No data" in browser.get("/status").body


def test_the_page_says_the_word_and_no_more(status, stored):
    stored.open_incident()
    stored.run()
    browser = status()
    said = words(browser)
    assert (said["status"], [each["name"] for each in said["services"]]) == ("disrupted", ["Search & <docs>"])
    shown = browser.get("/status").body.decode()
    assert "Search &amp; &lt;docs&gt;" in shown
    assert "Disrupted" in shown
    for hidden in ("gloo", "spending", "SPENDING", "incident"):
        assert hidden not in shown, hidden
        assert hidden not in str(said)
    with writing(stored.engine) as conn:
        resolve(conn, 1, operator_action=OperatorAction(by="ana"), now=datetime.now(UTC))
    assert words(browser)["status"] == "operational"


def test_a_target_that_is_not_checked_any_more_has_no_data(status, stored):
    stored.run(ago=timedelta(hours=2))
    browser = status()
    since = {"gloo": datetime.now(UTC) - timedelta(hours=3)}
    browser.served.do(lambda: setattr(browser.served.tracker, "_watched_since", since))
    assert words(browser)["status"] == "no_data"
    stored.run()
    assert words(browser)["status"] == "operational"


def test_without_a_database_there_is_no_data(status, stored, tmp_path):
    stored.run()
    browser = status()
    assert words(browser)["status"] == "operational"
    stored.engine.dispose()
    (tmp_path / "monitor.db").write_bytes(b"something else entirely" * 1000)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"monitor.db{suffix}").unlink(missing_ok=True)
    assert words(browser)["status"] == "no_data"
    assert browser.get("/status").status == 200


def test_a_state_is_read_once_for_all_who_ask(page, stored, monkeypatch):
    stored.run()
    served = page()
    reads = []
    monkeypatch.setattr(status_pages, "open_causes", lambda conn: reads.append(1) or {})
    assert [ask(served.address, "/status.json").status for _ in range(5)] == [200] * 5
    assert len(reads) == 1


def test_a_badge_is_a_small_picture_that_anybody_may_keep_for_a_minute(status, stored):
    stored.run()
    browser = status()
    answer = ask(browser.address, "/badge/gloo.svg")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    picture = ET.fromstring(answer.body)  # noqa: S314  # our own
    assert picture.findtext(f"{SVG}title") == "Search & <docs>: Operational"
    assert len(answer.body) < 2000


def test_a_target_without_a_public_name_has_a_badge_for_those_who_may_see_all(status, page):
    browser = status(more="")
    for name in ("gloo.svg", "other.svg", "gloo", "gloo.png", "..%2Fgloo.svg"):
        refused = ask(browser.address, f"/badge/{name}")
        assert (refused.status, b"gloo" in refused.body) == (404, False), name
    answer = ask(page().address, "/badge/gloo.svg")
    assert (answer.status, answer.headers["cache-control"]) == (200, "private, max-age=60")
    assert ask(page().address, "/badge/other.svg").status == 404
