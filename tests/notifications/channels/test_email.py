import asyncio
import email
import ssl
import threading
import tracemalloc
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from email.policy import default
from socket import create_server

import pytest
import trustme
from structlog.testing import capture_logs
from support.mailserver import MailServer as Server
from support.samples import NOW, message
from support.talker import repeat, talking

from monitor.config.secret import Secret
from monitor.model import Cause
from monitor.notifications.channels import SendOutcome, SendResult, send_with_fallback
from monitor.notifications.channels.email import EmailChannel, as_mail, subject
from monitor.notifications.channels.mail_headers import Mailbox
from monitor.notifications.channels.smtp import (
    MailServer,
    Security,
    SmtpStep,
    _full_host_name,
    address_literal,
    classify_reply,
)
from monitor.notifications.messages import MessageKind

KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
THREAD = "9b74c9897bac770ffc029102a200c5de"
SENDER = Mailbox("Ingestion Monitor", "monitor@example.com")
FROM = "Ingestion Monitor <monitor@example.com>"
TO = ("oncall@example.com", "pipeline@example.com")
CANARY = "T0K3N-canary"


def to(server, *, recipients=TO, timeout_s=5, security=Security.NONE, host="127.0.0.1", **there):
    """The channel that sends to a server."""
    port = there.pop("port", None) or server.port
    reached = MailServer(host=host, port=port, security=security, **there)
    return EmailChannel(reached, sender=SENDER, recipients=recipients, timeout_s=timeout_s)


def raw_mail(given, *, key=KEY, sender=SENDER, recipients=TO):
    return as_mail(given, key=key, sender=sender, recipients=recipients)


def parsed(raw):
    return email.message_from_bytes(raw, policy=default)


def mail(**fields):
    return parsed(raw_mail(message(**fields)))


def later(kind=MessageKind.RESOLVED, **fields):
    return message(kind=kind, thread=THREAD, **fields)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return str(file)


@pytest.fixture(scope="module")
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_a_mail_is_complete_for_all_recipients():
    with Server() as server:
        ended = await to(server).send(message(), key=KEY)
        got = server.read()
        assert server.envelopes == [("monitor@example.com", TO)]
    assert ended == SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    assert [part.get_content_type() for part in got.iter_parts()] == ["text/plain", "text/html"]
    assert (got["From"], got["To"]) == (FROM, ", ".join(TO))
    assert got["Message-ID"] == f"<{KEY}@example.com>"
    assert got["Auto-Submitted"] == "auto-generated"


async def test_every_attempt_sends_the_same_bytes():
    with Server() as server:
        for _ in range(2):
            await to(server).send(message(), key=KEY)
        first, second = server.mails
    assert first == second


def test_lines_of_a_mail_are_short_and_ascii():
    lines = raw_mail(message(title="ü" * 2000, facts=(("sample ids", "x" * 5000),))).split(b"\r\n")
    assert max(map(len, lines)) <= 998, "RFC 5321, 4.5.3.1.6"
    assert all(line.isascii() for line in lines)


def test_the_html_loads_nothing_and_fits_a_phone():
    html = mail(thread=THREAD).get_body(("html",)).get_content()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert not [
        each for each in ("<img", "<script", "<link", "<style", "<table", "http://", "https://") if each in html
    ]


# --- threads ---------------------------------------------------------------------------------------------------------


def test_later_mails_reply_to_the_mail_that_opened_the_thread():
    opened, resolved = mail(thread=KEY), parsed(raw_mail(later(), key="another"))
    assert (opened["In-Reply-To"], opened["References"]) == (None, None)
    assert resolved["In-Reply-To"] == resolved["References"] == f"<{THREAD}@example.com>"


COUNTS = [(MessageKind.OPENED, 3), (MessageKind.UPDATED, 41), (MessageKind.REMINDER, 40), (MessageKind.RESOLVED, 0)]


def test_later_mails_have_the_same_subject_with_re():
    subjects = [
        subject(message(kind=kind, cause=Cause.ITEMS_FAILED, title=f"gloo-prod: {count} documents failed: {kind}"))
        for kind, count in COUNTS
    ]
    first, *others = subjects
    assert first == "[production] gloo-prod: documents failed to ingest"
    assert set(others) == {f"Re: {first}"}


def test_a_subject_names_the_group_and_how_many_targets():
    parts = tuple(message(number, target=target) for number, target in ((1, "de"), (2, "fr"), (3, "de")))
    assert subject(message(parts=parts)) == "[production] 2 targets: the API rejects the credentials"
    assert subject(message(group="contracts")) == "[production] gloo-prod (contracts): the API rejects the credentials"
    assert subject(message(kind=MessageKind.TEST, target="channel:mail")) == "[production] channel mail: test message"


@pytest.mark.parametrize(("open_", "said"), [(1, "1 other incident"), (2, "2 other incidents")])
def test_a_resolution_says_how_many_others_of_its_thread_are_open(open_, said):
    sent_mail = parsed(raw_mail(later(others_open=open_)))
    for part in sent_mail.iter_parts():
        assert f"{said} of this thread" in part.get_content()


# --- hostile text ----------------------------------------------------------------------------------------------------

HOSTILE = "</p><script>alert(1)</script>\r\nBcc: everyone@example.com\r\n\r\n<img src=x>\x00\u202e&amp;"


async def test_hostile_text_becomes_neither_header_nor_markup():
    hostile = message(
        title=HOSTILE, target=HOSTILE, environment=HOSTILE, group=HOSTILE, what_to_check=(HOSTILE,),
        facts=((HOSTILE, HOSTILE),), commands=((HOSTILE, HOSTILE),),
        parts=(message(1, target=HOSTILE),),
    )  # fmt: skip
    with Server() as server:
        assert (await to(server).send(hostile, key=KEY)).outcome is SendOutcome.DELIVERED
        got = server.read()
        assert server.envelopes == [("monitor@example.com", TO)]
    assert got["Bcc"] is None
    text, html = (part.get_content() for part in got.iter_parts())
    assert not [each for each in ("<script", "<img") if each in html]
    assert "&lt;script&gt;" in html
    assert not [each for each in text + html if not (each.isprintable() or each in "\r\n")]
    assert not [line for line in text.splitlines() if line.startswith("Bcc:")]


# --- transport -------------------------------------------------------------------------------------------------------


async def test_starttls_is_used_and_the_certificate_checked(tls, ca_file):
    with Server(tls=tls) as server:
        there = {"security": Security.STARTTLS, "host": "localhost"}
        trusting = await to(server, ca_file=ca_file, **there).send(message(), key=KEY)
        strange = await to(server, **there).send(message(), key=KEY)
        assert server.encrypted == [True]
    assert trusting.outcome is SendOutcome.DELIVERED
    assert strange == SendResult(outcome=SendOutcome.RETRY, reason="no answer (tls)")


async def test_a_certificate_of_another_name_is_refused(tls, ca_file):
    with Server(tls=tls) as server:
        ended = await to(server, ca_file=ca_file, security=Security.STARTTLS).send(message(), key=KEY)
    assert ended.reason == "no answer (tls)"


async def test_tls_from_the_first_byte(tls, ca_file):
    with Server(implicit_tls=tls) as server:
        there = {"security": Security.TLS, "host": "localhost"}
        assert (await to(server, ca_file=ca_file, **there).send(message(), key=KEY)).outcome is SendOutcome.DELIVERED
        assert (await to(server, **there).send(message(), key=KEY)).reason == "no answer (tls)"
        assert server.encrypted == [True]


async def test_a_server_without_starttls_gets_no_mail():
    with Server() as server:
        ended = await to(server, security=Security.STARTTLS).send(message(), key=KEY)
        assert server.mails == []
    assert ended.outcome is SendOutcome.SUSPENDED
    assert "no STARTTLS" in ended.reason


async def test_an_unreadable_ca_file_suspends_the_channel(tls, tmp_path):
    with Server(tls=tls) as server:
        gone = str(tmp_path / "ca.pem")
        ended = await to(server, security=Security.STARTTLS, ca_file=gone).send(message(), key=KEY)
    assert ended.outcome is SendOutcome.SUSPENDED
    assert gone in ended.reason


async def test_a_user_logs_in(tls, ca_file):
    there = {"security": Security.STARTTLS, "host": "localhost", "ca_file": ca_file, "user": "monitor"}
    with Server(tls=tls, users={"monitor": "right"}) as server:
        right = await to(server, read_password=lambda: "right", **there).send(message(), key=KEY)
        wrong = await to(server, read_password=lambda: CANARY, **there).send(message(), key=KEY)
        assert len(server.mails) == 1
    assert right.outcome is SendOutcome.DELIVERED
    assert wrong == SendResult(outcome=SendOutcome.SUSPENDED, reason="SMTP 535 to the login")


async def test_a_password_that_can_t_be_read_suspends_the_channel_and_names_the_file(tls, ca_file, tmp_path):
    there = {"security": Security.STARTTLS, "host": "localhost", "ca_file": ca_file, "user": "monitor"}
    with Server(tls=tls, users={"monitor": "right"}) as server:
        missing = Secret.from_file(tmp_path / "password").reveal
        ended = await to(server, read_password=missing, **there).send(message(), key=KEY)
    assert ended.outcome is SendOutcome.SUSPENDED
    assert str(tmp_path / "password") in ended.reason


async def test_a_server_without_login_suspends_the_channel():
    with Server() as server:
        ended = await to(server, user="monitor", read_password=lambda: "x").send(message(), key=KEY)
    assert ended.outcome is SendOutcome.SUSPENDED
    assert "accepts no login" in ended.reason


async def test_a_server_that_requires_a_login_suspends_a_channel_without_one(tls, ca_file):
    with Server(tls=tls, users={"monitor": "right"}) as server:
        ended = await to(server, security=Security.STARTTLS, host="localhost", ca_file=ca_file).send(message(), key=KEY)
    assert ended == SendResult(outcome=SendOutcome.SUSPENDED, reason="SMTP 530 to the sender")


# --- results ---------------------------------------------------------------------------------------------------------

ANSWERS = {
    "sender unknown": ({"MAIL": "550 no"}, SendOutcome.SUSPENDED, "SMTP 550 to the sender"),
    "too large at once": ({"MAIL": "552 too large"}, SendOutcome.REFUSED, "SMTP 552 to the sender"),
    "sender later": ({"MAIL": "451 greylisted"}, SendOutcome.RETRY, "SMTP 451 to the sender"),
    "unknown recipient": ({"RCPT": "550 no such user"}, SendOutcome.SUSPENDED, "SMTP 550 to the recipients"),
    "everybody full": ({"RCPT": "552 full"}, SendOutcome.RETRY, "SMTP 552 to the recipients"),
    "everybody later": ({"RCPT": "450 busy"}, SendOutcome.RETRY, "SMTP 450 to the recipients"),
    "one gone, one later": (
        {"RCPT": {TO[0]: "550 gone", TO[1]: "450 busy"}}, SendOutcome.RETRY, "SMTP 450 to the recipients"
    ),
    "content refused": ({"DATA": "554 spam"}, SendOutcome.REFUSED, "SMTP 554 to the content"),
    "content later": ({"DATA": "452 disk full"}, SendOutcome.RETRY, "SMTP 452 to the content"),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "outcome", "reason"), ANSWERS.values(), ids=ANSWERS)
async def test_what_smtp_replies_mean(answers, outcome, reason):
    with Server(answers) as server:
        assert await to(server).send(message(), key=KEY) == SendResult(outcome=outcome, reason=reason)
        assert server.mails == []


async def test_a_refused_mail_is_sent_once_more_as_text_alone():
    with Server({"DATA": "554 no HTML here"}) as server:
        ended = await send_with_fallback(to(server), message(), key=KEY)
        assert ended.outcome is SendOutcome.REFUSED
        del server.answers["DATA"]
        await to(server).send(message(), key=f"{KEY}-plain", plain=True)
        got = server.read()
    assert got.get_content_type() == "text/plain"
    assert got["Message-ID"] == f"<{KEY}-plain@example.com>"


async def test_one_recipient_that_is_refused_does_not_keep_the_mail_from_the_others():
    with Server({"RCPT": {TO[1]: "550 no such user"}}) as server, capture_logs() as logs:
        ended = await to(server).send(message(), key=KEY)
        assert server.envelopes == [("monitor@example.com", TO[:1])]
    reason = f"refused for 1 of 2 recipients: {TO[1]} (SMTP 550)"
    assert ended == SendResult(outcome=SendOutcome.DELIVERED, reason=reason, complete=False)
    (entry,) = logs
    assert (entry["event"], entry["refused"], entry["recipients"]) == ("mail_recipients_refused", 1, 2)
    assert (entry["smtp_codes"], entry["addresses"]) == ([550], [TO[1]])


@pytest.mark.parametrize("code", ["450 greylisted", "451 try later", "452 4.2.2 full", "421 busy", "552 full"])
async def test_a_recipient_that_is_deferred_gets_the_same_mail_later_and_the_others_get_it_once(code):
    with Server({"RCPT": {TO[1]: code}}) as server:
        first = await to(server).send(message(), key=KEY)
        del server.answers["RCPT"]
        second = await to(server).send(message(recipients=first.deferred), key=KEY)
        assert [recipients for _, recipients in server.envelopes] == [TO[:1], TO[1:]]
        assert server.mails[0] == server.mails[1]
    assert (first.outcome, first.deferred, first.complete) == (SendOutcome.DELIVERED, TO[1:], False)
    assert TO[1] in first.reason
    assert second == SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")


async def test_the_rest_of_the_recipients_may_be_deferred_again_or_refused_in_the_end():
    with Server({"RCPT": "450 busy"}) as server:
        again = await to(server).send(message(recipients=TO[1:]), key=KEY)
        server.answers["RCPT"] = "550 gone"
        ended = await to(server).send(message(recipients=TO[1:]), key=KEY)
        assert server.mails == []
    assert (again.outcome, again.deferred) == (SendOutcome.DELIVERED, TO[1:])
    assert (ended.outcome, ended.deferred, ended.complete) == (SendOutcome.DELIVERED, (), False)


async def test_a_deferred_recipient_that_is_no_longer_configured_gets_nothing():
    with Server() as server:
        ended = await to(server).send(message(recipients=("gone@example.com",)), key=KEY)
        assert server.mails == []
    assert ended.outcome is SendOutcome.DELIVERED


async def test_the_size_is_declared_if_the_server_supports_it():
    with Server(data_size_limit=1000) as server:
        ended = await to(server).send(message(), key=KEY)
    assert (ended.outcome, ended.reason) == (SendOutcome.REFUSED, "SMTP 552 to the sender")


DEATHS = {"before the content": ("RCPT", True), "after the content": ("DATA", False)}


@pytest.mark.parametrize(("command", "certain"), DEATHS.values(), ids=DEATHS)
async def test_delivery_is_uncertain_only_if_the_connection_ends_after_the_content(command, certain):
    with Server(dies=command) as server:
        ended = await to(server).send(message(), key=KEY)
    assert ended == SendResult(outcome=SendOutcome.RETRY, reason="no answer (reset)", certain=certain)


@pytest.mark.parametrize(("command", "certain"), DEATHS.values(), ids=DEATHS)
async def test_a_hanging_server_times_out(command, certain):
    with Server(hangs=command) as server:
        ended = await to(server, timeout_s=1).send(message(), key=KEY)
    assert ended == SendResult(outcome=SendOutcome.RETRY, reason="no answer (timeout)", certain=certain)


async def test_an_unreachable_server_is_tried_again():
    with closing(create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    ended = await to(None, port=port).send(message(), key=KEY)
    assert ended == SendResult(outcome=SendOutcome.RETRY, reason="no answer (refused)")


@pytest.mark.parametrize(
    ("greeting", "outcome", "reason"),
    [
        (b"554 go away\r\n", SendOutcome.SUSPENDED, "SMTP 554 to the greeting"),
        (b"421 too busy\r\n", SendOutcome.RETRY, "SMTP 421 to the greeting"),
        (b"HTTP/1.1 400 Bad Request\r\n", SendOutcome.RETRY, "no answer (protocol)"),
        (b"x" * 20_000, SendOutcome.RETRY, "no answer (protocol)"),
        (b"", SendOutcome.RETRY, "no answer (reset)"),
    ],
    ids=["refused", "busy", "not a mail server", "no line", "closed"],
)
async def test_what_smtp_greetings_mean(greeting, outcome, reason):
    async def greet(reader, writer):
        writer.write(greeting)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with talking(greet) as port:
        ended = await to(None, port=port).send(message(), key=KEY)
    assert (ended.outcome, ended.reason) == (outcome, reason)


@pytest.mark.parametrize("challenge", [b"334 !!!notbase64", b"334 \xff\xfe", b"334", b"334 =", b"334 /w=="])
async def test_a_challenge_of_any_kind_ends_no_more_than_the_attempt(challenge):
    async def talk(reader, writer):
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            answers = {b"EHLO": b"250-here\r\n250 AUTH CRAM-MD5\r\n", b"AUTH": challenge + b"\r\n"}
            writer.write(answers.get(line.split()[0].upper(), b"250 ok\r\n"))

    async with talking(talk) as port:
        channel = to(None, port=port, user="monitor", read_password=lambda: "right")
        ended = await channel.send(message(), key=KEY)
    assert ended.outcome in {SendOutcome.RETRY, SendOutcome.DELIVERED}
    if b"!" in challenge:
        assert ended == SendResult(outcome=SendOutcome.RETRY, reason="no answer (protocol)")


@pytest.mark.parametrize("greeting", [b"", b"220 here\r\n"], ids=["in its greeting", "in its answer"])
async def test_a_server_that_never_stops_talking_fills_no_memory(greeting):
    async def talk(_reader, writer):
        writer.write(greeting)
        await repeat(writer, b"250-more\r\n" * 1000)

    tracemalloc.start()
    try:
        async with talking(talk) as port:
            ended = await to(None, port=port, timeout_s=30).send(message(), key=KEY)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert ended == SendResult(outcome=SendOutcome.RETRY, reason="no answer (too_large)")


async def test_a_greeting_that_does_not_end_is_cut_off_with_the_attempt():
    """Also a slow one, of which each line comes in time: no thread stays behind."""

    async def talk(_reader, writer):
        while not writer.is_closing():
            writer.write(b"220-more\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with talking(talk) as port:
        ended = await to(None, port=port, timeout_s=0.5).send(message(), key=KEY)
        for thread in [each for each in threading.enumerate() if each.name == "channel"]:
            await asyncio.to_thread(thread.join)
    assert ended == SendResult(outcome=SendOutcome.RETRY, reason="no answer (timeout)")


async def greeted_as(**there):
    """What the client calls itself."""
    with Server() as server:
        seen = []

        async def handle_EHLO(_server, session, _envelope, hostname, responses):  # noqa: N802  # aiosmtpd's name
            seen.append(hostname)
            session.host_name = hostname
            return responses

        server.handle_EHLO = handle_EHLO
        await to(server, **there).send(message(), key=KEY)
    (name,) = seen
    return name


async def test_the_client_greets_by_the_configured_name():
    assert await greeted_as(ehlo_name="monitor.example.com") == "monitor.example.com"


async def test_without_a_name_the_client_greets_by_its_full_name_or_its_address():
    assert await greeted_as() == (_full_host_name() or "[127.0.0.1]")
    assert address_literal("fe80::1%eth0") == "[IPv6:fe80::1]"


def test_every_permanent_reply_rejects_the_message_or_suspends_the_channel():
    outcomes = {classify_reply(step, code).outcome for step in SmtpStep for code in range(500, 560) if code != 552}
    assert outcomes == {SendOutcome.SUSPENDED, SendOutcome.REFUSED}


def test_a_date_is_that_of_the_message():
    assert mail(at=NOW + timedelta(hours=2))["Date"] == "Sun, 01 Mar 2026 14:00:00 +0000"


def test_a_message_is_not_changed_by_being_sent():
    original = message(parts=(message(2),))
    raw_mail(original)
    assert original == replace(original)
