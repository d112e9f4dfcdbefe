import re
from functools import partial
from pathlib import Path

import pytest

from monitor.config.urls import (
    parse_mailbox,
    require_apprise_tls,
    resolve_sqlite_path,
    validate_base_url,
    validate_database_url,
    validate_proxy_url,
    validate_webhook_url,
)


@pytest.mark.parametrize(
    ("url", "allow_http", "base"),
    [
        ("https://platform.ai.gloo.com", False, "https://platform.ai.gloo.com"),
        ("https://gw.example:8443/gloo/", False, "https://gw.example:8443/gloo"),
        ("http://127.0.0.1:9000", False, "http://127.0.0.1:9000"),
        ("http://127.8.8.8", False, "http://127.8.8.8"),
        ("http://[::1]:9000", False, "http://[::1]:9000"),
        ("http://localhost:9000", False, "http://localhost:9000"),
        ("http://gloo.localhost", False, "http://gloo.localhost"),
        ("http://gateway", True, "http://gateway"),
    ],
)
def test_a_base_url_is_kept_without_its_trailing_slash(url, allow_http, base):
    assert validate_base_url(url, allow_http=allow_http) == base


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://gateway", "must use https"),
        ("http://10.0.0.1", "must use https"),
        ("http://localhost.evil.example", "must use https"),
        ("", "must be a URL"),
        ("platform.ai.gloo.com", "must be a URL"),
        ("ftp://host", "must be a URL"),
        ("https://", "must be a URL"),
        ("https://host:port", "must be a URL"),
        ("https://[::1", "must be a URL"),
        ("https://ho st", "must be a URL"),
        ("https://host\r\n", "must be a URL"),
        ("https://user@host", "must contain only scheme, host and path"),
        ("https://:password@host", "must contain only scheme, host and path"),
        ("https://host?key=1", "must contain only scheme, host and path"),
        ("https://host#x", "must contain only scheme, host and path"),
    ],
)
def test_an_invalid_base_url_is_refused_without_quoting_it(url, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        validate_base_url(url, allow_http=False)

    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader@db/pipeline",
        "postgres://u:p%40ss@db:5432/x?sslmode=require",
        "postgresql+psycopg://db/x",
        "sqlite:///monitor.db",
    ],
)
def test_a_connection_url_is_kept_as_it_is(url):
    assert validate_database_url(url) == url


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("mysql://db/x", "must start with sqlite:/// or postgresql://"),
        ("postgresql+asyncpg://db/x", "must start with sqlite:/// or postgresql://"),
        ("jdbc:postgresql://db/x", "must start with sqlite:/// or postgresql://"),
        ("postgresql", "must start with sqlite:/// or postgresql://"),
        ("monitor.db", "must start with sqlite:/// or postgresql://"),
        ("postgresql://u:pa/ss@db/x", "special character .* not escaped"),
        ("postgresql://db", "contains no database name"),
        ("postgresql://db/", "contains no database name"),
        ("sqlite://", "must name a file"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///file:x.db?uri=true", "must name a file"),
        ("sqlite://host/x", "must name a file"),
        ("sqlite:///x.db?immutable=1", 'the parameter "immutable", which has no effect here'),
    ],
)
def test_an_invalid_connection_url_is_refused_without_quoting_it(url, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        validate_database_url(url)

    assert "pa/ss" not in str(caught.value)


UNESCAPED = ["@", ":", "/", "?", "#", "@/", "/@", "?=", "#@", ":@", "/?"]
"""Special characters in the middle of a password."""


@pytest.mark.parametrize("between", UNESCAPED)
@pytest.mark.parametrize("user_info", ["me:Hrs3{}Btry", "Hrs3{}Btry:x", "Hrs3{}Btry", "me:12{}Btry", ":Hrs3{}Btry"])
@pytest.mark.parametrize("rest", ["@example.com", "@example.com:8080/hooks/x", "@example.com/x?to=a"])
def test_a_user_or_password_in_a_web_address_has_its_special_characters_escaped(between, user_info, rest):
    url = f"https://{user_info.format(between)}{rest}"
    if user_info == "Hrs3{}Btry" and between == ":":
        return  # a user and a password

    for validate in (validate_webhook_url, validate_proxy_url, partial(validate_base_url, allow_http=True)):
        with pytest.raises(ValueError, match=r"has an @|must be a URL|must contain only") as caught:
            validate(url)
        assert not re.search("Hrs3|Btry|12", str(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "https://u:p%40ss@relay.example/hook",
        "https://relay.example/send?to=oncall@example.com",
        "https://relay.example/a:b/c?d=e:f",
        "https://[::1]:8080/x",
    ],
)
def test_an_escaped_password_and_an_address_in_the_query_are_taken(url):
    assert validate_webhook_url(url) == url


@pytest.mark.parametrize("url", ["slack.com/x", "mailto:a@b", "https://", "https://a b"])
def test_a_webhook_needs_an_http_url(url):
    with pytest.raises(ValueError, match="must be a URL that starts with"):
        validate_webhook_url(url)


@pytest.mark.parametrize(
    ("url", "anchored"),
    [
        ("sqlite:///monitor.db", "sqlite:////etc/monitor/monitor.db"),
        ("sqlite:///data/m.db?timeout=5", "sqlite:////etc/monitor/data/m.db?timeout=5"),
        ("sqlite:////var/m.db", "sqlite:////var/m.db"),
        ("sqlite:///", "sqlite:///"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://db/x", "postgresql://db/x"),
    ],
)
def test_a_relative_sqlite_path_is_relative_to_the_folder(url, anchored):
    assert resolve_sqlite_path(url, Path("/etc/monitor")) == anchored


SENDERS = {
    "monitor@example.com": ("", "monitor@example.com"),
    "Monitor <monitor@example.com>": ("Monitor", "monitor@example.com"),
    "Monitor (prod) <monitor@example.com>": ("Monitor (prod)", "monitor@example.com"),
    "Überwachung <monitor@example.com>": ("Überwachung", "monitor@example.com"),
    '"Monitor, Ingestion" <monitor@example.com>': ("Monitor, Ingestion", "monitor@example.com"),
    r'"A \"quoted\" \\ name" <monitor@example.com>': (r'A "quoted" \ name', "monitor@example.com"),
    '"a <b>" <monitor@example.com>': ("a <b>", "monitor@example.com"),
    "<monitor@example.com>": ("", "monitor@example.com"),
}


@pytest.mark.parametrize(("text", "mailbox"), SENDERS.items(), ids=SENDERS)
def test_a_sender_has_a_name_that_may_be_quoted(text, mailbox):
    assert parse_mailbox(text) == mailbox


@pytest.mark.parametrize(
    "text",
    [
        "Monitor, Ingestion <m@example.com>",
        'Mon"itor <m@example.com>',
        '"Monitor <m@example.com>',
        "m@example.com>",
        "a <b",
    ],
)
def test_any_other_sender_is_refused(text):
    with pytest.raises(ValueError, match="must be"):
        parse_mailbox(text)


PLAIN = ["json://host.example/x", "xml://u:p@host.example", "gotify://push.example/token", "mmost://[2001:db8::1]/x",
         "json://host.test/x"]  # fmt: skip
FREE = ["jsons://host.example/x", "json://127.0.0.1/x", "json://localhost", "ntfy://topic", "tgram://token/chat"]


@pytest.mark.parametrize("url", PLAIN)
def test_a_service_of_apprise_over_http_needs_permission(url):
    with pytest.raises(ValueError, match="must use https"):
        require_apprise_tls(url, allow_http=False)
    assert require_apprise_tls(url, allow_http=True) == url


@pytest.mark.parametrize("url", FREE)
def test_a_service_of_apprise_that_is_safe_needs_none(url):
    assert require_apprise_tls(url, allow_http=False) == url
