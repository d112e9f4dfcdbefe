"""What one answer of an API comes to, in words: the cause that it is evidence of, or what it says about the item. Pure.

`classify` decides; this says why, for people who ask before it happens.
"""

from dataclasses import dataclass
from http import HTTPStatus

from monitor.exchange import ApiError
from monitor.health.classify import SCOPE_CODE, SPENDING_CODES, cause_of, is_invalid_id
from monitor.model import Cause

__all__ = ["Meaning", "meaning_of", "usual_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What an answer comes to."""

    cause: Cause | None
    """The request cause that it is evidence of; None when it is about the item that was asked for."""
    why: str
    may_become: tuple[Cause, ...] = ()
    """Causes that it can become evidence of where it is about the item."""


def usual_status(code: str) -> int | None:
    """The status with which an error code comes that is decided by, or None for any other code."""
    folded = code.casefold()
    if folded in SPENDING_CODES:
        return HTTPStatus.TOO_MANY_REQUESTS
    return HTTPStatus.BAD_REQUEST if folded == SCOPE_CODE else None


def meaning_of(status: int, code: str | None = None) -> Meaning:
    """What an answer to a question about an item comes to, once retries did not help.

    Args:
        status: of HTTP.
        code: the error's code, if it had one.
    """
    error = ApiError(status=status, code=code)
    if 200 <= status < 300:
        return _answered(status)
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return _absent(status)
    if is_invalid_id(error):
        return _refused(status)
    cause = cause_of(error)
    return Meaning(cause=cause, why=_why(cause, status, code))


def _answered(status: int) -> Meaning:
    return Meaning(
        cause=None,
        why=f"a {status} is an answer: the status in its body decides about the item; a body that can't be read is "
        "evidence of bad_response",
        may_become=(
            Cause.ITEMS_FAILED,
            Cause.ITEMS_STUCK,
            Cause.ITEMS_REGRESSED,
            Cause.UNRECOGNISED_STATUS,
            Cause.BAD_RESPONSE,
        ),
    )


def _absent(status: int) -> Meaning:
    return Meaning(
        cause=None,
        why=f"a {status} is about the item, which becomes not_found: evidence of items_missing if the API had it "
        "before, or if it was uploaded longer than missing_after ago; of wrong_scope if half or more of at least 5 "
        "items answer so, or the list does",
        may_become=(Cause.ITEMS_MISSING, Cause.WRONG_SCOPE),
    )


def _refused(status: int) -> Meaning:
    token = "; said by the token endpoint, a 400 is evidence of unauthorized" if status == 400 else ""
    return Meaning(
        cause=None,
        why=f"a {status} is about the item's id, which becomes invalid: evidence of items_invalid; of bad_request if 5 "
        f"items or more are refused so and none is accepted{token}",
        may_become=(Cause.ITEMS_INVALID, Cause.BAD_REQUEST),
    )


def _why(cause: Cause, status: int, code: str | None) -> str:
    match cause:
        case Cause.UNAUTHORIZED:
            return f"{status}, again after the credentials were renewed: they are rejected"
        case Cause.FORBIDDEN:
            return (
                f"{status} denies access: neither newer credentials nor another attempt cure it; "
                "said by the token endpoint, it is evidence of unauthorized"
            )
        case Cause.SPENDING_LIMIT:
            return f"{_with(status, code if status == 429 else None)} asks for money: waiting does not cure it"
        case Cause.RATE_LIMITED:
            return f"{_with(status, code)} asks to slow down: waiting cures it"
        case Cause.WRONG_SCOPE:
            return f"{_with(status, code)}: the API does not know the publisher"
        case Cause.OUTAGE:
            return f"{status}: the service fails, or does not answer in time"
        case Cause.BAD_RESPONSE:
            return f"{status} is no answer that can be used: redirects are never followed"
        case _:
            return f"{status} refuses the form of the request"


def _with(status: int, code: str | None) -> str:
    return f"{status} with the code {code}" if code else str(status)
