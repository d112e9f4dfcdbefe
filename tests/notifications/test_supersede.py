import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW, message

from monitor.model import Cause
from monitor.notifications.batching import coalesce
from monitor.notifications.messages import MessageKind, make_title

KINDS = {
    "o": MessageKind.OPENED, "u": MessageKind.UPDATED, "m": MessageKind.REMINDER, "a": MessageKind.ACKNOWLEDGED,
    "r": MessageKind.RESOLVED,
}  # fmt: skip
FAILED = Cause.ITEMS_FAILED
SUBJECT = "gloo: 3 documents failed to ingest"


def queue(letters):
    """One message per letter, ten minutes apart."""
    return [
        message(
            1, kind=KINDS[letter], cause=FAILED, subject=SUBJECT,
            title=make_title(KINDS[letter], SUBJECT, cause=FAILED),
            at=NOW + timedelta(minutes=10 * at), facts=(("step", str(at)),),
        )
        for at, letter in enumerate(letters)
    ]  # fmt: skip


TABLE = [
    ("an opening alone", "o", 0, "opened", ""),
    ("it grew before it was notified", "ou", 1, "opened", ""),
    ("and was remembered", "oum", 2, "opened", ""),
    ("a reminder alone", "m", 0, "reminder", ""),
    ("reminders, one after the other", "mmm", 2, "reminder", ""),
    ("more of them, then a reminder", "um", 1, "updated", ""),
    ("resolved before it was notified", "or", 1, "resolved", "opened 12:00, resolved 12:10"),
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


@pytest.mark.parametrize(("letters", "kept", "kind", "history"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_pending_messages_of_one_incident_are_coalesced(letters, kept, kind, history):
    messages = queue(letters)
    position, message = coalesce(messages)
    assert (position, message.kind.value) == (kept, kind)
    assert dict(message.facts).get("not delivered until now", "") == (f"{history} UTC" if history else "")
    assert dict(message.facts)["step"] == str(kept), "with what was known last"
    ends_with_history = message.kind is MessageKind.RESOLVED and history
    assert message.title == (
        f"{SUBJECT}: {history}" if ends_with_history else make_title(message.kind, SUBJECT, cause=FAILED)
    )


def test_history_over_more_than_a_day_has_dates():
    opened, resolved = queue("or")
    late = replace(resolved, at=NOW + timedelta(days=1))
    assert coalesce([opened, late])[1].title == f"{SUBJECT}: opened 2026-03-01 12:00, resolved 2026-03-02 12:00"


def test_a_resolution_takes_over_facts_of_its_undelivered_opening():
    opened, resolved = queue("or")
    seen = replace(opened, facts=(("since", "then"), ("code", "X1"), ("more", "…")))
    facts = dict(coalesce([seen, resolved])[1].facts)
    assert (facts["code"], facts.get("since"), facts.get("more")) == ("X1", None, None)


def test_old_messages_without_a_subject_keep_their_title():
    opened, resolved = (replace(each, subject="", title="as it was") for each in queue("or"))
    assert coalesce([opened, resolved])[1].title == "as it was: opened 12:00, resolved 12:10"


LETTERS = st.text("oumar", min_size=1, max_size=12).map(lambda text: re.sub("r(?=[^o])", "ro", text))
"""After a resolution, the next message is an opening."""


@given(LETTERS)
def test_sending_a_queue_ends_with_its_last_message(letters):
    pending, sent = queue(letters), []
    while pending:
        kept, message = coalesce(pending)
        sent.append(message)
        pending = pending[kept + 1 :]
    assert len(sent) <= 1 + 2 * letters.count("a")
    assert sent[-1].facts[-1 if "not delivered until now" not in dict(sent[-1].facts) else 1][0] == "step"
    assert sent[-1].at == queue(letters)[-1].at
    changes = [letter for letter in letters if letter in "or"]
    coalesced = [each.kind for each in sent if each.kind in {MessageKind.OPENED, MessageKind.RESOLVED}]
    assert coalesced[-1:] == [KINDS[letter] for letter in changes[-1:]]


@given(LETTERS)
def test_no_resolution_is_left_after_the_one_that_is_sent(letters):
    kept, message = coalesce(queue(letters))
    if message.kind is MessageKind.RESOLVED:
        assert letters[kept] == "r"
        assert "r" not in letters[kept + 1 :]
