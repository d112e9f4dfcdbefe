import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW, message

from monitor.notifications.batching import condense
from monitor.notifications.messages import MessageKind, titled

KINDS = {
    "o": MessageKind.OPENED, "u": MessageKind.UPDATED, "m": MessageKind.REMINDER, "a": MessageKind.ACKNOWLEDGED,
    "r": MessageKind.RESOLVED,
}  # fmt: skip
SUBJECT = "gloo: 3 documents failed to ingest"


def chain(letters):
    """One message per letter, ten minutes apart."""
    return [
        message(
            1, kind=KINDS[letter], subject=SUBJECT, title=titled(KINDS[letter], SUBJECT),
            at=NOW + timedelta(minutes=10 * at), facts=(("step", str(at)),),
        )
        for at, letter in enumerate(letters)
    ]  # fmt: skip


TABLE = [
    ("an opening alone", "o", 0, "opened", ""),
    ("it grew before anybody heard of it", "ou", 1, "opened", ""),
    ("and was remembered", "oum", 2, "opened", ""),
    ("a reminder alone", "m", 0, "reminder", ""),
    ("reminders, one after the other", "mmm", 2, "reminder", ""),
    ("more of them, then a reminder", "um", 1, "updated", ""),
    ("over before anybody heard of it", "or", 1, "resolved", "opened 12:00, resolved 12:10"),
    ("over after a night", "oummr", 4, "resolved", "opened 12:00, resolved 12:40"),
    ("over, acknowledged in between", "oar", 2, "resolved", "opened 12:00, acknowledged 12:10, resolved 12:20"),
    ("the end of what people know", "r", 0, "resolved", ""),
    ("a reminder and the end", "mr", 1, "resolved", ""),
    ("an end, and it came back", "ro", 1, "opened", "resolved 12:00, opened 12:10"),
    ("twice", "oror", 3, "resolved", "opened 12:00, resolved 12:10, opened 12:20, resolved 12:30"),
    ("an acknowledgement alone", "a", 0, "acknowledged", ""),
    ("an acknowledgement waits for its opening", "oa", 0, "opened", ""),
    ("and for what the opening had become", "oua", 1, "opened", ""),
    ("what comes after it waits for it", "au", 0, "acknowledged", ""),
    ("one before a new opening is history", "aro", 2, "opened", "acknowledged 12:00, resolved 12:10, opened 12:20"),
]  # fmt: skip


@pytest.mark.parametrize(("letters", "kept", "kind", "story"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_what_is_sent_of_what_is_undelivered(letters, kept, kind, story):
    messages = chain(letters)
    told = condense(messages)
    assert (told.kept, told.message.kind.value, told.superseded) == (kept, kind, tuple(range(kept)))
    assert dict(told.message.facts).get("not delivered until now", "") == (f"{story} UTC" if story else "")
    assert dict(told.message.facts)["step"] == str(kept), "with what was known last"
    ends_with_story = told.message.kind is MessageKind.RESOLVED and story
    assert told.message.title == (f"{SUBJECT}: {story}" if ends_with_story else titled(told.message.kind, SUBJECT))


def test_a_story_over_more_than_a_day_has_dates():
    opened, resolved = chain("or")
    late = replace(resolved, at=NOW + timedelta(days=1))
    assert condense([opened, late]).message.title == f"{SUBJECT}: opened 2026-03-01 12:00, resolved 2026-03-02 12:00"


def test_an_end_repeats_what_its_unheard_opening_had_seen():
    opened, resolved = chain("or")
    seen = replace(opened, facts=(("since", "then"), ("code", "X1"), ("more", "…")))
    facts = dict(condense([seen, resolved]).message.facts)
    assert (facts["code"], facts.get("since"), facts.get("more")) == ("X1", None, None)


def test_messages_from_before_there_were_subjects_keep_their_title():
    opened, resolved = (replace(each, subject="", title="as it was") for each in chain("or"))
    assert condense([opened, resolved]).message.title == "as it was: opened 12:00, resolved 12:10"


LETTERS = st.text("oumar", min_size=1, max_size=12).map(lambda text: re.sub("r(?=[^o])", "ro", text))
"""What comes after a resolution begins with an opening."""


@given(LETTERS)
def test_sending_one_after_the_other_ends_and_tells_the_last_of_all(letters):
    waiting, sent = chain(letters), []
    while waiting:
        told = condense(waiting)
        sent.append(told.message)
        waiting = waiting[told.kept + 1 :]
    assert len(sent) <= 1 + 2 * letters.count("a")
    assert sent[-1].facts[-1 if "not delivered until now" not in dict(sent[-1].facts) else 1][0] == "step"
    assert sent[-1].at == chain(letters)[-1].at
    turns = [letter for letter in letters if letter in "or"]
    told = [each.kind for each in sent if each.kind in {MessageKind.OPENED, MessageKind.RESOLVED}]
    assert told[-1:] == [KINDS[letter] for letter in turns[-1:]]


@given(LETTERS)
def test_nothing_but_the_last_resolution_or_opening_survives_before_it(letters):
    told = condense(chain(letters))
    assert all(at < told.kept for at in told.superseded)
    if told.message.kind is MessageKind.RESOLVED:
        assert letters[told.kept] == "r"
        assert "r" not in letters[told.kept + 1 :]
