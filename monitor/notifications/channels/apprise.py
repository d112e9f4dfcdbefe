"""The channel `apprise`: a message goes as text to one of the many services that the library Apprise knows.

The library tells only whether it worked. It blocks, and so works in a thread that may be left behind.
"""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from monitor.errors import MonitorError
from monitor.model import Severity
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.text import to_single_lines
from monitor.notifications.messages import Message, MessageKind, to_text
from monitor.threads import run_in_thread

if TYPE_CHECKING:
    import apprise


_NOTIFY_TYPES: Mapping[Severity, str] = {
    Severity.CRITICAL: "failure",
    Severity.WARNING: "warning",
    Severity.INFO: "info",
}
_MARKUP_CHARACTERS = re.compile("[@<&]")
"""What begins a mention, a tag or an escape at one service or another."""
_ZERO_WIDTH_SPACE = "\u200b"


class NotifyOutcome(StrEnum):
    """What came of handing a message over."""

    ACCEPTED = "yes"
    FAILED = "no"
    BUSY = "busy"
    """The attempt before it has not ended."""
    UNKNOWN_URL = "unknown_url"


class AppriseChannel:
    """Hands messages to one service.

    Args:
        read_url: gives Apprise's URL of the service, which is a secret, at the time of use.
        timeout_s: wall-clock seconds for one message.
    """

    threaded = False

    def __init__(self, read_url: Callable[[], str], *, timeout_s: float) -> None:
        self._read_url, self._timeout_s = read_url, timeout_s
        self._lock = threading.Lock()

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:  # noqa: ARG002  # Channel's signature
        """Sends the message as text. Whether a failed one got through is never certain, nor why it failed."""
        try:
            url = self._read_url()
        except MonitorError as error:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason=f"its URL can't be read: {error}")
        try:
            outcome = await run_in_thread(
                partial(self._notify, url, to_single_lines(message)), timeout_s=self._timeout_s
            )
        except TimeoutError:
            return SendResult(outcome=SendOutcome.RETRY, reason="no answer (timeout)", certain=False)
        except Exception as error:  # noqa: BLE001  # whatever a service's plugin raises; its words may hold the URL
            reason = f"the service's plugin failed ({type(error).__name__})"
            return SendResult(outcome=SendOutcome.RETRY, reason=reason, certain=False)
        return _to_result(outcome)

    def _notify(self, url: str, message: Message) -> NotifyOutcome:
        """Blocks. What a service never ends to think about is not asked again, so that no threads pile up."""
        if not self._lock.acquire(blocking=False):
            return NotifyOutcome.BUSY
        try:
            kind = "success" if message.kind is MessageKind.RESOLVED else _NOTIFY_TYPES[message.severity]
            return _notify_service(url, title=_defuse(message.title), body=as_text(message), kind=kind)
        finally:
            self._lock.release()


def as_text(message: Message) -> str:
    """The message below its title, as lines in which no service finds a mention or markup of its own."""
    _, *lines = to_text(message).split("\n")
    about = f"{message.severity.value}, {message.environment}, for {message.team.value}"
    return _defuse("\n".join([about, *(line.strip() for line in lines)]))


def known_service(url: str) -> str | None:
    """What Apprise calls the service of a URL; None when it can't make sense of it. Sends nothing."""
    import apprise

    _disable_logging()
    found = apprise.Apprise.instantiate(url, asset=_asset())
    return str(found.service_name) if found is not None else None


def _to_result(outcome: NotifyOutcome) -> SendResult:
    match outcome:
        case NotifyOutcome.ACCEPTED:
            return SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
        case NotifyOutcome.FAILED:
            return SendResult(outcome=SendOutcome.RETRY, reason="the service did not take it", certain=False)
        case NotifyOutcome.BUSY:
            return SendResult(outcome=SendOutcome.RETRY, reason="the service has not ended the attempt before this one")
        case NotifyOutcome.UNKNOWN_URL:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason="Apprise knows no service by its URL: check it")


def _notify_service(url: str, *, title: str, body: str, kind: str) -> NotifyOutcome:
    import apprise

    _disable_logging()
    asset = _asset()
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        return NotifyOutcome.UNKNOWN_URL
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    outcome = sender.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
    return NotifyOutcome.ACCEPTED if outcome else NotifyOutcome.FAILED


def _asset() -> "apprise.AppriseAsset":
    """How Apprise is to behave: in our own thread, without files, redirects, pictures, or shortcodes in the text."""
    import apprise

    return apprise.AppriseAsset(
        app_id="Ingestion Monitor",
        app_desc="Ingestion Monitor",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        image_path_mask=False,
        async_mode=False,
        service_timeout=0,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        http_redirects=False,
        interpret_emojis=False,
        interpret_escapes=False,
    )


def _disable_logging() -> None:
    """Apprise's log quotes URLs and what services answer."""
    logging.getLogger("apprise").disabled = True


def _defuse(text: str) -> str:
    return _MARKUP_CHARACTERS.sub(rf"\g<0>{_ZERO_WIDTH_SPACE}", text)
