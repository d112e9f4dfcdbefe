"""Headers of mails: any text arrives to the letter, in one header, whatever it looks like. The texts are harmless."""

import email
import email.policy
import re
from email.header import decode_header, make_header

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.notifications.channels.mail_headers import Mailbox, recipients_header, sender_header, text_header

LOOKS_ENCODED = (
    "=?utf-8?q?plain?=", "=?utf-8?b?cGxhaW4=?=", "=?utf-8?q?a=0Ab?=", "=?utf-8?q?a=0D=0Ab?=", "=?utf-8?b?YQpi?=",
    "=?nonsense?q?x?=", "=?utf-8?q?broken", "a =?us-ascii?q?b?= c",
)  # fmt: skip


def headers_of(raw):
    """The headers of a mail with this one, as name and raw value, and the parsed mail."""
    read = email.message_from_bytes(raw + b"\r\ntext\r\n", policy=email.policy.compat32)
    return read.items()


def arrived(raw):
    """A header's text as a mail program shows it."""
    ((_, value),) = headers_of(raw)
    return str(make_header(decode_header(value.replace("\r\n", "").replace("\n", ""))))


def cleared(text):
    return "".join(each if each.isprintable() else " " for each in text).strip()


@pytest.mark.parametrize("text", LOOKS_ENCODED)
def test_a_text_that_looks_like_an_encoded_word_arrives_to_the_letter(text):
    raw = text_header("Subject", f"[test] gloo ({text}): documents failed")
    assert arrived(raw) == f"[test] gloo ({text}): documents failed"


def test_a_plain_text_stays_readable_and_is_folded():
    text = "[production] gloo-prod: " + "documents failed to ingest, " * 5 + "and more"
    raw = text_header("Subject", text)
    assert raw.replace(b"\r\n ", b" ") == f"Subject: {text}\r\n".encode()
    assert max(map(len, raw.split(b"\r\n"))) <= 78


@given(st.text(max_size=300))
@example("a\r\nBcc: x@example.com")
@example("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg")
@example("\ud800 half an emoji")
@example("x" * 2000)
@example("  ")
def test_any_text_is_one_header_of_short_ascii_lines(text):
    raw = text_header("Subject", text)
    assert raw.endswith(b"\r\n")
    assert all(line.isascii() and len(line) <= 78 for line in raw.split(b"\r\n"))
    assert [name for name, _ in headers_of(raw)] == ["Subject"]
    if cleared(text):
        assert arrived(raw) == cleared(text)


@given(st.text(max_size=80))
@example("Monitor, Ingestion")
@example('A "quoted" \\ name')
@example("Überwachung")
@example("=?utf-8?q?a=0Ab?=")
def test_any_name_of_a_sender_arrives_beside_the_address(name):
    raw = sender_header(Mailbox(name, "monitor@example.com"))
    read = email.message_from_bytes(raw + b"\r\n", policy=email.policy.default)["From"]
    (mailbox,) = read.addresses
    assert mailbox.addr_spec == "monitor@example.com"
    assert read.defects == ()
    shown = arrived(raw).rpartition("<")[0].strip()
    if re.fullmatch(r'"([^"\\]|\\.)*"', shown) and shown != cleared(name):
        shown = re.sub(r"\\(.)", r"\1", shown[1:-1])
    assert shown == cleared(name)


def test_many_recipients_are_one_header_of_short_lines():
    addresses = [f"person-{number}@example.com" for number in range(100)]
    raw = recipients_header(addresses)
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    read = email.message_from_bytes(raw + b"\r\n", policy=email.policy.default)["To"]
    assert [each.addr_spec for each in read.addresses] == addresses


def test_a_senders_name_with_other_letters_is_encoded():
    raw = sender_header(Mailbox("Überwachung", "monitor@example.com"))
    assert raw == b"From: =?utf-8?b?w5xiZXJ3YWNodW5n?=\r\n <monitor@example.com>\r\n"
