"""The channel `apprise`: each message is sent as text to one of the many services of the library Apprise.

The library reports only success or failure. It blocks, so it runs in a thread, which is abandoned on a timeout.
"""

import logging
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from monitor.errors import MonitorError
from monitor.model import Severity
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.messages import Message, MessageKind, attribute_texts, to_single_lines, to_text
from monitor.threads import run_in_thread

if TYPE_CHECKING:
    import apprise


_NOTIFY_TYPES = {Severity.CRITICAL: "failure", Severity.WARNING: "warning", Severity.INFO: "info"}
_MARKUP_CHARACTERS = re.compile("[@<&]")
"""Characters that begin a mention, a tag or an escape in one service or another."""
_ZERO_WIDTH_SPACE = "\u200b"


class AppriseChannel:
    """Sends messages to one service, with `timeout_s` of wall-clock time for each. Reads its Apprise URL, a secret, for
    each message.
    """

    threaded = False

    def __init__(self, read_url: Callable[[], str], *, timeout_s: float) -> None:
        self._read_url, self._timeout_s = read_url, timeout_s
        self._lock = threading.Lock()

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:  # noqa: ARG002  # Channel's signature
        """Sends the message as text. A failed message may have arrived: Apprise does not say."""
        try:
            url = self._read_url()
        except MonitorError as error:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason=f"its URL can't be read: {error}")
        try:
            return await run_in_thread(partial(self._notify, url, to_single_lines(message)), timeout_s=self._timeout_s)
        except TimeoutError:
            return SendResult(outcome=SendOutcome.RETRY, reason="no answer (timeout)", certain=False)
        except Exception as error:  # noqa: BLE001  # plugins raise anything, and their text may hold the URL
            reason = f"the service's plugin failed ({type(error).__name__})"
            return SendResult(outcome=SendOutcome.RETRY, reason=reason, certain=False)

    def _notify(self, url: str, message: Message) -> SendResult:
        """Blocks. One attempt at a time, so that a service that hangs does not use up threads."""
        if not self._lock.acquire(blocking=False):
            return SendResult(outcome=SendOutcome.RETRY, reason="the previous attempt still runs")
        try:
            kind = "success" if message.kind is MessageKind.RESOLVED else _NOTIFY_TYPES[message.severity]
            return _notify_service(url, title=_defuse(message.title), body=as_text(message), kind=kind)
        finally:
            self._lock.release()


def as_text(message: Message) -> str:
    """The message without its title, without mentions and markup for any service."""
    _, *lines = to_text(message).split("\n")
    return _defuse("\n".join([", ".join(attribute_texts(message)), *(line.strip() for line in lines)]))


def known_service(url: str) -> str | None:
    """The name of a URL's service; None if Apprise can't read the URL. Sends nothing."""
    import apprise

    _disable_logging()
    found = apprise.Apprise.instantiate(url, asset=_asset())
    return str(found.service_name) if found is not None else None


def _notify_service(url: str, *, title: str, body: str, kind: str) -> SendResult:
    import apprise

    _disable_logging()
    asset = _asset()
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        return SendResult(outcome=SendOutcome.SUSPENDED, reason="Apprise knows no service for its URL: check the URL")
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    if sender.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
        return SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    return SendResult(outcome=SendOutcome.RETRY, reason="the service did not accept it", certain=False)


def _asset() -> "apprise.AppriseAsset":
    """Apprise's settings: no threads, files, redirects, pictures or shortcodes."""
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
    """Apprise logs URLs and responses, which may hold secrets."""
    logging.getLogger("apprise").disabled = True


def _defuse(text: str) -> str:
    return _MARKUP_CHARACTERS.sub(rf"\g<0>{_ZERO_WIDTH_SPACE}", text)
