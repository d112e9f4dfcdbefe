import pytest

from monitor.reports.html.pagination import address, numbered_page


@pytest.mark.parametrize(
    ("number", "text", "previous", "following"),
    [
        (1, "1–20 of 45 targets", None, "/?since=30d&page=2"),
        (2, "21–40 of 45 targets", "/?since=30d", "/?since=30d&page=3"),
        (3, "41–45 of 45 targets", "/?since=30d&page=2", None),
    ],
)
def test_a_page_links_to_its_neighbours_and_keeps_the_query(number, text, previous, following):
    page = numbered_page(number, size=20, total=45, noun="target", path="/", query={"since": "30d"})
    assert (page.text, page.previous, page.next) == (text, previous, following)


def test_an_address_encodes_its_query_and_leaves_out_what_is_empty():
    assert address("/x", {"a": "b&c/ü", "d": None, "e": ""}) == "/x?a=b%26c%2F%C3%BC"
    assert (address("/x", {}), address("", {})) == ("/x", "?")
