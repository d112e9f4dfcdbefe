"""Authentication: tokens that expire, the API key, revocations. It knows neither HTTP nor a clock."""

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.sandbox import responses
from monitor.sandbox.responses import JsonAnswer
from monitor.sandbox.settings import SandboxSettings

SCOPE = "api/access"


@dataclass(slots=True, kw_only=True)
class Credentials:
    """The client, the API key, and the issued tokens."""

    settings: SandboxSettings
    _tokens: dict[str, float] = field(default_factory=dict)  # until when
    _revoked: set[str] = field(default_factory=set)

    def token(self, given: tuple[str, str] | None, form: Mapping[str, str], now_s: float) -> JsonAnswer:
        """Answers the token endpoint: OAuth2 client credentials (RFC 6749, 4.4, 5.1, 5.2). `given`: from HTTP Basic."""
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
        self._tokens[token] = now_s + settings.token_seconds
        lifetime_s = int(settings.token_seconds)
        return 200, {"access_token": token, "expires_in": lifetime_s, "token_type": "Bearer", "scope": SCOPE}

    def authorize(self, authorization: str | None, now_s: float) -> str | JsonAnswer:
        """The client id or API key of a request, by its `Authorization` header; or why it is refused.

        As with Gloo, a rejected or malformed token gives 403, an expired one and one of a revoked client 401.
        """
        if not authorization:
            return 401, responses.MISSING_AUTHORIZATION
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return 403, responses.FORBIDDEN
        if value == self.settings.api_key:
            return (403, responses.FORBIDDEN) if value in self._revoked else value
        expires_s, client_id = self._tokens.get(value), self.settings.client_id
        if expires_s is None:
            return 403, responses.FORBIDDEN
        return (401, responses.EXPIRED_TOKEN) if expires_s <= now_s or client_id in self._revoked else client_id

    def revoke(self, name: str) -> None:
        """Revokes a client id or an API key until it is restored."""
        self._revoked.add(name)

    def restore(self, name: str) -> None:
        """Undoes a revocation; tokens issued before it work again."""
        self._revoked.discard(name)

    def expire_tokens(self) -> None:
        """Makes every issued token expire now."""
        self._tokens = dict.fromkeys(self._tokens, -math.inf)
