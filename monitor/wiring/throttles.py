"""What an origin and a credential are called together, so that targets on one key share what was learned about it."""

import hashlib
import secrets
from urllib.parse import urlsplit

from monitor.config import ApiKeyAuth, Target
from monitor.errors import ConfigError

__all__ = ["origin_of", "same_key", "throttle_key"]

_PORTS = {"https": 443, "http": 80}
_PEPPER = secrets.token_bytes(32)
_made: dict[bytes, str] = {}
"""Names of API keys that this process made already, under hashes that are of use to nobody else."""


def throttle_key(target: Target) -> str:
    """The name of a target's origin and credential: 32 hexadecimal digits.

    It is stored, so it must not help anybody to an API key: scrypt (RFC 7914) makes each guess cost about 10 ms and
    4 MiB, which a process pays once per key. A client's id is no secret (RFC 6749, 2.2), and its secret is not part of
    the name: when it is rotated, the account is the same.

    Reads the file of an API key, if it is in one. A key that can't be read shares nothing with other targets.
    """
    origin, credential = origin_of(target).encode(), _credential(target).encode()
    if not isinstance(target.auth, ApiKeyAuth):
        return hashlib.blake2b(origin + b"\n" + credential, digest_size=16).hexdigest()
    known = hashlib.blake2b(origin + b"\n" + credential, key=_PEPPER).digest()
    if known not in _made:
        _made[known] = hashlib.scrypt(credential, salt=origin, n=1 << 12, r=8, p=1, dklen=16).hex()
    return _made[known]


def same_key(one: Target, another: Target) -> bool:
    """Whether both have one key, at a hundredth of the cost of making it."""
    return origin_of(one) == origin_of(another) and _credential(one) == _credential(another)


def origin_of(target: Target) -> str:
    """Where a target's API is: `scheme://host:port`, the host in lower case, the port always there (RFC 6454, 4)."""
    parts = urlsplit(target.base_url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS[parts.scheme]}"


def _credential(target: Target) -> str:
    """Names a credential; the word before the colon keeps a key that looks like a client's id apart from it."""
    if target.auth is None:
        return "none"
    if not isinstance(target.auth, ApiKeyAuth):
        return f"client:{target.auth.client_id}"
    try:
        return f"key:{target.auth.api_key.reveal()}"
    except ConfigError:
        # the run finds it out as well, and says so
        return f"setting:targets.{target.name}.auth.api_key"
