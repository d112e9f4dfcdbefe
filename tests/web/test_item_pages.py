"""The pages of items over real HTTP: the list, one item, and ids of every kind in addresses."""

import re
from datetime import timedelta

import pytest
from web.conftest import page_of
from web.served import ask

from monitor.database.engine import reading
from monitor.model import Cause
from monitor.reports.item_views import item_view, item_view_json, look_up
from monitor.reports.items_page import ITEMS_PER_PAGE

pytestmark = pytest.mark.slow_twice  # what it serves is tested on both

HOSTILE = "<img src=x onerror=alert(1)>\"'\u202egnp"
SHOWN = "<img src=x onerror=alert(1)>\"'\\u202egnp"


def items_of(document):
    return [link for link in document.links() if link.startswith("/items/") or "id=" in link]


IDS = ["a/b/../c", ".", "..", "/", "ünï/文档", "x" * 500, HOSTILE, "100%25?q=1#f", "a;b:c,d", "+plus & amp", "\\", " "]


def test_the_link_of_every_id_in_the_list_leads_to_its_page(served, troubles):
    for item_id in IDS:
        troubles.item(item_id, "failed")
    listed = page_of(served, "/items")
    assert len(items_of(listed)) == len(IDS)
    found = {page_of(served, link).text for link in items_of(listed)}
    assert len(found) == len(IDS)
    for item_id in IDS:
        shown = re.sub(r"\s+", " ", item_id.replace("\u202e", "\\u202e"))
        assert any(f"/ gloo {shown}" in text or shown.isspace() for text in found), item_id


def test_a_target_may_hold_a_slash(served, troubles):
    troubles.run(troubles.now, target="a/b")
    troubles.item("c/d", "failed", target="a/b")
    (link,) = items_of(page_of(served, "/items?target=a%2Fb"))
    assert link == "/items/a%2Fb/c%2Fd"
    assert "c/d" in page_of(served, link).text


def test_the_list_is_filtered_and_keeps_the_filter_on_its_pages(served, troubles):
    assert "No item yet" in page_of(served, "/items").text
    for n in range(ITEMS_PER_PAGE + 1):
        troubles.item(f"doc-{n:03}", "failed", group_name="faq")
    troubles.item("else", "pending", pending_since=troubles.now - timedelta(days=1))
    first = page_of(served, "/items?state=failed&group=faq&q=DOC-")
    assert f"{ITEMS_PER_PAGE} of {ITEMS_PER_PAGE + 1} items" in first.text
    (following,) = [link for link in first.links() if "after=" in link]
    assert all(part in following for part in ("state=failed", "group=faq", "q=DOC-"))
    second = page_of(served, following)
    assert items_of(second) == [f"/items/gloo/doc-{ITEMS_PER_PAGE:03}"]
    (previous,) = [link for link in second.links() if "before=" in link]
    assert items_of(page_of(served, previous)) == items_of(first)
    assert items_of(page_of(served, "/items?stuck=1")) == ["/items/gloo/else"]
    assert "No item matches" in page_of(served, "/items?state=invalid").text


@pytest.mark.parametrize(
    "query", ["state=half", "after=nowhere", "before=1:a:%2500", "q=a%00b", "incident=x", f"q={'x' * 513}"]
)
def test_a_query_that_means_nothing_is_refused(served, query):
    assert ask(served.address, f"/items?{query}").status == 400


def test_an_unknown_item_is_a_page_with_similar_ids(served, troubles):
    troubles.item("doc/17", "completed")
    missing = page_of(served, "/items/gloo/doc%2F18", status=404)
    assert "gloo has no item with the id doc/18. Did you mean one of these?" in missing.text
    assert "/items/gloo/doc%2F17" in missing.links()


@pytest.mark.parametrize("path", ["/items/nobody/x", "/items?target=nobody"])
def test_an_unknown_target_is_a_page_with_the_known_ones(served, path):
    assert "There is no target 'nobody'; choose from gloo." in page_of(served, path, status=404).text


@pytest.mark.parametrize("path", ["/items/gloo", "/items/gloo/", "/items/gloo/a%00b", "/items/gloo/%ff", "/items//x"])
def test_an_address_of_no_item_says_how_one_looks(served, path):
    assert "/items/TARGET/ID" in page_of(served, path, status=404).text


def test_an_item_says_what_is_known_and_what_happened(served, troubles):
    number = troubles.opened(cause=Cause.ITEMS_FAILED, member_count=1)
    troubles.item(
        "doc",
        "failed",
        stage="FAILED",
        failure_reason="too_large",
        failure_message=HOSTILE,
        group_name=HOSTILE,
        request_id="req_17",
        http_status=422,
        incident_id=number,
    )
    run_id = troubles.run(troubles.now - timedelta(hours=2))
    troubles.event("doc", run_id, old=None, new="pending", at=troubles.now - timedelta(hours=2))
    troubles.event("doc", run_id, old="pending", new="failed", at=troubles.now - timedelta(hours=1))
    troubles.event("doc", 0, old=None, new=HOSTILE, at=troubles.now, kind="ignored")
    with reading(troubles.engine) as conn:
        settings = served.state.config
        found = look_up(conn, settings, "doc", target="gloo", now=troubles.now)
        value = item_view_json(item_view(conn, found.items[0], now=troubles.now))
    shown = page_of(served, "/items/gloo/doc")
    for name in ("state", "stage", "failure_reason", "request_id"):
        assert str(value[name]) in shown.text
    assert [shown.text.count(f"{event['from'] or 'new'} → {event['to']}") for event in value["events"][:2]] == [1, 1]
    assert shown.text.index("ignored:") < shown.text.index("pending → failed") < shown.text.index("first seen in")
    assert f"/incidents/{number}" in shown.links()
    assert shown.text.count(SHOWN) == 3
    assert "img" not in shown.tags


def test_an_item_without_changes_says_so(served, troubles):
    troubles.item("new", "unknown", known_state=None, reason="unauthorized")
    text = page_of(served, "/items/gloo/new").text
    assert "the API never answered for it" in text
    assert "No change yet" in text
