"""Signed session cookies and CSRF tokens. Pure: keys, ids and the time are arguments.

Nothing is stored: a cookie holds a name, an id and the time of its login, signed with a key that is derived from the
token, so that another token ends all sessions. A logout deletes the cookie in the browser, and no more.
"""

import base64
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SESSION_AGE = timedelta(hours=12)
"""From the login on, whatever is done in between."""
MAX_NAME_CHARS = 100
_COOKIE = "ingestion_monitor"
BOUNCE_COOKIE = "ingestion_monitor_bounce"
"""Says for a moment that a page has just loaded itself again, so that it does so once."""
_BOUNCE_S = 10
_MAX_COOKIE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login, or without a token an anonymous visit."""

    id: str
    """Random; CSRF tokens belong to it."""
    name: str | None
    """The name given at the login; None for an anonymous visit."""
    began_at: datetime


def session_key(token: str) -> bytes:
    """The key that signs sessions."""
    return hmac.digest(token.encode(), b"session of the page, version 1", "sha256")


def is_token(given: str, token: str) -> bool:
    """Whether a token is the right one, in constant time."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def bearer_token(authorization: str) -> str | None:
    """The token in an Authorization header; None without one of the scheme Bearer.

    Others are not for us: a browser sends the password that a proxy asked it for (Basic) with every request.
    """
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def seal(session: Session, key: bytes) -> str:
    """The value of a session's cookie."""
    fields = [session.id, session.name, int(session.began_at.timestamp())]
    payload = _encode(json.dumps(fields, separators=(",", ":")).encode())
    return f"{payload}.{_encode(_signature(payload, key))}"


def unseal(value: str, key: bytes, *, now: datetime) -> Session | None:
    """The session of a cookie; None if it was not sealed with this key, or has expired."""
    payload, dot, signature = value.partition(".")
    if not dot or len(value) > _MAX_COOKIE or not value.isascii():
        return None
    if not hmac.compare_digest(signature.encode(), _encode(_signature(payload, key)).encode()):
        return None
    identity, name, began_s = json.loads(_decode(payload))
    session = Session(id=identity, name=name, began_at=datetime.fromtimestamp(began_s, UTC))
    return session if session.began_at <= now < session.began_at + SESSION_AGE else None


def csrf_token(session: Session, key: bytes) -> str:
    """What a form of this session has to send."""
    return _encode(hmac.digest(key, b"csrf:" + session.id.encode(), "sha256"))


def is_csrf_token(given: str, session: Session, key: bytes) -> bool:
    """Whether a form belongs to this session, in constant time."""
    return hmac.compare_digest(given.encode(errors="replace"), csrf_token(session, key).encode())


def cookie_name(*, secure: bool, port: str = "") -> str:
    """A name that a browser takes from this host alone, over https (RFC 6265bis, 4.1.3).

    Browsers keep one cookie of a name for all ports of a host: two pages, such as of two tunnels to this machine, would
    end each other's logins.
    """
    name = f"{_COOKIE}_{port}" if port else _COOKIE
    return f"__Host-{name}" if secure else name


def set_cookie(value: str, *, secure: bool, port: str = "") -> str:
    """The header that stores a session; an empty value deletes it."""
    age_s = int(SESSION_AGE.total_seconds()) if value else 0
    flags = "; Secure" if secure else ""
    return f"{cookie_name(secure=secure, port=port)}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{flags}"


def bounce_cookie(*, age_s: int = _BOUNCE_S) -> str:
    """The header that stores `BOUNCE_COOKIE`, or with 0 deletes it. It has no secret, and must arrive by a link."""
    return f"{BOUNCE_COOKIE}=1; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax"


def _signature(payload: str, key: bytes) -> bytes:
    return hmac.digest(key, b"session:" + payload.encode(), "sha256")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
