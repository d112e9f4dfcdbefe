"""The channel `email`: each message is a mail with a text and an HTML part, in its incident's thread.

`smtplib` has no deadline for a whole mail, so it runs in a thread, whose connection is closed on a timeout.
"""

from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape

import structlog

from monitor.model import Severity
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.mail_headers import (
    Mailbox,
    recipients_header,
    sender_header,
    text_header,
    token_header,
)
from monitor.notifications.channels.smtp import MailServer, SmtpDelivery
from monitor.notifications.messages import (
    Message,
    MessageKind,
    ReportContent,
    attribute_texts,
    links,
    shown_safe_message,
    to_single_lines,
)
from monitor.notifications.texts import CAUSE_TEXTS, display_name
from monitor.threads import run_in_thread

_COLOURS: Mapping[Severity, str] = {Severity.CRITICAL: "#b3261e", Severity.WARNING: "#b35c00", Severity.INFO: "#1a5fb4"}
_COLOURS_BY_KIND: Mapping[MessageKind, str] = {MessageKind.RESOLVED: "#1e7b34", MessageKind.TEST: "#5e5c64"}

_FONT = "font-family:-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
_NOWRAP_SPAN = '<span style="white-space:nowrap">{}</span>'
_MAX_NOWRAP = 24
"""Characters of a word that still fits on the narrowest screen."""
_WORD_BREAK_STYLE = "overflow-wrap:anywhere;word-break:break-word"
"""Lets long ids break; `word-break` is for mail programs without `overflow-wrap`."""


def as_text(message: Message) -> str:
    """The text part. All texts of the message must be single lines."""
    sentence = shown_safe_message(message)
    blocks = [
        [_status_line(message), message.title],
        ["What to check", *(f"- {check}" for check in message.what_to_check)] if message.what_to_check else [],
        ["For your users", sentence] if sentence else [],
        [f"{label}: {value}" for label, value in _shown_facts(message)],
        *([f"To {what}:", f"  {command}"] for what, command in message.commands),
        [f"Open {label}: {url}" for label, url in links(message)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def as_html(message: Message) -> str:
    """The HTML part. All texts of the message must be single lines."""
    colour = _COLOURS_BY_KIND.get(message.kind) or _COLOURS[message.severity]
    sentence, facts = shown_safe_message(message), _shown_facts(message)
    parts = [
        f'<p style="margin:0 0 4px;color:{colour};font-size:14px;font-weight:600">{_nowrap(_status_line(message))}</p>',
        f'<h1 style="margin:0 0 16px;font-size:20px;line-height:1.3;{_WORD_BREAK_STYLE}">{escape(message.title)}</h1>',
        *(_section("What to check", _bullet_list(message.what_to_check)) if message.what_to_check else ()),
        *(_section("For your users", _paragraph(sentence)) if sentence else ()),
        *(_section("Facts", "".join(_fact(*fact) for fact in facts)) if facts else ()),
        *(each for what, command in message.commands for each in _section(f"To {what}", _command(command))),
        *(_section("On the page", "".join(_link(*each) for each in links(message))) if message.url else ()),
    ]
    return _PAGE.format(title=escape(message.title), colour=colour, body="\n".join(parts))


_PAGE = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
</head>
<body style="margin:0;padding:16px;background:#ffffff;color:#1c1b1f;font-size:16px;line-height:1.45;{_FONT}">
<div style="max-width:600px;margin:0 auto;border-top:6px solid {{colour}};padding-top:12px">
{{body}}
</div>
</body>
</html>
"""


def _status_line(message: Message) -> str:
    kind = "still open" if message.kind is MessageKind.REMINDER else message.kind.value
    return " · ".join((kind, *attribute_texts(message), f"{message.at:%Y-%m-%d %H:%M} UTC"))


def _shown_facts(message: Message) -> tuple[tuple[str, str], ...]:
    """The facts, and how many other incidents of the thread are open."""
    if not message.others_open:
        return message.facts
    others = "1 other incident" if message.others_open == 1 else f"{message.others_open} other incidents"
    return (("still open", f"{others} of this thread"), *message.facts)


def _section(heading: str, content: str) -> tuple[str, str]:
    style = "margin:20px 0 6px;font-size:13px;font-weight:600;color:#5e5c64"
    return f'<h2 style="{style}">{escape(heading)}</h2>', content


def _paragraph(text: str) -> str:
    return f'<p style="margin:0;{_WORD_BREAK_STYLE}">{escape(text)}</p>'


def _bullet_list(lines: Iterable[str]) -> str:
    items = "".join(f'<li style="margin:0 0 6px;{_WORD_BREAK_STYLE}">{escape(line)}</li>' for line in lines)
    return f'<ul style="margin:0;padding-left:20px">{items}</ul>'


def _fact(label: str, value: str) -> str:
    named = f'<span style="color:#5e5c64">{escape(label)}</span>'
    return f'<p style="margin:0 0 8px;{_WORD_BREAK_STYLE}">{named}<br>{escape(value)}</p>\n'


def _link(label: str, url: str) -> str:
    return f'<p style="margin:0 0 8px"><a href="{escape(url)}">Open {escape(label)}</a></p>\n'


def _command(command: str) -> str:
    box = "margin:0;padding:10px 12px;background:#f3f2f5;border-radius:6px;font-size:14px;white-space:pre-wrap"
    return f'<pre style="{box};{_MONO};{_WORD_BREAK_STYLE}">{_nowrap(command)}</pre>'


def _nowrap(text: str) -> str:
    """The text as HTML in which lines don't break at the hyphens of dates and options."""
    return " ".join(
        _NOWRAP_SPAN.format(escape(word)) if "-" in word and len(word) <= _MAX_NOWRAP else escape(word)
        for word in text.split(" ")
    )


_THREAD_OPENERS = frozenset({MessageKind.OPENED, MessageKind.TEST})
"""Kinds that begin a thread; the others are replies."""


class EmailChannel:
    """Sends mails over one server to the same recipients, with `timeout_s` of wall-clock time for each mail."""

    threaded = True

    def __init__(self, server: MailServer, *, sender: Mailbox, recipients: Sequence[str], timeout_s: float) -> None:
        self._server, self._sender, self._recipients, self._timeout_s = server, sender, recipients, timeout_s

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Sends the mail; it is delivered if the server accepts it for at least one recipient.

        Recipients that the server defers are in the result: the message is sent again to them alone (`recipients`).
        """
        wanted = [each for each in self._recipients if not message.recipients or each in message.recipients]
        if not wanted:
            return SendResult(outcome=SendOutcome.DELIVERED, reason="its recipients are no longer configured")
        delivery = SmtpDelivery(
            server=self._server,
            sender=self._sender.address,
            recipients=wanted,
            mail=as_mail(message, key=key, sender=self._sender, recipients=self._recipients, plain=plain),
            timeout_s=self._timeout_s,
            others_have_it=bool(message.recipients),
        )
        try:
            result = await run_in_thread(delivery.run, timeout_s=self._timeout_s)
        except TimeoutError:
            delivery.abort()
            return delivery.no_answer("timeout")
        if result.outcome is SendOutcome.DELIVERED and (delivery.refused or delivery.deferred):
            return self._partly_delivered(delivery, key)
        return result

    def _partly_delivered(self, delivery: SmtpDelivery, key: str) -> SendResult:
        problems = [
            f"{what} for {len(codes)} of {len(self._recipients)} recipients: {_with_codes(codes)}"
            for what, codes in (("refused", delivery.refused), ("deferred", delivery.deferred))
            if codes
        ]
        if delivery.refused:
            structlog.get_logger().warning(
                "mail_recipients_refused",
                refused=len(delivery.refused),
                recipients=len(self._recipients),
                addresses=list(delivery.refused),
                smtp_codes=sorted(set(delivery.refused.values())),
                key=key,
            )
        return SendResult(
            outcome=SendOutcome.DELIVERED, reason="; ".join(problems), deferred=tuple(delivery.deferred), complete=False
        )


def _with_codes(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{address} (SMTP {code})" for address, code in codes.items())


def as_mail(message: Message, *, key: str, sender: Mailbox, recipients: Sequence[str], plain: bool = False) -> bytes:
    """The whole mail, the same on every attempt; its Message-ID is made from `key`; `plain`: without HTML."""
    clean = to_single_lines(message)
    domain = sender.address.rpartition("@")[2]
    headers = [
        sender_header(sender),
        recipients_header(recipients),
        text_header("Subject", subject(clean)),
        token_header("Date", format_datetime(message.at)),
        token_header("Message-ID", f"<{key}@{domain}>"),
    ]
    if message.thread and message.thread != key:
        # a thread's id is the key of its first mail
        thread = f"<{message.thread}@{domain}>"
        headers += [token_header("In-Reply-To", thread), token_header("References", thread)]
    headers.append(token_header("Auto-Submitted", "auto-generated"))
    if message.report is not None:
        return b"".join([*headers, _report_parts(clean, message.report, key=key, plain=plain)])
    content = EmailMessage(policy=SMTP)  # only for the parts: see mail_headers.py
    # quoted-printable passes every server and keeps lines short
    content.set_content(as_text(clean), cte="quoted-printable")
    if not plain:
        content.add_alternative(as_html(clean), subtype="html", cte="quoted-printable")
        content.set_boundary(f"={key}=")
    return b"".join([*headers, content.as_bytes()])


def _report_parts(message: Message, content: ReportContent, *, key: str, plain: bool) -> bytes:
    """The parts of a report: the whole as text, the short form as HTML, and the whole as an HTML file."""
    mail = EmailMessage(policy=SMTP)
    addresses = "".join(f"\n\nOpen {label}: {url}" for label, url in links(message))
    mail.set_content(f"{content.text}{addresses}\n", cte="quoted-printable")
    if plain:
        return mail.as_bytes()
    mail.add_alternative(_report_html(message), subtype="html", cte="quoted-printable")
    mail.set_boundary(f"={key}=")
    name = f"report-{message.at:%Y-%m-%d}.html"
    mail.add_attachment(content.html.encode(), maintype="text", subtype="html", cte="base64", filename=name,
                        params={"charset": "utf-8"})  # fmt: skip
    mail.set_boundary(f"={key}-file=")
    return mail.as_bytes()


def _report_html(message: Message) -> str:
    parts = [
        f'<h1 style="margin:0 0 16px;font-size:20px;line-height:1.3;{_WORD_BREAK_STYLE}">{escape(message.title)}</h1>',
        *(_fact(*fact) for fact in message.facts),
        *(_link(*each) for each in links(message)),
        _paragraph("The whole report is attached: it opens in a browser, and loads nothing."),
    ]
    return _PAGE.format(title=escape(message.title), colour=_COLOURS[Severity.INFO], body="\n".join(parts))


def subject(message: Message) -> str:
    """The subject: the same from opening to resolution, since mail programs thread by it as well as by `References`.

    The first line of the text has the kind of message; mail programs show it beside the subject.
    """
    if message.kind is MessageKind.REPORT:
        return f"[{message.environment}] {message.title}"
    targets = list(dict.fromkeys(display_name(part.target) for part in message.parts or (message,)))
    about = targets[0] if len(targets) == 1 else f"{len(targets)} targets"
    group = f" ({message.group})" if message.group else ""
    words = "test message" if message.kind is MessageKind.TEST else CAUSE_TEXTS[message.cause]
    if len({part.cause for part in message.parts}) > 1:
        words = "first look"
    answer = "" if message.kind in _THREAD_OPENERS else "Re: "
    return f"{answer}[{message.environment}] {about}{group}: {words}"
