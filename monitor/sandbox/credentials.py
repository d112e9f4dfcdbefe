"""Who is let in: tokens that expire, the API key, revocations. It speaks no HTTP and reads no clock."""

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.sandbox import responses
from monitor.sandbox.responses import JsonAnswer
from monitor.sandbox.settings import SandboxSettings

SCOPE = "api/access"


@dataclass(slots=True, kw_only=True)
class _Token:
    subject: str
    expires_s: float


@dataclass(slots=True, kw_only=True)
class Credentials:
    """The client, the API key, and the tokens that were issued."""

    settings: SandboxSettings
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _revoked: set[str] = field(default_factory=set)

    def token(self, given: tuple[str, str] | None, form: Mapping[str, str], now_s: float) -> JsonAnswer:
        """Answers the token endpoint: OAuth2 client credentials with HTTP Basic (RFC 6749, 4.4, 5.1, 5.2).

        Args:
            given: name and password of HTTP Basic; None without.
            form: the body's fields.
            now_s: the moment of the call.
        """
        settings = self.settings
        if given != (settings.client_id, settings.client_secret) or settings.client_id in self._revoked:
            return 401, responses.INVALID_CLIENT
        if not form.get("grant_type"):
            return 400, responses.MISSING_GRANT
        if form["grant_type"] != "client_credentials":
            return 400, responses.UNSUPPORTED_GRANT
        if form.get("scope", SCOPE) not in {SCOPE, ""}:
            return 400, responses.INVALID_SCOPE
        token = secrets.token_urlsafe(24)
        self._tokens[token] = _Token(subject=settings.client_id, expires_s=now_s + settings.token_seconds)
        lifetime_s = int(settings.token_seconds)
        return 200, {"access_token": token, "expires_in": lifetime_s, "token_type": "Bearer", "scope": SCOPE}

    def authorize(self, authorization: str | None, now_s: float) -> str | JsonAnswer:
        """Whose call this is, by its `Authorization` header: a client id or the API key; or why it is refused.

        A rejected or malformed token answers 403, an expired one and one of a revoked client 401, as Gloo's do.
        """
        if not authorization:
            return 401, responses.MISSING_AUTHORIZATION
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return 403, responses.FORBIDDEN
        if value == self.settings.api_key:
            return (403, responses.FORBIDDEN) if value in self._revoked else value
        token = self._tokens.get(value)
        if token is None:
            return 403, responses.FORBIDDEN
        if token.expires_s <= now_s or token.subject in self._revoked:
            return 401, responses.EXPIRED_TOKEN
        return token.subject

    def revoke(self, name: str) -> None:
        """Revokes a client id or an API key until it is restored."""
        self._revoked.add(name)

    def restore(self, name: str) -> None:
        """Undoes a revocation; tokens that were issued before it work again."""
        self._revoked.discard(name)

    def expire_tokens(self) -> None:
        """Makes every issued token expire now."""
        for token in self._tokens.values():
            token.expires_s = -math.inf
