"""The channel `email`: each message is a mail of text and HTML, filed in its incident's thread.

`smtplib` knows no deadline for a whole mail, so it works in a thread that is cut off when its time is over.
"""

from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

import structlog

from monitor.channels import Ending, Verdict
from monitor.channels.aside import aside
from monitor.channels.email_body import as_html, as_text
from monitor.channels.lines import in_lines
from monitor.channels.smtp import Handover, MailServer
from monitor.incidents.message import Message, MessageKind
from monitor.incidents.words import IN_WORDS, spoken

__all__ = ["EmailChannel", "as_mail", "subject"]

_FIRST = frozenset({MessageKind.OPENED, MessageKind.TEST})
"""What begins a thread; the rest answers it."""


class EmailChannel:
    """Sends mails to the same people over one server.

    Args:
        server: takes the mails.
        sender: an address, or a name and an address in angle brackets.
        recipients: addresses (at least one).
        timeout_s: wall-clock seconds for one mail.
    """

    threaded = True

    def __init__(self, server: MailServer, *, sender: str, recipients: Sequence[str], timeout_s: float) -> None:
        self._server, self._sender, self._recipients, self._timeout_s = server, sender, recipients, timeout_s

    async def send(self, message: Message, *, key: str, plain: bool = False) -> Verdict:
        """Sends the mail; delivered once the server has taken it for at least one of the recipients."""
        mail = as_mail(message, key=key, sender=self._sender, recipients=self._recipients, plain=plain)
        handover = Handover(
            server=self._server,
            sender=_address(self._sender),
            recipients=self._recipients,
            mail=mail.as_bytes(),
            timeout_s=self._timeout_s,
        )
        try:
            verdict = await aside(handover.run, timeout_s=self._timeout_s)
        except TimeoutError:
            handover.abort()
            return Verdict(ending=Ending.RETRY, reason="no answer (timeout)", certain=not handover.content_sent)
        if handover.refused and verdict.ending is Ending.DELIVERED:
            return self._for_some(handover.refused, key)
        return verdict

    def _for_some(self, refused: Sequence[int], key: str) -> Verdict:
        """Those who can get it have it; that others do not is said, lest nobody notice."""
        codes = sorted(set(refused))
        structlog.get_logger().warning(
            "mail_recipients_refused", refused=len(refused), recipients=len(self._recipients), smtp_codes=codes, key=key
        )
        whom = f"{len(refused)} of {len(self._recipients)} recipients (SMTP {', '.join(map(str, codes))})"
        return Verdict(ending=Ending.DELIVERED, reason=f"accepted, but not for {whom}")


def as_mail(message: Message, *, key: str, sender: str, recipients: Sequence[str], plain: bool = False) -> EmailMessage:
    """The whole mail, the same on every attempt.

    Args:
        message: what to tell.
        key: becomes its Message-ID.
        sender: an address, or a name and an address in angle brackets.
        recipients: addresses.
        plain: without HTML.
    """
    clean = in_lines(message)
    domain = _address(sender).rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = subject(clean)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{key}@{domain}>"
    if message.thread and message.thread != key:
        # the thread's name is the key of the mail that began it
        mail["In-Reply-To"] = mail["References"] = f"<{message.thread}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    # quoted-printable and base64 pass every server, and keep lines short
    mail.set_content(as_text(clean), cte="quoted-printable")
    if not plain:
        mail.add_alternative(as_html(clean), subtype="html", cte="quoted-printable")
        mail.set_boundary(f"={key}=")
    return mail


def subject(message: Message) -> str:
    """What stays the same from opening to resolution: mail programs file by it as well as by `References`.

    How the incident stands is the first line of the text, which they show beside the subject.

    Args:
        message: with all of its texts on one line.
    """
    targets = list(dict.fromkeys(spoken(part.target) for part in message.parts or (message,)))
    about = targets[0] if len(targets) == 1 else f"{len(targets)} targets"
    group = f" ({message.group})" if message.group else ""
    words = "test message" if message.kind is MessageKind.TEST else IN_WORDS[message.cause]
    answer = "" if message.kind in _FIRST else "Re: "
    return f"{answer}[{message.environment}] {about}{group}: {words}"


def _address(sender: str) -> str:
    return parseaddr(sender)[1]
