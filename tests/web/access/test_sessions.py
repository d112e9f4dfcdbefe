"""Session cookies: signed, bound to the token, and of limited age."""

from datetime import UTC, datetime, timedelta

import pytest

from monitor.web.access.sessions import (
    SESSION_AGE,
    Session,
    cookie_name,
    csrf_token,
    is_csrf_token,
    is_token,
    seal,
    session_key,
    set_cookie,
    unseal,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = session_key("a token of this page")
ANA = Session(id="id-1", name="Ana Ünal; admin=1", began_at=NOW)


def test_a_sealed_session_is_read_as_it_was():
    assert unseal(seal(ANA, KEY), KEY, now=NOW) == ANA


@pytest.mark.parametrize(
    ("later", "valid"),
    [
        (timedelta(0), True),
        (SESSION_AGE - timedelta(seconds=1), True),
        (SESSION_AGE, False),
        (timedelta(seconds=-1), False),  # sealed by a clock that was wrong
    ],
)
def test_a_session_ends_twelve_hours_after_the_login(later, valid):
    assert (unseal(seal(ANA, KEY), KEY, now=NOW + later) is not None) is valid


def test_another_token_ends_all_sessions():
    assert unseal(seal(ANA, KEY), session_key("another token of this"), now=NOW) is None


def test_a_cookie_that_was_changed_anywhere_is_refused():
    sealed = seal(ANA, KEY)
    for place in range(len(sealed)):
        changed = "A" if sealed[place] != "A" else "B"
        assert unseal(sealed[:place] + changed + sealed[place + 1 :], KEY, now=NOW) is None, place


@pytest.mark.parametrize("value", ["", ".", "x", "é.é", "a.b.c", "A" * 5000 + ".x", seal(ANA, KEY)[:-1]])
def test_no_garbage_is_a_session(value):
    assert unseal(value, KEY, now=NOW) is None


def test_a_csrf_token_belongs_to_one_session_of_one_key():
    other = Session(id="id-2", name="Ana", began_at=NOW)
    token = csrf_token(ANA, KEY)
    assert is_csrf_token(token, ANA, KEY)
    assert not is_csrf_token(token, other, KEY)
    assert not is_csrf_token(token, ANA, session_key("another token of this"))
    assert not is_csrf_token("", ANA, KEY)
    assert token not in seal(ANA, KEY)


def test_tokens_are_compared_whole():
    assert is_token("abc", "abc")
    assert [is_token(each, "abc") for each in ("ab", "abcd", "", "äbc", "\udce4")] == [False] * 5


def test_the_cookie_is_for_this_site_and_no_script():
    assert set_cookie("v", secure=False) == ("ingestion_monitor=v; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict")
    assert set_cookie("v", secure=True).startswith("__Host-ingestion_monitor=v; Path=/;")
    assert set_cookie("v", secure=True).endswith("; Secure")
    assert "Max-Age=0" in set_cookie("", secure=False)
    assert cookie_name(secure=True) != cookie_name(secure=False)
    assert set_cookie("v", secure=False, port="8990").startswith("ingestion_monitor_8990=v;")
