"""The token endpoint's side of OAuth2 client credentials (RFC 6749, 4.4): what it is asked, and what it answers. Pure.

When a token is asked for, and who waits for it, is decided in `auth`.
"""

import base64
import dataclasses
import math
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from monitor.client.secret_source import is_header_text
from monitor.exchange import ApiError, Operation, Reply, Request

__all__ = ["Token", "read_token", "token_request"]

_DEFAULT_LIFE_S = 3600.0
_LONGEST_LIFE_S = 30 * 86_400.0
_EARLY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token as it was granted."""

    value: str = dataclasses.field(repr=False)
    life_s: float
    """Seconds (> 0, at most 30 days)."""

    @property
    def fresh_s(self) -> float:
        """Seconds until it is to be refreshed: 60 s before its end, or half-way if that is later."""
        return max(self.life_s - _EARLY_S, self.life_s / 2)


def token_request(*, path: str, client_id: str, secret: str, scope: str) -> Request:
    """The request for a token: HTTP Basic (RFC 6749, 2.3.1); an empty scope is not sent."""
    pair = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
    return Request(
        method="POST",
        path=path,
        template="token endpoint",
        operation=Operation.TOKEN,
        headers={"authorization": f"Basic {pair}", "content-type": "application/x-www-form-urlencoded"},
        body=urlencode(form, safe="/").encode(),
    )


def read_token(reply: Reply) -> Token | ApiError:
    """The token in a 2xx, or an error with the code `unusable_token`.

    An `expires_in` that is missing or makes no sense (zero and below included: some mean "never") counts as an hour;
    a token that ends before is met by a 401 and replaced.
    """
    try:
        body = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):
        body = None
    value = body.get("access_token") if isinstance(body, dict) else None
    if not (isinstance(value, str) and is_header_text(value)):
        return ApiError(
            status=reply.status,
            code="unusable_token",
            message="the token endpoint answered without a usable access_token",
            from_token_endpoint=True,
        )
    return Token(value=value, life_s=_life_s(body.get("expires_in")))


def _life_s(expires_in: object) -> float:
    try:
        life_s = float(expires_in) if isinstance(expires_in, int | float | str) else _DEFAULT_LIFE_S
    except (ValueError, OverflowError):
        return _DEFAULT_LIFE_S
    sane = math.isfinite(life_s) and life_s > 0 and not isinstance(expires_in, bool)
    return min(life_s, _LONGEST_LIFE_S) if sane else _DEFAULT_LIFE_S
