"""Takes secrets out of what an API says: some repeat the key that they reject. Pure; what is secret is an argument."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from monitor.exchange import ApiError, Detail, Reply

__all__ = ["hiding", "without_credential", "without_secrets"]

_MASK = "**********"


def hiding(credential: str, mask: Callable[[str], str]) -> Callable[[str], str]:
    """What takes a credential, if there is one, and everything that `mask` knows out of a text."""
    return (lambda text: mask(text.replace(credential, _MASK))) if credential else mask


def without_credential(reply: Reply, credential: str) -> Reply:
    """The same reply with the credential masked in its body."""
    secret = credential.encode()
    if not secret or secret not in reply.body:
        return reply
    return msgspec.structs.replace(reply, body=reply.body.replace(secret, _MASK.encode()))


def without_secrets(error: ApiError, hide: Callable[[str], str]) -> ApiError:
    """The same error with `hide` applied to every text that came from outside."""

    def hidden(text: str | None) -> str | None:
        return None if text is None else hide(text)

    return replace(
        error,
        code=hidden(error.code),
        error=hidden(error.error),
        type=hidden(error.type),
        message=hidden(error.message),
        field=hidden(error.field),
        request_id=hidden(error.request_id),
        trace_id=hidden(error.trace_id),
        fault=hidden(error.fault),
        details=tuple(Detail(loc=hide(detail.loc), msg=hide(detail.msg)) for detail in error.details),
        gateway=tuple((name, hide(value)) for name, value in error.gateway),
    )
