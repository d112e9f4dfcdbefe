"""Acknowledge, silence and resolve from the page: the same as by the commands, and recorded with who did it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from incidents.test_acknowledge_store import TOO_MUCH
from incidents.test_evaluate import Site
from sqlalchemy import select
from support.observed import until
from web.browser import Browser
from web.conftest import TOKEN
from web.served import Served, ask, config

from monitor.database.engine import connect, reading
from monitor.database.tables import silences
from monitor.incidents import store as incident_store


@pytest.fixture
def site(database):
    """A target with one open incident, number 1."""
    engine = connect(database)
    site = Site(engine)
    site.run(TOO_MUCH)
    yield site
    engine.dispose()


@pytest.fixture
def acting(page, site, token_file):
    """A browser of somebody who has logged in where actions are on, and the CSRF token of the session."""
    served = page(f'token_file = "{token_file}"\nactions = true', engine=site.engine)
    browser = Browser(served.address)
    browser.log_in(TOKEN, name="Ana")
    browser.served, browser.csrf = served, browser.csrf_token()
    return browser


def events(site):
    with reading(site.engine) as conn:
        return [(each.kind, each.reason) for each in incident_store.events(conn, 1)]


def stored_silences(site):
    with reading(site.engine) as conn:
        return conn.execute(select(silences)).mappings().all()


def test_an_acknowledgement_is_recorded_with_the_name_of_the_login(acting, site):
    fields = {"csrf_token": acting.csrf, "comment": "on it\n<b>", "by": "somebody else"}
    answer = acting.post("/incidents/1/acknowledge", fields)
    assert (answer.status, answer.headers["location"]) == (303, "/incidents/1")
    assert site.incident.acknowledged_by == "Ana"
    assert events(site)[-1] == ("acknowledged", "acknowledged by Ana: on it <b>")
    message, channel = site.messages[-1]
    assert (message.kind.value, channel) == ("acknowledged", "oncall")
    (logged,) = acting.served.logged_events("operator_action")
    assert {name: logged[name] for name in ("action", "incident", "by")} == {
        "action": "acknowledge", "incident": 1, "by": "Ana",
    }  # fmt: skip


def test_a_resolution_ends_the_incident_and_a_second_one_says_so(acting, site):
    fields = {"csrf_token": acting.csrf}
    assert acting.post("/incidents/1/resolve", fields).status == 303
    assert site.incident.resolved_at is not None
    again = acting.post("/incidents/1/resolve", fields)
    assert (again.status, b"Incident 1 is resolved, since" in again.body) == (409, True)
    assert b"there is nothing to acknowledge" in acting.post("/incidents/1/acknowledge", fields).body
    assert [kind for kind, _ in events(site)] == ["opened", "resolved"]


def test_a_silence_matches_the_incident_for_the_time_given(acting, site):
    fields = {"csrf_token": acting.csrf, "duration": " 4h ", "comment": "the provider is on it"}
    assert acting.post("/incidents/1/silence", fields).status == 303
    (silence,) = stored_silences(site)
    assert (silence["author"], silence["comment"]) == ("Ana", "the provider is on it")
    assert silence["matchers"] == {"cause": ["spending_limit"], "target": ["gloo"]}
    assert (silence["ends_at"] - silence["starts_at"]).total_seconds() == 4 * 3600


def test_a_silence_needs_a_duration_that_can_be_read(acting, site):
    for duration in ("", "4 fortnights", "-1h", "4000d", "<script>"):
        answer = acting.post("/incidents/1/silence", {"csrf_token": acting.csrf, "duration": duration})
        assert (answer.status, b"is no duration from" in answer.body) == (400, True), duration
        assert b"<script>" not in answer.body
    assert stored_silences(site) == []


def test_there_is_nothing_to_do_about_an_incident_that_does_not_exist(acting):
    for number in ("2", "0", "-1", "99999999999999999999", "x", "1%20", "%D9%A3"):
        answer = acting.post(f"/incidents/{number}/resolve", {"csrf_token": acting.csrf})
        assert answer.status == 404, number
    assert acting.post("/incidents/2/silence", {"csrf_token": acting.csrf, "duration": "1h"}).status == 404


def test_nothing_is_done_without_the_csrf_token_of_this_session(acting, site):
    other = Browser(acting.address)
    other.log_in(TOKEN, name="Eve")
    for token in ("", "x", other.csrf_token()):
        answer = acting.post("/incidents/1/resolve", {"csrf_token": token})
        assert (answer.status, b"out of date" in answer.body) == (403, True)
    assert acting.post("/incidents/1/resolve", {"csrf_token": acting.csrf}, cross_site=True).status == 403
    acting.cookies = {}
    expired = acting.post("/incidents/1/resolve", {"csrf_token": acting.csrf})
    assert expired.headers["location"] == "/login?next=/incidents/1"  # where the form is
    assert [kind for kind, _ in events(site)] == ["opened"]


def test_actions_are_refused_unless_they_are_on(page, site, token_file):
    served = page(f'token_file = "{token_file}"', engine=site.engine)
    browser = Browser(served.address)
    browser.log_in(TOKEN)
    refused = browser.post("/incidents/1/resolve", {"csrf_token": browser.csrf_token()})
    assert (refused.status, b"web.actions = true" in refused.body) == (403, True)
    opened = browser.get("/incidents/1/resolve")
    assert (opened.status, opened.headers["allow"], b"Use POST" in opened.body) == (405, "POST", True)
    assert site.incident.resolved_at is None


def test_a_program_acts_with_the_token_and_says_who_it_is(acting, site):
    bearer = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-www-form-urlencoded"}
    answer = ask(acting.address, "/incidents/1/acknowledge", method="POST", headers=bearer, body="by=deploy+bot")
    assert (answer.status, site.incident.acknowledged_by) == (303, "deploy bot")
    ask(acting.address, "/incidents/1/resolve", method="POST", headers=bearer)
    kind, reason = events(site)[-1]
    assert (kind, reason.endswith("by API token at 127.0.0.1")) == ("resolved", True)


def test_a_program_may_send_text_that_is_not_escaped(acting, site):
    """As `curl -d by=Jörg` does."""
    bearer = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-www-form-urlencoded"}
    for body, status in (("by=Jörg".encode("latin-1"), 400), ("by=Jörg+%C3%9F".encode(), 303)):
        answer = ask(acting.address, "/incidents/1/acknowledge", method="POST", headers=bearer, body=body)
        assert answer.status == status
    assert site.incident.acknowledged_by == "Jörg ß"


def test_without_a_login_forms_belong_to_a_visit(page, site):
    served = page("actions = true", engine=site.engine)
    browser = Browser(served.address)
    first = browser.get("/")
    assert "SameSite=Strict" in first.headers["set-cookie"]
    assert "set-cookie" not in browser.get("/").headers
    assert browser.post("/incidents/1/acknowledge", {"by": "Ana"}).status == 403
    assert browser.post("/incidents/1/acknowledge", {"csrf_token": "of a process that has ended"}).status == 403
    assert [kind for kind, _ in events(site)] == ["opened"]


def test_an_action_waits_for_a_database_that_is_not_open_yet(page, token_file, database):
    served = page(f'token_file = "{token_file}"\nactions = true')
    browser = Browser(served.address)
    browser.log_in(TOKEN)
    answer = browser.post("/incidents/1/resolve", {"csrf_token": browser.csrf_token()})
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert b"not open yet" in answer.body


def test_of_two_people_who_acknowledge_the_second_is_told_and_logged(acting, site):
    other = Browser(acting.served.address)
    other.log_in(TOKEN, name="Ben")
    fields = {"csrf_token": other.csrf_token()}
    assert acting.post("/incidents/1/acknowledge", {"csrf_token": acting.csrf}).status == 303
    again = other.post("/incidents/1/acknowledge", fields)
    assert (again.status, b"Incident 1 was acknowledged by Ana" in again.body) == (409, True)
    (logged,) = acting.served.logged_events("operator_action_repeated")
    assert (logged["by"], logged["done_before_by"]) == ("Ben", "Ana")
    assert acting.post("/incidents/1/acknowledge", {"csrf_token": acting.csrf}).status == 303, "a second click"
    assert [kind for kind, _ in events(site)] == ["opened", "acknowledged"]


@pytest.fixture
def crowd(tmp_path, store_url, token_file):
    """Browsers of several people over one incident, number 1, on each database."""
    engine = connect(store_url)
    site = Site(engine)
    site.run(TOO_MUCH)
    served = Served(config(tmp_path, database=store_url, web=f'token_file = "{token_file}"\nactions = true'))
    with served:
        served.state.engine = engine
        until(lambda: served.logged_events("web_listening"), "a page that listens")
        people = []
        for name in ("Ana", "Ben", "Cho"):
            browser = Browser(served.address)
            browser.log_in(TOKEN, name=name)
            people.append((name, browser, browser.csrf_token()))
        yield site, served, people
    engine.dispose()


@pytest.mark.process
def test_people_who_act_at_the_same_time_are_each_recorded_or_told(crowd):
    site, served, people = crowd
    kinds = {"Ana": "acknowledge", "Ben": "acknowledge", "Cho": "silence"}

    def act(person):
        name, browser, token = person
        path = f"/incidents/1/{kinds[name]}"
        return name, browser.post(path, {"csrf_token": token, "duration": "1h", "comment": ""})

    with ThreadPoolExecutor() as pool:
        answers = dict(pool.map(act, people))
        assert sorted(answers[name].status for name in ("Ana", "Ben")) == [303, 409]
        assert answers["Cho"].status == 303
        winner, loser = sorted(("Ana", "Ben"), key=lambda name: answers[name].status)
        assert f"acknowledged by {winner}".encode() in answers[loser].body
        kinds |= dict.fromkeys(kinds, "resolve")
        ended = dict(pool.map(act, people))
    assert sorted(each.status for each in ended.values()) == [303, 409, 409]
    assert [(kind, reason.partition(":")[0]) for kind, reason in events(site)][1:2] == [
        ("acknowledged", f"acknowledged by {winner}")
    ]
    assert [kind for kind, _ in events(site)] == ["opened", "acknowledged", "resolved"]
    assert [each["author"] for each in stored_silences(site)] == ["Cho"]
    assert [each for each in served.logged if each["log_level"] == "error"] == []
