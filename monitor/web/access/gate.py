"""Decides who a request comes from, by token, cookie or address, and answers those who may not pass.

It keeps the failures of the last minute and the token's file as it was last read; sessions are in the cookies alone.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from math import ceil

from monitor import logs
from monitor.config.secret import Secret
from monitor.config.web import WebConfig
from monitor.database.text import to_single_line
from monitor.errors import ConfigError
from monitor.threads import run_in_thread
from monitor.web.access.attempts import Attempts
from monitor.web.access.origins import host_port, is_public_host
from monitor.web.access.sessions import (
    MAX_NAME_CHARS,
    Session,
    bearer_token,
    cookie_name,
    csrf_token,
    is_csrf_token,
    is_token,
    seal,
    session_key,
    set_cookie,
    unseal,
)
from monitor.web.site import Viewer
from monitor.web.state import StateTracker

_FILE_TIMEOUT_S = 3.0


class Refusal(StrEnum):
    """Why a request has no viewer."""

    NO_TOKEN_SET = auto()
    """The address is not loopback, and there is no token to ask for."""
    TOKEN_UNREADABLE = auto()
    NOT_LOGGED_IN = auto()
    WRONG_TOKEN = auto()
    LIMITED = auto()
    """Too many wrong tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who sends a request, or why nobody may."""

    viewer: Viewer = field(default_factory=Viewer)
    refusal: Refusal | None = None
    session: Session | None = None
    key: bytes = b""
    by_token: bool = False
    """A program with the token in a header: it needs no CSRF token, since no browser sends that by itself."""
    new_cookie: str | None = None
    """The header that stores the session."""
    wait_s: int = 0
    """After `LIMITED`: seconds until the next attempt."""

    def may_post(self, form: Mapping[str, str]) -> bool:
        """Whether the form carries the CSRF token of this session."""
        if self.by_token:
            return True
        given = form.get("csrf_token", "")
        return self.session is not None and is_csrf_token(given, self.session, self.key)


class Gate:
    """Identifies visitors of one daemon's page, by its current configuration."""

    def __init__(self, tracker: StateTracker, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tracker, self._monotonic = tracker, monotonic
        self._attempts = Attempts()
        self._anonymous_key = secrets.token_bytes(32)
        self._read: tuple[Secret, tuple[int, ...] | None, str] | None = None
        """The token as it was last read, with its setting and the file's stamp."""

    @property
    def web(self) -> WebConfig:
        """The settings in force."""
        return self._tracker.config.web

    def is_secure(self, host: str) -> bool:
        """Whether a browser that named this host reaches the page over https."""
        url = self.web.public_url
        return url is not None and url.lower().startswith("https:") and is_public_host(host, url)

    def cookie(self, value: str, *, host: str) -> str:
        """The header that stores a session for a browser that named this host; an empty value deletes it."""
        return set_cookie(value, secure=self.is_secure(host), port=host_port(host))

    async def identify(self, *, host: str, cookies: Mapping[str, str], authorization: str, client: str) -> Visitor:
        """Who sends a request with these headers from this address."""
        cookie = cookies.get(cookie_name(secure=self.is_secure(host), port=host_port(host)), "")
        if self.web.token is None:
            return (
                self._anonymous(cookie, host, client) if self.web.on_loopback else Visitor(refusal=Refusal.NO_TOKEN_SET)
            )
        token = await self._token(self.web.token)
        if token is None:
            return Visitor(refusal=Refusal.TOKEN_UNREADABLE)
        if (given := bearer_token(authorization)) is not None:
            refused = self._check(given, token, client)
            return refused or Visitor(
                viewer=Viewer(can_see_all=True, can_act=self.web.actions, source=f"API token at {client}"),
                by_token=True,
            )
        key = session_key(token)
        session = unseal(cookie, key, now=self._tracker.utcnow())
        # an anonymous session has another key, so that it is never a login
        return Visitor(refusal=Refusal.NOT_LOGGED_IN) if session is None else self._visitor(session, key)

    async def log_in(self, *, token: str, name: str, host: str, client: str) -> Visitor:
        """A new session for somebody who sent a token and a name (not blank)."""
        if self.web.token is None:
            return Visitor(refusal=Refusal.NO_TOKEN_SET)
        right = await self._token(self.web.token)
        if right is None:
            return Visitor(refusal=Refusal.TOKEN_UNREADABLE)
        if (refused := self._check(token.strip(), right, client)) is not None:
            return refused
        key, session = session_key(right), self._new_session(to_single_line(name, MAX_NAME_CHARS))
        cookie = self.cookie(seal(session, key), host=host)
        return replace(self._visitor(session, key), new_cookie=cookie)

    def _anonymous(self, cookie: str, host: str, client: str) -> Visitor:
        """Somebody on this machine, where no token is asked for; the session is only for forms."""
        key, viewer = (
            self._anonymous_key,
            Viewer(can_see_all=True, source=f"page at {client}", can_act=self.web.actions),
        )
        if not self.web.actions:
            return Visitor(viewer=viewer)
        session = unseal(cookie, key, now=self._tracker.utcnow())
        new = session is None
        session = session or self._new_session(None)
        viewer = replace(viewer, csrf_token=csrf_token(session, key))
        new_cookie = self.cookie(seal(session, key), host=host) if new else None
        return Visitor(viewer=viewer, session=session, key=key, new_cookie=new_cookie)

    def _visitor(self, session: Session, key: bytes) -> Visitor:
        viewer = Viewer(
            name=session.name,
            logged_in=True,
            can_see_all=True,
            can_act=self.web.actions,
            csrf_token=csrf_token(session, key),
        )
        return Visitor(viewer=viewer, session=session, key=key)

    def _new_session(self, name: str | None) -> Session:
        return Session(id=secrets.token_urlsafe(16), name=name, began_at=self._tracker.utcnow())

    def _check(self, given: str, token: str, client: str) -> Visitor | None:
        """The refusal of a token; None if it is the right one. While limited, the right one is refused, too."""
        now_s = self._monotonic()
        if (wait_s := self._attempts.wait_s(client, now_s=now_s)) > 0:
            return Visitor(refusal=Refusal.LIMITED, wait_s=ceil(wait_s))
        if is_token(given, token):
            self._attempts.succeeded(client)
            return None
        self._attempts.failed(client, now_s=now_s)
        logs.warn_rate_limited("page_token_refused", reason="a wrong token was sent", client=client)
        return Visitor(refusal=Refusal.WRONG_TOKEN)

    async def _token(self, secret: Secret) -> str | None:
        """The token now; None if its file can't be read, which is logged. The file is read only if it has changed."""
        stamp, read = secret.stamp(), self._read
        if read is not None and read[0] is secret and read[1] == stamp:
            return read[2]
        try:
            token = await run_in_thread(secret.reveal, timeout_s=_FILE_TIMEOUT_S)
        except (ConfigError, TimeoutError) as error:
            reason = str(error) if isinstance(error, ConfigError) else "its file can't be read in time"
            logs.warn_rate_limited("page_token_unreadable", reason=reason)
            return None
        logs.register_secret(token)
        self._read = secret, stamp, token
        return token
