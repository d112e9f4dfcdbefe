import json
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model import BadBody
from monitor.model.http import Request, is_valid_path
from monitor.providers.pagination import PageRule, first_page, next_link, next_page
from monitor.providers.templates import with_parameter

BASE = "https://api.example.com/base"
LIST = Request(method="GET", path="/v1/docs", template="/v1/docs", headers={"x-a": "b"}, max_bytes=77)


def follow(rule, *answers, start=LIST):
    """The requested paths for pages of (body, items on the page, headers); ends with None or the error."""
    page, asked = first_page(rule, start), []
    for body, count, headers in answers:
        asked.append(page.path)
        page = next_page(rule, page, body=body, count=count, headers=headers, base_url=BASE)
        if page is None or isinstance(page, BadBody):
            return asked, page
    return asked, page.path


WALKS = {
    "one page": ({}, [({}, 3, {})], ["/v1/docs"]),
    "one page of a size": ({"size": 5}, [({}, 3, {})], ["/v1/docs?limit=5"]),
    "link": (
        {"by": "link", "size": 2, "size_parameter": "per_page"},
        [({}, 2, {"link": '<https://api.example.com/base/v1/docs?page=2>; rel="next"'}), ({}, 2, {})],
        ["/v1/docs?per_page=2", "/v1/docs?page=2"],
    ),
    "cursor until null": (
        {"by": "cursor"},
        [({"next_cursor": "a&b"}, 2, {}), ({"next_cursor": None}, 2, {})],
        ["/v1/docs", "/v1/docs?cursor=a%26b"],
    ),
    "cursor until absent": (
        {"by": "cursor", "parameter": "after", "next": "meta.next"},
        [({"meta": {"next": 17}}, 2, {}), ({}, 2, {})],
        ["/v1/docs", "/v1/docs?after=17"],
    ),
    "cursor until empty": ({"by": "cursor"}, [({"next_cursor": ""}, 2, {})], ["/v1/docs"]),
    "cursor until there is no more": (
        {"by": "cursor", "parameter": "after", "next": "last", "more": "has_more", "size": 2},
        [({"last": "b", "has_more": True}, 2, {}), ({"last": "d", "has_more": False}, 2, {})],
        ["/v1/docs?limit=2", "/v1/docs?limit=2&after=b"],
    ),
    "offset until the total": (
        {"by": "offset", "size": 2, "total": "total"},
        [({"total": 4}, 2, {}), ({"total": 4}, 2, {})],
        ["/v1/docs?limit=2&offset=0", "/v1/docs?limit=2&offset=2"],
    ),
    "offset where the API gives less than it is asked for": (
        {"by": "offset", "size": 100, "total": "total"},
        [({"total": 5}, 3, {}), ({"total": 5}, 2, {})],
        ["/v1/docs?limit=100&offset=0", "/v1/docs?limit=100&offset=3"],
    ),
    "offset until a short page": (
        {"by": "offset", "size": 2},
        [({}, 2, {}), ({}, 1, {})],
        ["/v1/docs?limit=2&offset=0", "/v1/docs?limit=2&offset=2"],
    ),
    "offset until an empty page": (
        {"by": "offset"},
        [({}, 2, {}), ({}, 0, {})],
        ["/v1/docs?offset=0", "/v1/docs?offset=2"],
    ),
    "a short page with more behind it": (
        {"by": "offset", "size": 2, "more": "more"},
        [({"more": True}, 1, {}), ({"more": False}, 2, {})],
        ["/v1/docs?limit=2&offset=0", "/v1/docs?limit=2&offset=1"],
    ),
    "an empty page, whatever the total": (
        {"by": "offset", "total": "total"},
        [({"total": 9}, 0, {})],
        ["/v1/docs?offset=0"],
    ),
    "page numbers until the total": (
        {"by": "number", "size": 2, "total": "total", "parameter": "p"},
        [({"total": 3}, 2, {}), ({"total": 3}, 1, {})],
        ["/v1/docs?limit=2&p=1", "/v1/docs?limit=2&p=2"],
    ),
    "page numbers from 0 until an empty page": (
        {"by": "number", "first": 0},
        [({}, 2, {}), ({}, 2, {}), ({}, 0, {})],
        ["/v1/docs?page=0", "/v1/docs?page=1", "/v1/docs?page=2"],
    ),
}


@pytest.mark.parametrize(("rule", "answers", "paths"), WALKS.values(), ids=WALKS)
def test_all_pages_are_read_in_order(rule, answers, paths):
    assert follow(PageRule(**rule), *answers) == (paths, None)


BROKEN = {
    "more, but no cursor": ({"by": "cursor", "more": "more"}, {"more": True}, "the list says that there are more"),
    "a cursor that is an object": ({"by": "cursor"}, {"next_cursor": {}}, "the list's cursor is neither a text nor"),
    "a cursor without end": ({"by": "cursor"}, {"next_cursor": "x" * 9000}, "the list's cursor is too long"),
    "more, as a text": (
        {"by": "cursor", "more": "more"},
        {"more": "yes"},
        "the field that says whether there are more pages",
    ),
    "more, as a number": (
        {"by": "offset", "more": "more"},
        {"more": 1},
        "the field that says whether there are more pages",
    ),
    "a total that is a text": ({"by": "number", "total": "n"}, {"n": "12"}, "the list's total is not a whole number"),
    "a total that is a boolean": ({"by": "offset", "total": "n"}, {"n": True}, "the list's total is not a whole"),
}


@pytest.mark.parametrize(("rule", "body", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_page_without_a_usable_next_value_is_bad(rule, body, reason):
    _, end = follow(PageRule(**rule), (body, 2, {}))
    assert isinstance(end, BadBody)
    assert end.reason.startswith(reason)


def test_every_page_request_has_the_same_headers_template_and_cap():
    rule = PageRule(by="offset")
    second = next_page(rule, first_page(rule, LIST), body={}, count=5, headers={}, base_url=BASE)
    assert (second.template, second.headers, second.max_bytes, second.method) == ("/v1/docs", {"x-a": "b"}, 77, "GET")


def test_reading_a_page_again_leads_to_the_same_next_page():
    rule = PageRule(by="offset", total="n")
    second = next_page(rule, first_page(rule, LIST), body={"n": 9}, count=5, headers={}, base_url=BASE)
    again = [next_page(rule, second, body={"n": 19}, count=5, headers={}, base_url=BASE) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0].path == "/v1/docs?offset=10"


@given(st.integers(0, 60), st.integers(1, 9), st.sampled_from(["offset", "number"]), st.booleans(), st.integers(1, 9))
def test_every_item_is_on_exactly_one_page(total, size, by, counted, cap):
    """For any page size, and, if the total is known, even if the API returns fewer items than requested."""
    cap = cap if counted and by == "offset" else size
    rule = PageRule(by=by, size=size, total="n" if counted else None)
    page, got = first_page(rule, LIST), []
    while page is not None:
        query = dict(parse_qsl(urlsplit(page.path).query))
        given = min(cap, int(query["limit"]))
        start = int(query["offset"]) if by == "offset" else (int(query["page"]) - 1) * given
        items = list(range(total))[start : start + given]
        got += items
        page = next_page(rule, page, body={"n": total}, count=len(items), headers={}, base_url=BASE)
    assert got == list(range(total))


# --- Link headers (RFC 8288) -----------------------------------------------------------------------------------------

LINKS = {
    "absolute": ('<https://api.example.com/base/v1/docs?page=2>; rel="next"', "/v1/docs?page=2"),
    "from the root": ('</base/v1/docs?page=2>; rel="next"', "/v1/docs?page=2"),
    "relative": ('<docs?page=2>; rel="next"', "/v1/docs?page=2"),
    "only a query": ('<?page=2>; rel="next"', "/v1/docs?page=2"),
    "with its port": ("<https://API.example.com:443/base/v1/docs?page=2>; rel=next", "/v1/docs?page=2"),
    "among others": ('</base/a>; rel="prev", </base/b>; rel="next", </base/c>; rel="last"', "/b"),
    "one of several relations": ('</base/b>; rel="last NEXT"', "/b"),
    "commas and brackets in quotes": ('</base/a>; title="x>, <y"; rel="prev", </base/b>;rel=next', "/b"),
    "commas in the target": ('</base/b?ids=1,2>; rel="next"', "/b?ids=1,2"),
    "escaped": ('</base/b?after=a%2Fb&x=ü y>; rel="next"', "/b?after=a%2Fb&x=%C3%BC%20y"),
    "only the first rel counts": ('</base/b>; rel="prev"; rel="next"', None),
    "no next": ('</base/b>; rel="prev"', None),
    "no relation": ("</base/b>", None),
    "nothing": ("", None),
    "not a link": ("next", None),
}


@pytest.mark.parametrize(("header", "expected"), LINKS.values(), ids=LINKS)
def test_the_link_to_the_next_page_is_followed(header, expected):
    assert next_link(header, base_url=BASE, page="/v1/docs?page=1") == expected


ASTRAY = {
    "another host": ("https://evil.example.net/base/v1/docs", "the next page is on another host"),
    "another host, without scheme": ("//evil.example.net/base/v1/docs", "the next page is on another host"),
    "a host that begins alike": ("https://api.example.com.evil.net/base/", "the next page is on another host"),
    "another port": ("https://api.example.com:444/base/v1/docs", "the next page is on another host"),
    "another scheme": ("http://api.example.com/base/v1/docs", "the next page is on another host"),
    "no web address": ("javascript:alert(1)", "the next page is on another host"),
    "outside the base path": ("/v1/docs", "the next page is outside the path of base_url"),
    "beside the base path": ("/baseball/v1/docs", "the next page is outside the path of base_url"),
    "climbing out of the base path": ("/base/../v1/docs", "the next page is outside the path of base_url"),
    "climbing out, escaped": ("/base/%2e%2e/v1/docs", "the link to the next page can't be read"),
    "a broken host": ("https://[/base/", "the link to the next page can't be read"),
    "a broken port": ("https://api.example.com:x/base/", "the link to the next page can't be read"),
    "without end": ("/base/" + "x" * 9000, "the link to the next page can't be read"),
}


@pytest.mark.parametrize(("target", "reason"), ASTRAY.values(), ids=ASTRAY)
def test_a_link_to_another_origin_is_not_followed(target, reason):
    found = next_link(f'<{target}>; rel="next"', base_url=BASE, page="/v1/docs")
    assert isinstance(found, BadBody)
    assert found.reason.startswith(reason)


@given(st.text(max_size=80) | st.text(alphabet='<>;,="\\ relnxt/.:@?#%', max_size=80))
def test_no_link_header_raises_or_changes_the_origin(header):
    for text in (header, f'<{header}>; rel="next"'):
        found = next_link(text, base_url=BASE, page="/v1/docs")
        assert found is None or isinstance(found, BadBody) or is_valid_path(found)


@pytest.mark.parametrize("header", ["<" * 60_000, "<a>" + ";a=b" * 15_000, '<a>;a="' + "\\" * 60_000, ";, " * 20_000])
def test_a_hostile_link_header_is_read_in_one_pass(header):
    assert next_link(header, base_url=BASE, page="/v1/docs") is None


@given(st.text(max_size=30), st.text(min_size=1, max_size=10))
def test_a_query_parameter_is_preserved(value, name):
    path = with_parameter(with_parameter("/v1/docs", name, value), "last", "1")
    assert parse_qsl(urlsplit(path).query, keep_blank_values=True) == [(name, value), ("last", "1")]
    assert is_valid_path(path)
    assert json.dumps(path).isascii()
