"""The pages about targets over real HTTP: periods, pages of lists, names in addresses, files and their caching."""

import contextlib
import gzip
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from database.history import MINUTE, HistoryBuilder
from reports.html.documents import Document
from support.observed import until
from web.served import Served, ask, config

from monitor.model import Snapshot
from monitor.reports.html import plotly_script
from monitor.web import rendering
from monitor.web.pages import PERIODS

pytestmark = pytest.mark.slow_twice  # what it serves is tested on both

HTML = {"Accept": "text/html"}


@pytest.fixture
def past(engine):
    """The history of the database that is served."""
    return HistoryBuilder(engine)


@contextlib.contextmanager
def serving(tmp_path, store_url):
    with Served(config(tmp_path, database=store_url)) as found:
        until(lambda: found.logged_events("web_listening"), "endpoints that listen")
        yield found


@pytest.fixture
def served(tmp_path, store_url, past):
    past.run(datetime.now(UTC) - 2 * MINUTE, snapshot=Snapshot(completed=3, failed=1))
    with serving(tmp_path, store_url) as found:
        yield found


def test_the_first_pages_are_prepared_once_the_database_is_open(tmp_path, store_url, past, engine, monkeypatch):
    rendered, render = [], rendering.render

    def recorded(template, frame, **values):
        rendered.append((template, render(template, frame, **values)))
        return rendered[-1][1]

    monkeypatch.setattr(rendering, "render", recorded)
    past.run(datetime.now(UTC) - 2 * MINUTE, snapshot=Snapshot(completed=3, failed=1))
    with serving(tmp_path, store_url) as served:
        assert ask(served.address, "/healthz").status == 200
        assert not rendered, "the database is not open yet"
        served.state.engine = engine
        until(lambda: len(rendered) == 3, "pages that nobody asked for")
        assert [template for template, _ in rendered] == ["overview.html", "target.html", "incidents.html"]
        assert "1 failed" in Document(rendered[1][1]).text


def page_of(served, path):
    answer = ask(served.address, path, headers=HTML)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store"
    return Document(answer.body.decode())


def test_the_overview_leads_to_the_page_of_each_target_in_each_period(served):
    overview = page_of(served, "/")
    assert "/targets/gloo" in overview.links()
    assert {f"?since={name}" for name in PERIODS} <= set(overview.links())
    for name in PERIODS:
        assert "1 failed" in page_of(served, f"/targets/gloo?since={name}").text


@pytest.mark.parametrize(("oldest", "period"), [(timedelta(hours=20), "24h"), (timedelta(hours=25), "7d")])
@pytest.mark.parametrize("path", ["/", "/targets/gloo"])
def test_without_a_period_in_the_address_it_is_a_day_while_nothing_older_is_stored(
    tmp_path, store_url, past, path, oldest, period
):
    for age in (oldest, MINUTE):
        past.run(datetime.now(UTC) - age, snapshot=Snapshot(completed=3))
    with serving(tmp_path, store_url) as served:
        links = [each for tag, each in page_of(served, path).attributes if tag == "a"]
    assert [each["href"] for each in links if each.get("aria-current") == "true"] == [f"?since={period}"]


@pytest.mark.parametrize("name", ["a/b c", "ü?#%", "<b>"])
def test_a_target_is_found_by_its_encoded_name(served, past, name):
    past.run(datetime.now(UTC) - timedelta(hours=1), target=name)
    assert name in page_of(served, f"/targets/{quote(name, safe='')}").text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?since=3d", 400),
        ("/?since=", 400),
        ("/?page=0", 400),
        ("/?page=-1", 400),
        ("/?page=x", 400),
        ("/?page=%D9%A3", 400),
        (f"/?page={2**63}", 400),
        (f"/?page={2**63 - 1}", 404),
        ("/?page=2", 404),
        ("/targets/nobody", 404),
        ("/targets/%00", 404),
        ("/targets/", 404),
        ("/targets/gloo?before=x", 400),
        ("/targets/gloo?after=-1", 400),
        ("/targets/gloo?since=%00", 400),
        ("/static/nothing.css", 404),
        ("/static/..%2Frender.py", 404),
    ],
)
def test_an_address_that_means_nothing_is_refused(served, path, status):
    assert ask(served.address, path).status == status


def test_runs_are_shown_page_by_page(served, past):
    at = datetime.now(UTC) - timedelta(hours=2)
    ids = [past.run(at + n * MINUTE) for n in range(25)]
    first = page_of(served, "/targets/gloo?since=24h")
    (older,) = [link for link in first.links() if "before=" in link]
    second = page_of(served, f"/targets/gloo{older.removesuffix('#runs')}")
    assert str(ids[0]) in second.text
    assert "since=24h" in older
    assert any("after=" in link for link in second.links())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.css", "text/css; charset=utf-8"),
        ("page.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("plotly.min.js", "text/javascript; charset=utf-8"),
    ],
)
def test_a_file_is_sent_once_and_then_known_by_its_etag(served, name, kind):
    sent = ask(served.address, f"/static/{name}")
    assert (sent.status, sent.headers["content-type"], sent.headers["cache-control"]) == (200, kind, "no-cache")
    again = ask(served.address, f"/static/{name}", headers={"If-None-Match": sent.headers["etag"]})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", sent.headers["etag"])


def test_a_file_is_compressed_for_those_who_accept_it(served):
    sent = ask(served.address, "/static/plotly.min.js", headers={"Accept-Encoding": "gzip, br"}, timeout=30)
    assert (sent.headers["content-encoding"], sent.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(sent.body) == plotly_script().content
    assert len(sent.body) < len(plotly_script().content) / 2
    assert sent.headers["etag"] != plotly_script().etag


def test_a_page_needs_no_inline_script_or_style(served):
    for path in ("/", "/targets/gloo"):
        found = page_of(served, path)
        assert "style" not in found.tags
        for tag, attributes in found.attributes:
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
            if tag == "script":
                assert attributes.get("type") == "application/json" or attributes["src"] == "/static/page.js"
