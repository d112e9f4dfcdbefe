"""Which Host headers, forms and return paths are this page's own."""

import pytest

from monitor.web.access.origins import (
    Sender,
    came_by_a_link,
    host_is_served,
    host_name,
    host_port,
    is_own_form,
    local_path,
)


@pytest.mark.parametrize(
    ("header", "listen", "public_url", "served"),
    [
        ("127.0.0.1:8990", "127.0.0.1", None, True),
        ("localhost:18990", "127.0.0.1", None, True),  # an SSH tunnel from another port
        ("LOCALHOST", "127.0.0.1", None, True),
        ("localhost.", "127.0.0.1", None, True),
        ("[::1]:8990", "::1", None, True),
        ("10.1.2.3:8990", "0.0.0.0", None, True),
        ("[fd00::7]", "::", None, True),
        ("monitor.example.com", "127.0.0.1", "https://monitor.example.com", True),
        ("Monitor.Example.com.:443", "127.0.0.1", "https://monitor.example.COM", True),
        ("monitor-host:8990", "monitor-host", None, True),
        ("evil.example", "127.0.0.1", None, False),
        ("evil.example:8990", "0.0.0.0", "https://monitor.example.com", False),
        ("monitor.example.com.evil.example", "0.0.0.0", "https://monitor.example.com", False),
        ("evil-localhost", "127.0.0.1", None, False),
        ("127.0.0.1.nip.io", "127.0.0.1", None, False),
        ("0x7f000001", "127.0.0.1", None, False),
        ("user@127.0.0.1", "127.0.0.1", None, False),
        ("127.0.0.1, evil.example", "127.0.0.1", None, False),
        ("[::1", "::1", None, False),
        ("", "127.0.0.1", None, False),
    ],
)
def test_only_hosts_of_this_page_are_served(header, listen, public_url, served):
    assert host_is_served(header, listen=listen, public_url=public_url) is served


def test_a_host_header_is_read_without_its_port():
    assert [host_name(each) for each in ("A.example:80", "[2001:db8::1]:1", "x y")] == [
        "a.example",
        "2001:db8::1",
        None,
    ]
    assert [host_port(each) for each in ("a.example:80", "[2001:db8::1]:1", "a.example", "x y")] == ["80", "1", "", ""]


PUBLIC = "https://monitor.example.com"


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://10.0.0.7:8990"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://10.0.0.7:8990"}, True),
        ({"origin": "http://10.0.0.7:8991"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "file://10.0.0.7:8990"}, False),
        ({"origin": PUBLIC}, True),  # a proxy that names another Host to us
        ({"host": "monitor.example.com:443", "origin": "https://monitor.example.com"}, True),
        ({"host": "10.0.0.7", "origin": "http://10.0.0.7:80"}, True),
        ({}, True),  # a program
    ],
)
def test_a_form_must_come_from_this_page(headers, own):
    sender = Sender.of({"host": "10.0.0.7:8990", **headers})
    assert is_own_form(sender, public_url=PUBLIC) is own


def test_without_a_public_url_its_origin_means_nothing():
    assert not is_own_form(Sender.of({"host": "10.0.0.7", "origin": PUBLIC}), public_url=None)


@pytest.mark.parametrize(
    ("site", "mode", "by_link"),
    [
        ("cross-site", "navigate", True),
        ("same-site", "navigate", True),
        ("same-origin", "navigate", False),
        ("none", "navigate", False),
        ("cross-site", "no-cors", False),
    ],
)
def test_a_link_of_another_site_is_told_from_other_requests(site, mode, by_link):
    assert came_by_a_link(Sender.of({"sec-fetch-site": site, "sec-fetch-mode": mode})) is by_link


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("/incidents/7", "/incidents/7"),
        ("/items?state=failed&page=2", "/items?state=failed&page=2"),
        ("/targets/a%2Fb", "/targets/a%2Fb"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
        ("javascript:alert(1)", "/"),
        ("evil.example", "/"),
        ("", "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
        ("/" + "x" * 3000, "/"),
    ],
)
def test_a_return_path_never_leads_elsewhere(wanted, there):
    assert local_path(wanted) == there
