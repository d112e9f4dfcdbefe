"""Claims on the limits of a credential, as processes store and read them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitor.database.engine import reading, writing
from monitor.runs import throttle_claims
from monitor.runs.throttle_claims import Claim, StoredCut

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CUT = StoredCut(at=NOW - SECOND, initial_per_s=47.5, plateau_per_s=48.5, recovery_s=10.0)
MINE = Claim(key="k", holder="a:1", weight=2, part=0.5)
OTHER = Claim(key="k", holder="b:2", weight=1, part=0.25, opened_at=NOW, cut=CUT)


def store(engine, *claims, now=NOW):
    with writing(engine) as conn:
        throttle_claims.write(conn, claims, now=now)


def others(engine, *keys, holder="a:1", since=NOW - 30 * SECOND):
    with reading(engine) as conn:
        found = throttle_claims.read(conn, keys=keys or ("k",), holder=holder, since=since)
    return [claim for key in sorted(found) for claim in found[key]]


def test_a_claim_is_read_back_by_the_others(engine):
    store(engine, MINE, OTHER)
    assert others(engine) == [OTHER]
    assert others(engine, holder="b:2") == [MINE]


def test_a_claim_replaces_the_earlier_one_of_its_holder(engine):
    store(engine, OTHER)
    later = replace(OTHER, weight=3, part=0.75, opened_at=None, cut=None)
    store(engine, later, now=NOW + SECOND)
    assert others(engine) == [later]


def test_claims_under_several_keys_are_read_together_and_none_of_another_key(engine):
    more = [replace(OTHER, key=key) for key in ("k", "l", "m")]
    store(engine, *more)
    assert others(engine, "k", "m") == [more[0], more[2]]


@pytest.mark.parametrize(("seen_s", "counts"), [(31, False), (30, False), (29, True)])
def test_a_process_that_was_not_seen_for_the_stall_time_does_not_count(engine, seen_s, counts):
    store(engine, OTHER, now=NOW - seen_s * SECOND)
    assert others(engine) == [OTHER] * counts


def test_a_released_claim_is_gone_and_so_are_forgotten_ones(engine):
    store(engine, MINE, OTHER, replace(OTHER, key="l"))
    store(engine, replace(OTHER, holder="dead:3"), now=NOW - 60 * SECOND)
    with writing(engine) as conn:
        throttle_claims.release(conn, key="k", holder="b:2")
        assert throttle_claims.forget_dead(conn, before=NOW - 30 * SECOND) == 1
    assert others(engine, "k", "l", holder="", since=NOW - 3600 * SECOND) == [MINE, replace(OTHER, key="l")]
