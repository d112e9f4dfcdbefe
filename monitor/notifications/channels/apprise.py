"""The channel `apprise`: each message is sent as text to one of the many services of the library Apprise.

The library reports only success or failure, and reads whatever a service answers into memory, without an end. So each
attempt runs in a process of its own, which has a limit for its memory and is killed on a timeout (ADR 27).
"""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
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

MAX_MEMORY_BYTES = 256 << 20
"""Of data in the process of one attempt, which takes 60 MiB by itself."""
_ACCEPTED, _NOT_ACCEPTED, _UNKNOWN_SERVICE = 0, 10, 11
"""Exit codes of the process. All others are those of a crash."""
_SCRIPT = """\
import json, sys
given = json.load(sys.stdin)
sys.path[:] = given.pop("path")
from monitor.notifications.channels.apprise import send_in_this_process
sys.exit(send_in_this_process(**given))
"""


class AppriseChannel:
    """Sends messages to one service, with `timeout_s` of wall-clock time for each. Reads its Apprise URL, a secret, for
    each message.
    """

    threaded = False

    def __init__(self, read_url: Callable[[], str], *, timeout_s: float) -> None:
        self._read_url, self._timeout_s = read_url, timeout_s

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:  # noqa: ARG002  # Channel's signature
        """Sends the message as text. A failed message may have arrived: Apprise does not say."""
        try:
            url = self._read_url()
        except MonitorError as error:
            return SendResult(outcome=SendOutcome.SUSPENDED, reason=f"its URL can't be read: {error}")
        clean = to_single_lines(message)
        kind = "success" if message.kind is MessageKind.RESOLVED else _NOTIFY_TYPES[message.severity]
        notification = {"url": url, "title": _defuse(clean.title), "body": as_text(clean), "kind": kind}
        try:
            code = await run_in_thread(
                partial(_run_process, notification, self._timeout_s), timeout_s=self._timeout_s + _KILL_S
            )
        except (TimeoutError, subprocess.TimeoutExpired):
            return SendResult(outcome=SendOutcome.RETRY, reason="no answer (timeout)", certain=False)
        return _result(code)


_KILL_S = 5.0
"""How long it may take to kill the process."""


def _run_process(notification: dict[str, str], timeout_s: float) -> int:
    """The exit code. Blocks; the process is killed after the timeout, and it ends by itself if this one has died."""
    given = json.dumps({**notification, "path": sys.path, "max_s": int(timeout_s) + 1}).encode()
    # the URL is a secret, which a command line would show; -P: no module of the working folder
    process = subprocess.run(  # noqa: S603  # our own script
        [sys.executable, "-P", "-c", _SCRIPT],
        input=given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=timeout_s,
        check=False,
    )
    return process.returncode


def _result(code: int) -> SendResult:
    if code == _ACCEPTED:
        return SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    if code == _UNKNOWN_SERVICE:
        return SendResult(outcome=SendOutcome.SUSPENDED, reason="Apprise knows no service for its URL: check the URL")
    reason = "the service did not accept it" if code == _NOT_ACCEPTED else f"the service's plugin failed (code {code})"
    return SendResult(outcome=SendOutcome.RETRY, reason=reason, certain=False)


def send_in_this_process(url: str, title: str, body: str, kind: str, max_s: int) -> int:
    """Limits this process to `MAX_MEMORY_BYTES` and `max_s` seconds, and sends; returns the exit code."""
    import signal

    with suppress(ImportError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
        signal.alarm(max_s)
    import apprise

    asset = _asset()
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        return _UNKNOWN_SERVICE
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    accepted = sender.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
    return _ACCEPTED if accepted else _NOT_ACCEPTED


def as_text(message: Message) -> str:
    """The message without its title, without mentions and markup for any service."""
    _, *lines = to_text(message).split("\n")
    if message.kind is MessageKind.REPORT:
        return _defuse("\n".join(line.strip() for line in lines))
    return _defuse("\n".join([", ".join(attribute_texts(message)), *(line.strip() for line in lines)]))


def known_service(url: str) -> str | None:
    """The name of a URL's service; None if Apprise can't read the URL. Sends nothing."""
    _disable_logging()  # its import logs too
    import apprise

    found = apprise.Apprise.instantiate(url, asset=_asset())
    return str(found.service_name) if found is not None else None


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
