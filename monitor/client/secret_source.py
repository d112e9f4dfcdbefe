"""One secret as a client needs it in the course of a run: read when its file changes, or when someone asks for it anew.

The clock is an argument. What the secret is for is its users' business; no text from here holds it or its place.
"""

import math
from collections.abc import Callable

from monitor.errors import MonitorError
from monitor.exchange import UNUSABLE_SECRET, ApiError

__all__ = ["GRACE_S", "SecretSource", "Stamp", "in_memory", "is_header_text"]

GRACE_S = 60.0
"""How long, in seconds, the last good value outlives a file that is missing, empty or unreadable.

Many rotations are not atomic (`cp`, an editor, a template that is written anew), and end within moments; a secret that
is still away after a minute was taken away, and whoever did so shall hear of it before the next start does.
"""

_LOOK_EVERY_S = 1.0

Stamp = Callable[[], tuple[int, ...] | None]
"""What tells one state of a secret's file from another; None for one that lives in memory and never changes."""


def in_memory() -> None:
    """The stamp of a secret that never changes by itself."""


class SecretSource:
    """The secret as it is now; made for one run.

    Args:
        read: the secret; may raise OSError, ValueError or MonitorError.
        name: what it is called in our errors, such as "API key".
        stamp: asked at most once per second; another stamp than at the last reading means another reading.
    """

    __slots__ = (
        "_name",
        "_read",
        "_stamp",
        "_stamp_read",
        "_trouble_at_s",
        "_value",
        "look_at_s",
        "trouble",
        "version",
    )

    def __init__(self, read: Callable[[], str], *, name: str, stamp: Stamp = in_memory) -> None:
        self._read, self._name, self._stamp = read, name, stamp
        self._stamp_read: tuple[int, ...] | None = None
        self._value: str | None = None
        self._trouble_at_s = 0.0
        self.look_at_s = -math.inf
        """Until then (monotonic seconds) `value` says what it said last."""
        self.trouble: ApiError | None = None
        """Why the last reading brought nothing; None if it did. Its code is `UNUSABLE_SECRET`."""
        self.version = 0
        """Goes up whenever a reading brings another value."""

    def value(self, now_s: float) -> str | ApiError:
        """The secret, without white space at its end, read anew if its file has changed.

        Args:
            now_s: monotonic seconds.

        Returns:
            The last good value, if it can't be read now and could be `GRACE_S` ago; later, why it can't.
        """
        if now_s >= self.look_at_s:
            stamp = self._stamp()
            if self.trouble is not None or self.version == 0 or stamp != self._stamp_read:
                self._take(now_s, stamp)
            self.look_at_s = math.inf if stamp is None else now_s + _LOOK_EVERY_S
        return self._held(now_s)

    def reread(self, now_s: float) -> str | ApiError:
        """The same after a reading now, whatever the stamp says: an API refused the value, or wants it once an hour."""
        # the stamp comes first: what is written in between is then met again at the next look
        self._take(now_s, self._stamp())
        return self._held(now_s)

    def _take(self, now_s: float, stamp: tuple[int, ...] | None) -> None:
        read = self._usable()
        if isinstance(read, ApiError):
            self._trouble_at_s = now_s if self.trouble is None else self._trouble_at_s
            self.trouble = read
            return
        self.trouble, self._stamp_read = None, stamp
        if read != self._value:
            self._value = read
            self.version += 1

    def _usable(self) -> str | ApiError:
        try:
            secret = self._read().rstrip()
        except (OSError, ValueError, MonitorError):
            # what they say may quote the secret or its place
            return _unusable(f"the {self._name} can't be read; check the file or setting that holds it")
        if is_header_text(secret):
            return secret
        return _unusable(
            f"the {self._name} is empty or holds characters that no header may carry; check where it is set"
        )

    def _held(self, now_s: float) -> str | ApiError:
        if self._value is not None and (self.trouble is None or now_s < self._trouble_at_s + GRACE_S):
            return self._value
        return self.trouble or _unusable(f"the {self._name} has not been read")


def is_header_text(text: str) -> bool:
    """Whether a header may carry it: printable ASCII, at least one character."""
    return bool(text) and text.isascii() and text.isprintable()


def _unusable(message: str) -> ApiError:
    # it ends a run as a refused token does: no call can be made without it
    return ApiError(status=None, code=UNUSABLE_SECRET, message=message, from_token_endpoint=True)
