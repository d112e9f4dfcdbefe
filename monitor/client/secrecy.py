"""Takes secrets out of what an API says: some repeat the key that they reject. Pure; what is secret is an argument."""

from collections.abc import Callable
from dataclasses import replace

from monitor.exchange import ApiError, Detail

__all__ = ["without_secrets"]


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
