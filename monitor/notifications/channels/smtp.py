"""One mail over SMTP (RFC 5321): how it is handed over, and how each answer is taken. It repeats nothing.

What a server says beside its codes is never repeated: it may quote the mail.
"""

import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.errors import MonitorError
from monitor.notifications.channels import Ending, Verdict


class Security(StrEnum):
    """How the way to a mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Step(StrEnum):
    """What a server was asked for when it answered."""

    GREETING = "greeting"
    ENCRYPTION = "encryption"
    LOGIN = "login"
    SENDER = "sender"
    RECIPIENTS = "recipients"
    CONTENT = "content"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """A mail server and how it is reached."""

    host: str
    port: int
    security: Security
    user: str | None = None
    read_password: Callable[[], str] | None = None
    """Gives the user's password, which is a secret, at the time of use."""
    ca_file: str | None = None
    """Certificates of authorities to trust beside the system's, in PEM form; read for each mail."""


def verdict(step: Step, code: int) -> Verdict:
    """How a server's answer is taken.

    A mail that is too large, or whose content is refused, is refused itself; every other permanent error (5xx) means
    that no mail gets through until somebody mends the settings. docs/channels.md has the whole table.

    Args:
        step: what it answered to.
        code: the three digits of its answer.
    """
    if 200 <= code < 400:
        return Verdict(ending=Ending.DELIVERED, reason="accepted")
    reason = f"SMTP {code} to the {step.value}" if code >= 200 else "no answer (protocol)"
    if not 500 <= code < 600:
        return Verdict(ending=Ending.RETRY, reason=reason)
    if step is Step.RECIPIENTS and code == 552:
        # a mailbox that is full, by most servers; RFC 5321, 4.5.3.1.10 wants it taken as passing
        return Verdict(ending=Ending.RETRY, reason=reason)
    if step is Step.CONTENT or (step is Step.SENDER and code == 552):
        return Verdict(ending=Ending.REFUSED, reason=reason)
    return Verdict(ending=Ending.PARKED, reason=reason)


class _Ended(Exception):  # noqa: N818  # no error: it carries the verdict out of the dialogue
    """The mail is not handed over, and why."""

    def __init__(self, found: Verdict) -> None:
        super().__init__(found.reason)
        self.verdict = found


@dataclass(slots=True, kw_only=True)
class Handover:
    """Hands one mail to a server, once. `run` blocks; `abort`, from another thread, ends it."""

    server: MailServer
    sender: str
    recipients: Sequence[str]
    mail: bytes
    """Its lines end with CR LF, and are of ASCII."""
    timeout_s: float
    """For each step; who calls keeps the time of the whole."""
    refused: list[int] = field(default_factory=list)
    """What the server answered for recipients that it does not take, though it takes others."""
    content_sent: bool = False
    """Whether the server may have the whole mail."""
    _smtp: smtplib.SMTP | None = None

    def run(self) -> Verdict:
        """Connects, encrypts, logs in, and hands the mail over; delivered once the server has taken it."""
        try:
            return self._hand_over()
        except _Ended as ended:
            return ended.verdict
        except smtplib.SMTPServerDisconnected as error:
            # smtplib's own word for whatever ends a read; what it was is in the context
            return self._unanswered("timeout" if isinstance(error.__context__, TimeoutError) else "reset")
        except smtplib.SMTPException:
            return self._unanswered("protocol")
        except OSError as error:
            return self._unanswered(_fault(error))
        finally:
            if self._smtp is not None:
                self._smtp.close()

    def abort(self) -> None:
        """Closes the connection under `run`."""
        connection = self._smtp.sock if self._smtp is not None else None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _hand_over(self) -> Verdict:
        smtp = self._connected()
        if self.server.security is Security.STARTTLS:
            self._encrypt(smtp)
        if self.server.user is not None:
            self._log_in(smtp, self.server.user)
        self._name_sender(smtp)
        self._name_recipients(smtp)
        self.content_sent = True
        try:
            code, _ = smtp.data(self.mail)
        except smtplib.SMTPDataError as error:
            code = error.smtp_code
        ended = verdict(Step.CONTENT, code)
        if ended.ending is Ending.DELIVERED:
            with suppress(smtplib.SMTPException, OSError):  # the mail is the server's by now
                smtp.quit()
        return ended

    def _connected(self) -> smtplib.SMTP:
        host, port = self.server.host, self.server.port
        try:
            if self.server.security is Security.TLS:
                smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=self.timeout_s, context=_context(self.server))
            else:
                smtp = smtplib.SMTP(host, port, timeout=self.timeout_s)
            self._smtp = smtp
            smtp.ehlo_or_helo_if_needed()
        except (smtplib.SMTPConnectError, smtplib.SMTPHeloError) as error:
            raise _Ended(verdict(Step.GREETING, error.smtp_code)) from None
        return smtp

    def _encrypt(self, smtp: smtplib.SMTP) -> None:
        try:
            _check(Step.ENCRYPTION, *smtp.starttls(context=_context(self.server)))
        except smtplib.SMTPNotSupportedError:
            raise _parked("the server offers no STARTTLS: choose another security") from None
        smtp.ehlo_or_helo_if_needed()

    def _log_in(self, smtp: smtplib.SMTP, user: str) -> None:
        try:
            password = self.server.read_password() if self.server.read_password else ""
            smtp.login(user, password)
        except MonitorError as error:
            raise _parked(f"its password can't be read: {error}") from None
        except smtplib.SMTPAuthenticationError as error:
            _check(Step.LOGIN, error.smtp_code)
        except smtplib.SMTPServerDisconnected:
            raise
        except smtplib.SMTPException:
            # what it has for a server without AUTH, and for one with none but odd ways to log in
            raise _parked("the server takes no log-in: leave out user and password, or choose another port") from None

    def _name_sender(self, smtp: smtplib.SMTP) -> None:
        size = [f"size={len(self.mail)}"] if smtp.has_extn("size") else []
        _check(Step.SENDER, *smtp.mail(self.sender, size))

    def _name_recipients(self, smtp: smtplib.SMTP) -> None:
        codes = [smtp.rcpt(recipient)[0] for recipient in self.recipients]
        self.refused = [code for code in codes if not 200 <= code < 300]
        if len(self.refused) == len(codes):
            # one that may yet take it is worth another attempt
            _check(Step.RECIPIENTS, min(self.refused))

    def _unanswered(self, fault: str) -> Verdict:
        return Verdict(ending=Ending.RETRY, reason=f"no answer ({fault})", certain=not self.content_sent)


def _fault(error: OSError) -> str:
    kinds: tuple[tuple[type[OSError], str], ...] = (
        (ssl.SSLError, "tls"), (TimeoutError, "timeout"), (socket.gaierror, "dns"), (ConnectionRefusedError, "refused")
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(error, kind)), "reset")


def _check(step: Step, code: int, _said: bytes = b"") -> None:
    """Raises _Ended for an answer that is no success."""
    found = verdict(step, code)
    if found.ending is not Ending.DELIVERED:
        raise _Ended(found)


def _parked(reason: str) -> _Ended:
    return _Ended(Verdict(ending=Ending.PARKED, reason=reason))


def _context(server: MailServer) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if server.ca_file is not None:
        try:
            context.load_verify_locations(cafile=server.ca_file)
        except OSError:
            raise _parked(f"{server.ca_file} can't be used: is it there, with certificates in PEM form?") from None
    return context
