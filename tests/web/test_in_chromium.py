"""The page in a real Chromium: looks, accessibility, content security, actions and login, on a desktop and a phone."""

import json
import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from support.browser import DESKTOP, PHONE, chromium, visiting
from support.fleets import fill, queued
from support.observed import until
from web.served import Served, config

from monitor.config import load_config
from monitor.fleet import queue_schema

pytestmark = pytest.mark.process

TOKEN = "a-token-of-this-page"
SCRIPT = "<script>window.stolen=1</script><img src=x onerror=window.stolen=1>"
ODD = f"{SCRIPT}\"'\u202eabc"
LOOKS = {
    "light": {"color_scheme": "light", "viewport": DESKTOP},
    "dark": {"color_scheme": "dark", "viewport": DESKTOP},
    "phone": {"color_scheme": "light", "viewport": PHONE},
}
MORE = """
[[slos]]
name = "in time"
objective = 0.95
within = "15m"

[[channels]]
name = "hook"
type = "webhook"
url = "http://127.0.0.1:9/"
allow_http = true
"""


@pytest.fixture
def world(small_world):
    """A target with a past: completed, pending, failed and missing items, and an item whose id is hostile."""
    small_world.configure(more=MORE)
    small_world.clock.now = datetime.now(UTC) - timedelta(hours=2)
    small_world.track(2, uploaded_at=small_world.clock())
    small_world.track(1, "CHUNKING", uploaded_at=small_world.clock())
    small_world.track(1, "FAILED")
    small_world.record("00000000-0000-4000-8000-000000000001", ODD)
    for _ in range(4):
        small_world.run()
        small_world.clock.advance(minutes=20)
    return small_world


@pytest.fixture
def browser(world):
    """It begins after the runs: Playwright keeps an event loop in this thread, beside which none can run."""
    with chromium() as browser:
        yield browser


def serve(world, web=""):
    environ = {"MONITOR_WEB__LISTEN": "127.0.0.1:0", "MONITOR_WEB__ACTIONS": "true", **(web or {})}
    return Served(load_config(world.config_path, environ=environ))


@pytest.fixture
def served(world):
    with serve(world) as served:
        served.state.engine = world.app.engine
        until(lambda: served.logged_events("web_listening"), "a page that listens")
        yield served


def url_of(served, path="/"):
    host, port = served.address
    return f"http://{host}:{port}{path}"


def open_page(visit, served, path):
    answer = visit.page.goto(url_of(served, path))
    assert answer.status == 200, path
    visit.page.wait_for_load_state("networkidle")


@pytest.fixture
def workers(tmp_path, new_postgres):
    """A page of workers; hosts and targets have hostile names."""
    url = new_postgres(migrated=True)
    queue_schema.upgrade(url)
    deadline = datetime.now(UTC) + timedelta(minutes=3)
    fill(url, target="gloo", deadline=deadline)
    fill(url, target=ODD, deadline=deadline, workers=(f"{ODD}:7", "c:1"))
    with psycopg.connect(url) as conn:
        queued(conn, "plan", {"target": "gloo", "run_key": "k"})
        conn.execute(
            "INSERT INTO leases (target, holder, epoch, expires_at) VALUES ('gloo', %s, 1, now() + interval '1 h')",
            [f"{ODD}:9"],
        )
    return config(tmp_path, database=url, more="[fleet]\nworkers = true\nstalled_after = '10m'\n")


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_of_workers_is_accessible_and_hostile_names_stay_text(workers, look):
    with Served(workers) as served:
        until(lambda: served.logged_events("web_listening"), "a page that listens")
        with chromium() as browser, visiting(browser, **LOOKS[look]) as visit:
            visit.page.on("dialog", lambda dialog: visit.problems.append(dialog.message))
            for path in ("/workers", "/"):
                open_page(visit, served, path)
                violations = Axe().run(visit.page).response["violations"]
                assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == [], path
                assert not visit.page.evaluate("document.documentElement.scrollWidth > innerWidth"), path
                assert visit.page.evaluate("window.stolen") is None, path
            open_page(visit, served, "/workers")
            shown = visit.page.locator("main").text_content()
            assert shown.count("window.stolen=1") >= 4, "the worker, its target, what waits, and who holds the lease"
            assert "another run of the target is in progress" in shown
    assert visit.problems == []


def paths(world):
    item = world.rows("SELECT item_id FROM items WHERE state = 'failed'")[0]["item_id"]
    return ["/", "/targets/gloo?since=24h", "/incidents", "/incidents/1", "/items", f"/items/gloo/{item}", "/status"]


@pytest.mark.parametrize("look", LOOKS)
def test_each_page_is_accessible_fits_the_window_and_breaks_no_rule(browser, world, served, look):
    with visiting(browser, **LOOKS[look]) as visit:
        for path in paths(world):
            open_page(visit, served, path)
            violations = Axe().run(visit.page).response["violations"]
            assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == [], path
            assert not visit.page.evaluate("document.documentElement.scrollWidth > innerWidth"), path
    assert visit.problems == []  # a violation of the content security policy is an error on the console


def test_charts_are_drawn_by_plotly_once_and_times_are_in_the_viewers_zone(browser, served):
    with visiting(browser) as visit:
        open_page(visit, served, "/targets/gloo?since=24h")
        for figure in visit.page.locator("figure.chart").all():
            figure.scroll_into_view_if_needed()
        visit.page.wait_for_selector(".plotly-box .main-svg")
        assert visit.page.evaluate("document.querySelectorAll('script[src*=plotly]').length") == 1
        shown = visit.page.locator("footer time")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", shown.get_attribute("title"))
        assert "UTC" not in shown.text_content()
        assert "Times are in your time zone, Europe/Berlin." in visit.page.locator("footer").text_content()
    assert visit.problems == []


def test_without_javascript_the_pages_have_the_same_content_and_drawings(browser, world, served):
    with visiting(browser, java_script_enabled=False) as visit:
        for path in paths(world):
            open_page(visit, served, path)
        open_page(visit, served, "/targets/gloo?since=24h")
        drawings = visit.page.locator("figure.chart .drawing .plot > svg")
        assert drawings.count() >= 3
        assert all(each.is_visible() for each in drawings.all())
        assert "UTC" in visit.page.locator("footer time").text_content()


def test_hostile_text_stays_text(browser, world, served):
    with visiting(browser) as visit:
        visit.page.on("dialog", lambda dialog: visit.problems.append(dialog.message))
        for path in ("/", "/items?state=invalid", "/incidents", "/incidents/2", "/targets/gloo"):
            open_page(visit, served, path)
            assert visit.page.evaluate("window.stolen") is None, path
        open_page(visit, served, "/items?state=invalid")
        assert "window.stolen=1" in visit.page.locator("main").text_content()
        visit.page.locator("main a", has_text="window.stolen").first.click()
        visit.page.wait_for_load_state("networkidle")
        assert "window.stolen=1" in visit.page.locator("h1").text_content()
    assert visit.problems == []


def test_an_incident_is_acknowledged_from_a_phone(browser, world, served, here):
    with visiting(browser, viewport=PHONE) as visit:
        open_page(visit, served, "/incidents/1")
        form = visit.page.locator("form[action='/incidents/1/acknowledge']")
        form.get_by_label("Your name").fill("Ana")
        form.get_by_label("Comment").fill("on it")
        form.get_by_role("button").click()
        visit.page.wait_for_load_state("networkidle")
        assert visit.page.url == url_of(served, "/incidents/1")
        assert "Ana" in visit.page.locator("main").text_content()
    printed = json.loads(here(world, "incidents", "show", "1", "--json").stdout)
    assert (printed["state"], printed["acknowledged_by"]) == ("acknowledged", "Ana")
    assert visit.problems == []


def test_the_keyboard_reaches_the_content_first(browser, served):
    with visiting(browser) as visit:
        open_page(visit, served, "/")
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        visit.page.keyboard.press("Enter")
        assert visit.page.url.endswith("#content")


def test_a_login_is_asked_for_and_kept_also_after_a_link_from_elsewhere(browser, world, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    with serve(world, {"MONITOR_WEB__TOKEN_FILE": str(tmp_path / "token")}) as served, visiting(browser) as visit:
        until(lambda: served.logged_events("web_listening"), "a page that listens")
        page = visit.page
        page.goto(url_of(served, "/incidents/1"))
        assert page.url.startswith(url_of(served, "/login"))
        assert Axe().run(page).violations_count == 0
        for token in ("not-the-token-at-all", TOKEN):
            page.get_by_label("Your name").fill("Ana")
            page.get_by_label("Token", exact=True).fill(token)
            page.get_by_role("button", name="Log in").click()
        assert page.url == url_of(served, "/incidents/1")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        # localhost is another site than 127.0.0.1: the browser sends no Strict cookie with the first request
        page.route(
            "http://localhost:1/",
            lambda route: route.fulfill(
                content_type="text/html", body=f"<a href='{url_of(served, '/incidents/1')}'>there</a>"
            ),
        )
        page.goto("http://localhost:1/")
        page.get_by_text("there").click()
        page.wait_for_url(url_of(served, "/incidents/1"))
        assert "Log out Ana" in " ".join(page.locator("header").text_content().split())
        page.get_by_role("button", name="Log out").click()
        assert "/login" in page.url
        page.goto(url_of(served, "/"))
        assert "/login" in page.url


def test_a_report_in_one_file_opens_offline(browser, world, here, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(here(world, "report", "--peek", "--format", "html").stdout, encoding="utf-8")
    with visiting(browser, offline=True) as visit:
        asked = []
        visit.page.on("request", lambda request: asked.append(request.url))
        visit.page.goto(path.as_uri())
        visit.page.wait_for_load_state("networkidle")
        assert "gloo" in visit.page.locator("main").text_content()
        assert Axe().run(visit.page).violations_count == 0
    assert (asked, visit.problems) == ([path.as_uri()], [])
