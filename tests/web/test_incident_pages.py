"""The pages of incidents over real HTTP: the list, one incident, actions, and text from outside."""

import json
import re
from datetime import timedelta

import pytest
from reports.html.documents import Document
from web.conftest import page_of
from web.served import ask

from monitor.database.engine import reading, writing
from monitor.incidents import silence_store
from monitor.model import Cause, Severity
from monitor.reports.incident_views import incident_view, incident_view_json
from monitor.web import site
from monitor.web.incident_pages import INCIDENTS_PER_PAGE

pytestmark = pytest.mark.slow_twice  # what it serves is tested on both

HOSTILE = "<script>alert('x')</script>\" onload=\"x\u202egnp\x1b[31m"
SHOWN = "<script>alert('x')</script>\" onload=\"x\\u202egnp"


def test_the_list_has_open_incidents_first_and_leads_to_each(served, troubles):
    assert "No incident yet" in page_of(served, "/incidents").text
    first = troubles.opened()
    ended = troubles.resolved(cause=Cause.OUTAGE)
    listed = page_of(served, "/incidents")
    links = [link for link in listed.links() if re.fullmatch(r"/incidents/\d+", link)]
    assert links == [f"/incidents/{first}", f"/incidents/{ended}"]
    only = page_of(served, "/incidents?state=resolved&cause=outage&severity=critical&target=gloo")
    assert f"/incidents/{first}" not in only.links()
    assert f"/incidents/{ended}" in only.links()
    assert "No incident matches" in page_of(served, "/incidents?severity=info").text


def test_the_list_has_pages_that_keep_the_filter(served, troubles):
    for _ in range(INCIDENTS_PER_PAGE + 1):
        troubles.resolved(severity=Severity.WARNING)
    first = page_of(served, "/incidents?severity=warning")
    (following,) = [link for link in first.links() if "page=2" in link]
    assert "severity=warning" in following
    assert (
        f"{INCIDENTS_PER_PAGE + 1}–{INCIDENTS_PER_PAGE + 1} of {INCIDENTS_PER_PAGE + 1}"
        in page_of(served, following).text
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/incidents?state=half", 400),
        ("/incidents?page=0", 400),
        ("/incidents?page=1001", 400),
        ("/incidents?page=2", 404),
        ("/incidents?target=a%00b", 400),
        ("/incidents/1?items=-1", 400),
        ("/incidents/1?items=2", 404),
    ],
)
def test_an_address_that_means_nothing_is_refused(served, troubles, path, status):
    troubles.opened()
    assert ask(served.address, path).status == status


@pytest.mark.parametrize("number", ["99", "0", "one", "9" * 30, "%3Cb%3E", "1%00"])
def test_an_unknown_incident_is_a_page_with_a_sentence(served, number):
    missing = page_of(served, f"/incidents/{number}", status=404)
    assert "There is no incident" in missing.text
    assert "/incidents" in missing.links()


def test_an_unknown_target_is_a_page_with_the_known_ones(served):
    assert "There is no target 'glo'; choose from gloo." in page_of(served, "/incidents?target=glo", status=404).text


def test_an_incident_says_what_is_wrong_what_to_check_and_who_was_notified(served, troubles):
    found = page_of(served, f"/incidents/{troubles.rejected()}")
    text = found.text
    assert "gloo: the API rejects the credentials" in text
    order = ["critical", "What to check", "Who was notified", "What is known", "Why: run by run", "Related incidents"]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    assert "1 message is not delivered: mail" in text
    assert "given up 550 refused" in text
    assert "opened: evidence in 2 of the last 2 runs" in text
    assert "4 of 4 runs saw it" in text
    assert "form" not in found.tags
    assert found.tags.count("script") == 2  # the page's own, and the data of a chart


def test_an_incident_about_requests_links_the_items_that_were_refused(served, troubles):
    for each in ("doc-1", "a/b"):
        troubles.item(each, "unknown")
    found = page_of(served, f"/incidents/{troubles.rejected(sample_ids=('doc-1', 'a/b'))}")
    assert "Sample ids" in found.text
    links = [each for each in found.links() if each.startswith("/items/gloo/")]
    assert len(links) == 2
    assert all("What happened" in page_of(served, each).text for each in links)


def test_the_figures_of_an_incident_are_those_of_its_json(served, troubles):
    number = troubles.opened(cause=Cause.ITEMS_FAILED, member_count=30, peak_count=31)
    for n in range(30):
        troubles.item(f"doc-{n:02}", "failed", incident_id=number, since=troubles.now - timedelta(hours=1))
    with reading(troubles.engine) as conn:
        value = incident_view_json(incident_view(conn, number, now=troubles.now))
    first = page_of(served, f"/incidents/{number}")
    second = page_of(served, f"/incidents/{number}?items=2")
    assert f"{value['items']} documents failed to ingest" in first.text
    assert all(check in first.text for check in value["what_to_check"])
    assert value["safe_message"] in first.text
    shown = [link.rpartition("/")[2] for found in (first, second) for link in found.links() if "/items/" in link]
    assert shown == value["members"]
    assert f"/incidents/{number}?items=2#items" in first.links()


def test_a_resolved_incident_offers_no_actions(served, troubles, monkeypatch):
    monkeypatch.setattr(site, "viewer_of", lambda _: site.Viewer(can_act=True, csrf_token="t0ken"))
    number = troubles.resolved(peak_count=3)
    found = page_of(served, f"/incidents/{number}")
    assert "Resolved at" in found.text
    assert "form" not in found.tags


def test_whoever_may_act_gets_a_form_for_each_action(served, troubles, monkeypatch):
    monkeypatch.setattr(site, "viewer_of", lambda _: site.Viewer(can_act=True, csrf_token="t0ken"))
    number = troubles.opened()
    found = page_of(served, f"/incidents/{number}")
    actions = [values["action"] for tag, values in found.attributes if tag == "form"]
    assert actions == [f"/incidents/{number}/{each}" for each in ("acknowledge", "silence", "resolve")]
    fields = [values.get("name") for tag, values in found.attributes if tag in {"input", "select"}]
    assert (fields.count("csrf_token"), fields.count("by"), fields.count("comment"), fields.count("duration")) == (
        3, 3, 3, 1,
    )  # fmt: skip
    monkeypatch.setattr(site, "viewer_of", lambda _: site.Viewer(name="ana", can_act=True, csrf_token="t0ken"))
    named = page_of(served, f"/incidents/{number}")
    assert not [values for tag, values in named.attributes if values.get("name") == "by"]


def test_text_from_outside_stays_text(served, troubles):
    number = troubles.rejected(
        code=HOSTILE, api_message=HOSTILE, request_ids=(HOSTILE,), facts=((HOSTILE, HOSTILE),), page=HOSTILE
    )
    troubles.happened(number, troubles.now, "acknowledged", HOSTILE)
    troubles.item(HOSTILE.replace("\x1b", ""), "failed", incident_id=number, stage=HOSTILE, group_name=HOSTILE)
    with writing(troubles.engine) as conn:
        silence_store.add(
            conn,
            matchers={"target": ("gloo",)},
            starts_at=troubles.now - timedelta(hours=1),
            ends_at=troubles.now + timedelta(hours=1),
            comment=HOSTILE,
            author=HOSTILE,
            now=troubles.now,
        )
    answer = ask(served.address, f"/incidents/{number}").body.decode()
    found = Document(answer)
    assert found.text.count(SHOWN) >= 8
    assert found.tags.count("script") == 2
    assert not [values for _, values in found.attributes if any(name.startswith("on") for name in values)]
    assert not re.search("[\x00\x1b\u202e]", answer)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', answer, re.DOTALL)
    assert json.loads(data)["data"]


def test_an_incident_of_an_objective_is_about_no_items(served, troubles):
    number = troubles.opened(cause=Cause.SLO_BURN, group="in time", peak_count=7)
    shown = page_of(served, f"/incidents/{number}").text
    assert re.search(r"Objective\s*in time", shown)
    assert re.search(r"Items at its peak|No item is in this incident|Group\s*in time", shown) is None
    failed = troubles.opened(cause=Cause.ITEMS_FAILED, group="faq", peak_count=7)
    assert "No item is in this incident now" in page_of(served, f"/incidents/{failed}").text
