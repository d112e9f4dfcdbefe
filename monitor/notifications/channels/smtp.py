"""Sends one mail over SMTP (RFC 5321) and classifies the server's replies. It never retries.

Reasons hold the reply code but never the server's text, which may quote the mail.
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
    """The encryption of the connection to a mail server."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class SmtpStep(StrEnum):
    """The step that a reply answers."""

    GREETING = "greeting"
    ENCRYPTION = "encryption"
    LOGIN = "login"
    SENDER = "sender"
    RECIPIENTS = "recipients"
    CONTENT = "content"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """A mail server's address and credentials."""

    host: str
    port: int
    security: Security
    user: str | None = None
    read_password: Callable[[], str] | None = None
    """Reads the user's password, a secret, for each mail."""
    ca_file: str | None = None
    """A PEM file with CA certificates to trust besides the system's; read for each mail."""


def classify_reply(step: SmtpStep, code: int) -> SendResult:
    """What a reply code means at a step.

    A permanent error (5xx) to the content, or for the mail's size, refuses this mail. Every other permanent error
    suspends the channel. docs/channels.md has the full table.
    """
    if 200 <= code < 400:
        return SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    reason = f"SMTP {code} to the {step.value}" if code >= 200 else "no answer (protocol)"
    if not 500 <= code < 600:
        return SendResult(outcome=SendOutcome.RETRY, reason=reason)
    if step is SmtpStep.RECIPIENTS and code == 552:
        # most servers: the mailbox is full; RFC 5321, 4.5.3.1.10: treat it as temporary
        return SendResult(outcome=SendOutcome.RETRY, reason=reason)
    if step is SmtpStep.CONTENT or (step is SmtpStep.SENDER and code == 552):
        return SendResult(outcome=SendOutcome.REFUSED, reason=reason)
    return SendResult(outcome=SendOutcome.SUSPENDED, reason=reason)


class _NotDelivered(Exception):  # noqa: N818  # carries a result out of the dialogue
    """The server did not accept the mail."""

    def __init__(self, result: SendResult) -> None:
        super().__init__(result.reason)
        self.result = result


@dataclass(slots=True, kw_only=True)
class SmtpDelivery:
    """Sends one mail once. `run` blocks; `abort`, called from another thread, ends it."""

    server: MailServer
    sender: str
    recipients: Sequence[str]
    mail: bytes
    """ASCII lines that end with CR LF."""
    timeout_s: float
    """For each step; the caller limits the whole."""
    refused: list[int] = field(default_factory=list)
    """Reply codes for the recipients that the server refused."""
    content_sent: bool = False
    """Whether the server may have received the whole mail."""
    _smtp: smtplib.SMTP | None = None

    def run(self) -> SendResult:
        """Connects, encrypts, logs in and sends the mail."""
        try:
            return self._deliver()
        except _NotDelivered as failure:
            return failure.result
        except smtplib.SMTPServerDisconnected as error:
            # smtplib raises this whatever ended a read; the context has the cause
            return self.no_answer("timeout" if isinstance(error.__context__, TimeoutError) else "reset")
        except smtplib.SMTPException:
            return self.no_answer("protocol")
        except OSError as error:
            return self.no_answer(_fault_name(error))
        finally:
            if self._smtp is not None:
                self._smtp.close()

    def abort(self) -> None:
        """Closes the connection under `run`."""
        connection = self._smtp.sock if self._smtp is not None else None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def no_answer(self, fault: str) -> SendResult:
        """The result of a fault of the network."""
        return SendResult(outcome=SendOutcome.RETRY, reason=f"no answer ({fault})", certain=not self.content_sent)

    def _deliver(self) -> SendResult:
        smtp = self._connect()
        if self.server.security is Security.STARTTLS:
            self._start_tls(smtp)
        if self.server.user is not None:
            self._log_in(smtp, self.server.user)
        size = [f"size={len(self.mail)}"] if smtp.has_extn("size") else []
        _require_success(SmtpStep.SENDER, *smtp.mail(self.sender, size))
        self._rcpt_to(smtp)
        self.content_sent = True
        try:
            code, _ = smtp.data(self.mail)
        except smtplib.SMTPDataError as error:
            code = error.smtp_code
        result = classify_reply(SmtpStep.CONTENT, code)
        if result.outcome is SendOutcome.DELIVERED:
            with suppress(smtplib.SMTPException, OSError):  # the server has accepted the mail
                smtp.quit()
        return result

    def _connect(self) -> smtplib.SMTP:
        host, port, timeout_s = self.server.host, self.server.port, self.timeout_s
        try:
            if self.server.security is Security.TLS:
                self._smtp = smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=_tls_context(self.server))
            else:
                self._smtp = smtplib.SMTP(host, port, timeout=timeout_s)
            smtp = self._smtp
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
            # the server offers no AUTH, or no method that smtplib supports
            reason = "the server accepts no login: leave out user and password, or choose another port"
            raise _suspended(reason) from None

    def _rcpt_to(self, smtp: smtplib.SMTP) -> None:
        codes = [smtp.rcpt(recipient)[0] for recipient in self.recipients]
        self.refused = [code for code in codes if not 200 <= code < 300]
        if len(self.refused) == len(codes):
            # a temporary refusal by one recipient makes it worth another attempt
            _require_success(SmtpStep.RECIPIENTS, min(self.refused))


def _fault_name(error: OSError) -> str:
    kinds: tuple[tuple[type[OSError], str], ...] = (
        (ssl.SSLError, "tls"), (TimeoutError, "timeout"), (socket.gaierror, "dns"), (ConnectionRefusedError, "refused")
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(error, kind)), "reset")


def _require_success(step: SmtpStep, code: int, _text: bytes = b"") -> None:
    """Raises _NotDelivered unless the reply is a success."""
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
            reason = f"{server.ca_file} can't be read: check that it exists and holds PEM certificates"
            raise _suspended(reason) from None
    return context
