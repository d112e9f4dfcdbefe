from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.rate.headers import RateLimitHeaderReader, RateLimitHeaders

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
UNIX = int(NOW.timestamp())
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"


def gloo(limit="100", remaining="50", reset="30", **more):
    return {"x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset, **more}


FULL = RateLimitHeaders(limit=100, remaining=50, reset_in_s=30)
WINDOW = RateLimitHeaders(limit=100, remaining=50, reset_in_s=30, window_s=60)
READ = {
    "seconds from now": (gloo(), FULL),
    "Unix seconds": (gloo(reset=str(UNIX + 30)), FULL),
    "Unix milliseconds": (gloo(reset=str((UNIX + 30) * 1000)), FULL),
    "Unix seconds against the server's clock": (gloo(reset="1583020830", date="Sun, 01 Mar 2020 00:00:00 GMT"), FULL),
    "a duration": (gloo(reset="30s"), FULL),
    "OpenAI": (
        {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": "50",
            "x-ratelimit-reset-requests": "30s",
        },
        FULL,
    ),
    "IETF draft 02": ({"ratelimit-limit": "100", "ratelimit-remaining": "50", "ratelimit-reset": "30"}, FULL),
    "IETF draft 03, the window within the limit": (
        {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "50", "ratelimit-reset": "30"},
        WINDOW,
    ),
    "IETF draft 06, of several policies the one with this limit": (
        {
            "ratelimit-limit": "100",
            "ratelimit-remaining": "50",
            "ratelimit-reset": "30",
            "ratelimit-policy": "10;w=1, 100;w=60, 5000;w=3600",
        },
        WINDOW,
    ),
    "IETF draft 07": ({"ratelimit": "limit=100, remaining=50, reset=30", "ratelimit-policy": "100;w=60"}, WINDOW),
    "IETF draft 08": ({"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'}, WINDOW),
    "IETF draft 08 without a policy": (
        {"ratelimit": '"default";r=50;t=30'},
        RateLimitHeaders(remaining=50, reset_in_s=30),
    ),
    "IETF draft 08, of several what allows least": (
        {
            "ratelimit": '"second";r=9;t=1, "minute";r=50;t=30',
            "ratelimit-policy": '"second";q=10;w=1, "minute";q=100;w=60',
        },
        WINDOW,
    ),
    "the window of X-RateLimit-Limit": (gloo(limit="100, 100;w=60"), WINDOW),
    "a decimal zero": (gloo(limit="100.0", remaining="50.00"), FULL),
    "padded": (gloo(limit=" 100 ", remaining=" 50", reset=" 30 "), FULL),
    "joined from two headers": (gloo(remaining="50, 50"), FULL),
    "the first family wins": (gloo(**{"ratelimit-remaining": "1"}), FULL),
    "a family that says nothing is passed over": (gloo("-", "-", ratelimit="limit=100, remaining=50, reset=30"), FULL),
    "nothing is left": (gloo(remaining="0"), RateLimitHeaders(limit=100, remaining=0, reset_in_s=30)),
    "no reset": (
        {"x-ratelimit-limit": "100", "x-ratelimit-remaining": "50"},
        RateLimitHeaders(limit=100, remaining=50),
    ),
    "no limit": (
        {"x-ratelimit-remaining": "50", "x-ratelimit-reset": "30"},
        RateLimitHeaders(remaining=50, reset_in_s=30),
    ),
    "only a limit": ({"x-ratelimit-limit": "100"}, RateLimitHeaders(limit=100)),
    "a limit of zero": (gloo(limit="0"), RateLimitHeaders(remaining=50, reset_in_s=30)),
    "a reset that is past": (gloo(reset="1609459260"), RateLimitHeaders(limit=100, remaining=50)),
    "a reset of zero": (gloo(reset="0"), RateLimitHeaders(limit=100, remaining=50)),
    "a reset that is no number": (gloo(reset="²"), RateLimitHeaders(limit=100, remaining=50)),
    "a reset a day away counts as an hour": (
        gloo(reset="86400"),
        RateLimitHeaders(limit=100, remaining=50, reset_in_s=3600),
    ),
    "a window of zero": (gloo(limit="100, 100;w=0"), FULL),
    "garbage as a limit": (gloo(limit="many"), RateLimitHeaders(remaining=50, reset_in_s=30)),
    "a negative rest": (gloo(remaining="-1"), RateLimitHeaders(limit=100, reset_in_s=30)),
    "a fraction": (gloo(remaining="1.5"), RateLimitHeaders(limit=100, reset_in_s=30)),
    "superscript digits": (gloo(remaining="²"), RateLimitHeaders(limit=100, reset_in_s=30)),
    "nan": (gloo(remaining="nan"), RateLimitHeaders(limit=100, reset_in_s=30)),
    "more digits than anybody counts": (gloo(limit="9" * 5000), RateLimitHeaders(remaining=50, reset_in_s=30)),
}
UNREAD = {
    "nothing": {},
    "other headers": {"date": DATE, "content-type": "application/json", "retry-after": "3"},
    "only a reset": {"x-ratelimit-reset": "30"},
    "only a policy": {"ratelimit-policy": "100;w=60"},
    "negative and nan": gloo("-1", "nan"),
    "empty": gloo("", "", ""),
    "a structured field without a rest": {"ratelimit": '"default";q=10'},
    "a structured field with a limit of zero": {"ratelimit": "limit=0"},
    "garbage": {"ratelimit": ";;=,r=,"},
}


@pytest.mark.parametrize(("headers", "rate_limit"), READ.values(), ids=READ)
def test_it_reads_every_family_of_headers(headers, rate_limit):
    assert RateLimitHeaderReader().read(headers, NOW) == rate_limit


@pytest.mark.parametrize("headers", UNREAD.values(), ids=UNREAD)
def test_headers_without_limit_and_remaining_are_ignored(headers):
    assert RateLimitHeaderReader().read(headers, NOW) is None


def test_a_reader_notices_changed_headers():
    reader = RateLimitHeaderReader()
    reset = str(UNIX + 30)
    assert reader.read(gloo(reset=reset, date=DATE), NOW) == FULL
    assert reader.read(gloo(remaining="49", reset=reset, date=DATE), NOW).remaining == 49
    later = reader.read(gloo(reset=reset, date="Sun, 01 Mar 2026 12:00:10 GMT"), NOW)
    assert later.reset_in_s == 20
    assert reader.read(gloo(limit="10", reset=reset, date=DATE), NOW).limit == 10


def test_without_a_date_a_reset_is_relative_to_our_clock():
    reader = RateLimitHeaderReader()
    headers = gloo(reset=str(UNIX + 30))
    assert reader.read(headers, NOW).reset_in_s == 30
    assert reader.read(headers, NOW + timedelta(seconds=12)).reset_in_s == 18


NAMES = st.sampled_from(
    ["date", "ratelimit", "ratelimit-policy"]
    + [
        f"{prefix}-{what}{end}"
        for prefix, end in (("x-ratelimit", ""), ("x-ratelimit", "-requests"), ("ratelimit", ""))
        for what in ("limit", "remaining", "reset")
    ]
)
NEAR_MISSES = st.from_regex(
    r'("[a-z]?")?;?([a-z]{0,2}=)?[0-9]{0,20}(\.[0-9]*)?(;w=[0-9]{0,3})?(, ?[a-z]=[0-9])?', fullmatch=True
)
HEADERS = st.dictionaries(NAMES, st.text() | NEAR_MISSES | st.sampled_from(["nan", "-1", "²", "inf", DATE]))


@given(st.lists(HEADERS, max_size=4))
def test_any_headers_give_a_valid_limit_and_a_used_reader_agrees_with_a_new_one(replies):
    reader = RateLimitHeaderReader()
    for headers in replies:
        rate_limit = reader.read(headers, NOW)
        assert rate_limit == RateLimitHeaderReader().read(headers, NOW)
        if rate_limit is not None:
            assert rate_limit.limit is not None or rate_limit.remaining is not None
            assert rate_limit.limit is None or 1 <= rate_limit.limit < 10**15
            assert rate_limit.remaining is None or 0 <= rate_limit.remaining < 10**15
            assert rate_limit.reset_in_s is None or 0 < rate_limit.reset_in_s <= 3600
            assert rate_limit.window_s is None or rate_limit.window_s > 0
