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
from monitor.notifications.channels import SendOutcome, SendResult


class Security(StrEnum):
    """How the way to a mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class SmtpStep(StrEnum):
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


def classify_reply(step: SmtpStep, code: int) -> SendResult:
    """How a server's answer is taken.

    A mail that is too large, or whose content is refused, is refused itself; every other permanent error (5xx) means
    that no mail gets through until somebody mends the settings. docs/channels.md has the whole table.

    Args:
        step: what it answered to.
        code: the three digits of its answer.
    """
    if 200 <= code < 400:
        return SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    reason = f"SMTP {code} to the {step.value}" if code >= 200 else "no answer (protocol)"
    if not 500 <= code < 600:
        return SendResult(outcome=SendOutcome.RETRY, reason=reason)
    if step is SmtpStep.RECIPIENTS and code == 552:
        # a mailbox that is full, by most servers; RFC 5321, 4.5.3.1.10 wants it taken as passing
        return SendResult(outcome=SendOutcome.RETRY, reason=reason)
    if step is SmtpStep.CONTENT or (step is SmtpStep.SENDER and code == 552):
        return SendResult(outcome=SendOutcome.REFUSED, reason=reason)
    return SendResult(outcome=SendOutcome.SUSPENDED, reason=reason)


class _NotDelivered(Exception):  # noqa: N818  # no error: it carries the verdict out of the dialogue
    """The mail is not handed over, and why."""

    def __init__(self, result: SendResult) -> None:
        super().__init__(result.reason)
        self.result = result


@dataclass(slots=True, kw_only=True)
class SmtpDelivery:
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

    def run(self) -> SendResult:
        """Connects, encrypts, logs in, and hands the mail over; delivered once the server has taken it."""
        try:
            return self._deliver()
        except _NotDelivered as failure:
            return failure.result
        except smtplib.SMTPServerDisconnected as error:
            # smtplib's own word for whatever ends a read; what it was is in the context
            return self._no_answer("timeout" if isinstance(error.__context__, TimeoutError) else "reset")
        except smtplib.SMTPException:
            return self._no_answer("protocol")
        except OSError as error:
            return self._no_answer(_fault_name(error))
        finally:
            if self._smtp is not None:
                self._smtp.close()

    def abort(self) -> None:
        """Closes the connection under `run`."""
        connection = self._smtp.sock if self._smtp is not None else None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _deliver(self) -> SendResult:
        smtp = self._connect()
        if self.server.security is Security.STARTTLS:
            self._start_tls(smtp)
        if self.server.user is not None:
            self._log_in(smtp, self.server.user)
        self._mail_from(smtp)
        self._rcpt_to(smtp)
        self.content_sent = True
        try:
            code, _ = smtp.data(self.mail)
        except smtplib.SMTPDataError as error:
            code = error.smtp_code
        result = classify_reply(SmtpStep.CONTENT, code)
        if result.outcome is SendOutcome.DELIVERED:
            with suppress(smtplib.SMTPException, OSError):  # the mail is the server's by now
                smtp.quit()
        return result

    def _connect(self) -> smtplib.SMTP:
        host, port = self.server.host, self.server.port
        try:
            if self.server.security is Security.TLS:
                smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                    host, port, timeout=self.timeout_s, context=_tls_context(self.server)
                )
            else:
                smtp = smtplib.SMTP(host, port, timeout=self.timeout_s)
            self._smtp = smtp
            smtp.ehlo_or_helo_if_needed()
        except (smtplib.SMTPConnectError, smtplib.SMTPHeloError) as error:
            raise _NotDelivered(classify_reply(SmtpStep.GREETING, error.smtp_code)) from None
        return smtp

    def _start_tls(self, smtp: smtplib.SMTP) -> None:
        try:
            _require_success(SmtpStep.ENCRYPTION, *smtp.starttls(context=_tls_context(self.server)))
        except smtplib.SMTPNotSupportedError:
            raise _suspended("the server offers no STARTTLS: choose another security") from None
        smtp.ehlo_or_helo_if_needed()

    def _log_in(self, smtp: smtplib.SMTP, user: str) -> None:
        try:
            password = self.server.read_password() if self.server.read_password else ""
            smtp.login(user, password)
        except MonitorError as error:
            raise _suspended(f"its password can't be read: {error}") from None
        except smtplib.SMTPAuthenticationError as error:
            _require_success(SmtpStep.LOGIN, error.smtp_code)
        except smtplib.SMTPServerDisconnected:
            raise
        except smtplib.SMTPException:
            # what it has for a server without AUTH, and for one with none but odd ways to log in
            raise _suspended(
                "the server takes no log-in: leave out user and password, or choose another port"
            ) from None

    def _mail_from(self, smtp: smtplib.SMTP) -> None:
        size = [f"size={len(self.mail)}"] if smtp.has_extn("size") else []
        _require_success(SmtpStep.SENDER, *smtp.mail(self.sender, size))

    def _rcpt_to(self, smtp: smtplib.SMTP) -> None:
        codes = [smtp.rcpt(recipient)[0] for recipient in self.recipients]
        self.refused = [code for code in codes if not 200 <= code < 300]
        if len(self.refused) == len(codes):
            # one that may yet take it is worth another attempt
            _require_success(SmtpStep.RECIPIENTS, min(self.refused))

    def _no_answer(self, fault: str) -> SendResult:
        return SendResult(outcome=SendOutcome.RETRY, reason=f"no answer ({fault})", certain=not self.content_sent)


def _fault_name(error: OSError) -> str:
    kinds: tuple[tuple[type[OSError], str], ...] = (
        (ssl.SSLError, "tls"), (TimeoutError, "timeout"), (socket.gaierror, "dns"), (ConnectionRefusedError, "refused")
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(error, kind)), "reset")


def _require_success(step: SmtpStep, code: int, _text: bytes = b"") -> None:
    """Raises _Ended for an answer that is no success."""
    result = classify_reply(step, code)
    if result.outcome is not SendOutcome.DELIVERED:
        raise _NotDelivered(result)


def _suspended(reason: str) -> _NotDelivered:
    return _NotDelivered(SendResult(outcome=SendOutcome.SUSPENDED, reason=reason))


def _tls_context(server: MailServer) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if server.ca_file is not None:
        try:
            context.load_verify_locations(cafile=server.ca_file)
        except OSError:
            raise _suspended(f"{server.ca_file} can't be used: is it there, with certificates in PEM form?") from None
    return context
