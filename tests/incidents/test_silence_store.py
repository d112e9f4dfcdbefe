from datetime import timedelta

import pytest
from support.samples import NOW

from monitor.database.engine import reading, writing
from monitor.incidents import silence_store as silences
from monitor.model import Silence

HOUR = timedelta(hours=1)


def add(engine, *, start=0, end=4, comment="deploy", author="ana", **matchers):
    with writing(engine) as conn:
        return silences.add(
            conn, matchers=matchers or {"target": ("gloo-*", "uppzy")}, starts_at=NOW + start * HOUR,
            ends_at=NOW + end * HOUR, comment=comment, author=author, now=NOW,
        )  # fmt: skip


def test_a_silence_is_read_as_it_was_stored(engine):
    made = add(engine)
    expected = Silence(
        id=made.id, matchers={"target": ("gloo-*", "uppzy")}, starts_at=NOW, ends_at=NOW + 4 * HOUR, comment="deploy",
        author="ana",
    )  # fmt: skip
    with reading(engine) as conn:
        assert made == silences.find(conn, made.id) == expected
        assert silences.find(conn, made.id + 1) is None


@pytest.mark.parametrize(("at", "holding"), [(-1, []), (0, [1]), (1, [1, 2]), (2, [2]), (3, [])])
def test_it_is_active_from_its_start_to_before_its_end(engine, at, holding):
    add(engine, end=2)
    add(engine, start=1, end=3)
    with reading(engine) as conn:
        assert [each.id for each in silences.active(conn, now=NOW + at * HOUR)] == holding
        assert [each.id for each in silences.list_silences(conn)] == [2, 1]
        assert [each.id for each in silences.list_silences(conn, ending_after=NOW + 2 * HOUR)] == [2]


def test_an_expired_silence_keeps_who_ended_it_and_can_t_be_ended_again(engine):
    made = add(engine)
    for hour, who in ((1, "bo"), (2, "cem")):
        with writing(engine) as conn:
            silences.expire(conn, made.id, by=who, now=NOW + hour * HOUR)
    with writing(engine) as conn:
        found = silences.find(conn, made.id, lock=True)
    assert (found.ends_at, found.expired_by) == (NOW + HOUR, "bo")
    assert not found.is_active(NOW + HOUR)


def test_comment_and_author_are_one_printable_line(engine):
    made = add(engine, comment="the\nnew \x1b[31mkey\x00 \udcff" + "x" * 600, author=" an\ta ")
    assert made.comment.startswith("the new \\x1b[31mkey\\x00 \\udcffxxx")
    assert (len(made.comment), made.comment[-1], made.author) == (500, "…", "an a")
