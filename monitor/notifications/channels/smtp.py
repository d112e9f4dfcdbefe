"""Sends one mail over SMTP (RFC 5321) and classifies the server's replies. It never retries.

Reasons hold the reply code but never the server's text, which may quote the mail.
"""

import ipaddress
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import IO, Any

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
    ehlo_name: str | None = None
    """The name for EHLO; None: this machine's full name, or else the address that the connection comes from."""


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
    others_have_it: bool = False
    """The mail was accepted for other recipients before; so the server is well, even if it defers all of these."""
    refused: dict[str, int] = field(default_factory=dict)
    """The recipients that the server refused for good, with its reply codes."""
    deferred: dict[str, int] = field(default_factory=dict)
    """The same for those that it may accept later (RFC 5321, 4.2.1)."""
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
            return self.no_answer(_disconnection_name(error.__context__))
        except smtplib.SMTPException:
            return self.no_answer("protocol")
        except OSError as error:
            return self.no_answer(_fault_name(error))
        except ValueError:  # bad base64 or text in a login's dialogue
            return self.no_answer("protocol")
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
        if not self._rcpt_to(smtp):
            _quit(smtp)
            return SendResult(outcome=SendOutcome.DELIVERED, reason="accepted for others before")
        self.content_sent = True
        try:
            code, _ = smtp.data(self.mail)
        except smtplib.SMTPDataError as error:
            code = error.smtp_code
        result = classify_reply(SmtpStep.CONTENT, code)
        if result.outcome is SendOutcome.DELIVERED:
            _quit(smtp)
        return result

    def _connect(self) -> smtplib.SMTP:
        host, port, timeout_s = self.server.host, self.server.port, self.timeout_s
        try:
            name = self.server.ehlo_name or _full_host_name()
            options: dict[str, Any] = {
                "timeout": timeout_s,
                "local_hostname": name or "localhost",
                "on_creation": self._remember,
            }
            if self.server.security is Security.TLS:
                smtp: smtplib.SMTP = _TlsConnection(host, port, context=_tls_context(self.server), **options)
            else:
                smtp = _Connection(host, port, **options)
            if name is None and smtp.sock is not None:
                smtp.local_hostname = address_literal(smtp.sock.getsockname()[0])
            smtp.ehlo_or_helo_if_needed()
        except (smtplib.SMTPConnectError, smtplib.SMTPHeloError) as error:
            raise _NotDelivered(classify_reply(SmtpStep.GREETING, error.smtp_code)) from None
        return smtp

    def _remember(self, smtp: smtplib.SMTP) -> None:
        """Called before it connects, so that `abort` reaches a server that does not end its greeting."""
        self._smtp = smtp

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

    def _rcpt_to(self, smtp: smtplib.SMTP) -> bool:
        """Whether the server accepts a recipient."""
        codes = {recipient: smtp.rcpt(recipient)[0] for recipient in self.recipients}
        failed = {recipient: code for recipient, code in codes.items() if not 200 <= code < 300}
        for recipient, code in failed.items():
            permanent = classify_reply(SmtpStep.RECIPIENTS, code).outcome is SendOutcome.SUSPENDED
            (self.refused if permanent else self.deferred)[recipient] = code
        if len(failed) == len(codes) and not self.others_have_it:
            # a temporary refusal by one recipient makes it worth another attempt
            _require_success(SmtpStep.RECIPIENTS, min(failed.values()))
        return len(failed) < len(codes)


MAX_ANSWER_BYTES = 1 << 20
"""Of all that a server says over one connection: a greeting may go on for ever."""


class _AnswerTooLargeError(OSError):
    """A server said more than `MAX_ANSWER_BYTES`."""


class _BoundedLines:
    """The lines of a server's answers, up to the limit."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, MAX_ANSWER_BYTES

    def readline(self, size: int = -1) -> bytes:
        line = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise _AnswerTooLargeError
        return line

    def close(self) -> None:
        self._file.close()


class _Connection(smtplib.SMTP):
    """A connection that reads only so much; `on_creation` gets it before it connects."""

    def __init__(self, *args: Any, on_creation: Callable[[smtplib.SMTP], None], **options: Any) -> None:  # noqa: ANN401  # smtplib's own
        on_creation(self)
        super().__init__(*args, **options)

    def getreply(self) -> tuple[int, bytes]:
        """As in `smtplib`, which reads the answer's lines from `file` without an end."""
        if self.file is None and self.sock is not None:
            self.file = _BoundedLines(self.sock.makefile("rb"))
        return super().getreply()


class _TlsConnection(_Connection, smtplib.SMTP_SSL):
    """The same with TLS from the first byte."""


def address_literal(address: str) -> str:
    """A client without a name is called by its address (RFC 5321, 4.1.3)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return f"[IPv6:{ip}]" if ip.version == 6 else f"[{ip}]"


_FULL_NAME = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+", re.ASCII
)
_NO_NAMES = ("localhost", "localhost.localdomain", "localhost4.localdomain4", "localhost6.localdomain6")


@lru_cache(maxsize=1)  # the lookup may take as long as a whole attempt
def _full_host_name() -> str | None:
    """This machine's full name; None if it has none that others could look up."""
    name = socket.getfqdn()
    usable = _FULL_NAME.fullmatch(name) and name not in _NO_NAMES and not name.endswith((".arpa", ".localhost"))
    return name if usable and not name.replace(".", "").isdigit() else None


def _quit(smtp: smtplib.SMTP) -> None:
    """Ends the dialogue; by now nothing depends on it."""
    with suppress(smtplib.SMTPException, OSError):
        smtp.quit()


def _disconnection_name(cause: BaseException | None) -> str:
    if isinstance(cause, _AnswerTooLargeError):
        return "too_large"
    return "timeout" if isinstance(cause, TimeoutError) else "reset"


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
