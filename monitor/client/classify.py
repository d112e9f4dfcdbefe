"""From an answer to a meaning: the cause behind an error, and the outcome for the item that was asked about. Pure.

Decisions rest on the status; codes are looked at only where one status has two meanings (400, 403, 429).
"""

from dataclasses import dataclass
from http import HTTPStatus

from monitor.model import Cause
from monitor.model.http import UNUSABLE_CREDENTIALS, ApiError, NetworkFault

SPENDING_CODES = frozenset({"spending_limit_exceeded", "insufficient_quota", "billing_hard_limit_reached"})
"""429s that waiting does not cure (Gloo's error reference; OpenAI's `insufficient_quota`), case-folded."""

SCOPE_CODE = "publisher_not_found"
"""The 400 that says that the API does not know us, rather than the item (Gloo's error reference), case-folded."""

_UNUSABLE_FAULTS = frozenset({NetworkFault.PROTOCOL, NetworkFault.TOO_LARGE})


def cause_of(error: ApiError) -> Cause:
    """The request cause that an error is evidence of.

    404 and 410 are answers about an item, not errors of the request: for them this says `wrong_scope`, which they
    become when they are met where no item was asked for, or by the half (see `evidence`).
    """
    status = error.status
    if status is None:
        if error.is_local(UNUSABLE_CREDENTIALS):
            return Cause.UNAUTHORIZED
        return Cause.BAD_RESPONSE if error.network in _UNUSABLE_FAULTS else Cause.OUTAGE
    if error.from_token_endpoint and status in {400, 401, 403}:
        return Cause.UNAUTHORIZED
    if status < 400:
        return Cause.BAD_RESPONSE
    if status >= 500 or status == 408:
        return Cause.OUTAGE
    return _client_error(error, status)


def _client_error(error: ApiError, status: int) -> Cause:
    code = (error.code or "").casefold()
    match status:
        case 401:
            return Cause.UNAUTHORIZED
        case 402:
            return Cause.SPENDING_LIMIT
        case 403:
            # Gloo answers a bad request of its search API with 403 and a list of details.
            return Cause.BAD_REQUEST if error.details else Cause.FORBIDDEN
        case 404 | 410:
            return Cause.WRONG_SCOPE
        case 429:
            is_spending_limit = code in SPENDING_CODES or (error.type or "").casefold() in SPENDING_CODES
            return Cause.SPENDING_LIMIT if is_spending_limit else Cause.RATE_LIMITED
        case 400 if code == SCOPE_CODE:
            return Cause.WRONG_SCOPE
        case _:
            return Cause.BAD_REQUEST


def is_invalid_id(error: ApiError) -> bool:
    """Whether the API refused this very id (400 or 422, or a 403 that lists validation details)."""
    return error.status in {400, 403, 422} and cause_of(error) is Cause.BAD_REQUEST


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusExplanation:
    """What an answer comes to."""

    cause: Cause | None
    """The request cause that it is evidence of; None when it is about the item that was asked for."""
    explanation: str
    possible_causes: tuple[Cause, ...] = ()
    """Causes that it can become evidence of where it is about the item."""


def usual_status(code: str) -> int | None:
    """The status with which an error code comes that is decided by, or None for any other code."""
    folded = code.casefold()
    if folded in SPENDING_CODES:
        return HTTPStatus.TOO_MANY_REQUESTS
    return HTTPStatus.BAD_REQUEST if folded == SCOPE_CODE else None


def explain_status(status: int, code: str | None = None) -> StatusExplanation:
    """What an answer to a question about an item comes to, once retries did not help.

    Args:
        status: of HTTP.
        code: the error's code, if it had one.
    """
    error = ApiError(status=status, code=code)
    if 200 <= status < 300:
        return _explain_success(status)
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return _explain_not_found(status)
    if is_invalid_id(error):
        return _explain_invalid_id(status)
    cause = cause_of(error)
    return StatusExplanation(cause=cause, explanation=_explain_cause(cause, status, code))


def _explain_success(status: int) -> StatusExplanation:
    return StatusExplanation(
        cause=None,
        explanation=f"a {status} is an answer: the status in its body decides about the item; a body that can't be read is "
        "evidence of bad_response",
        possible_causes=(
            Cause.ITEMS_FAILED,
            Cause.ITEMS_STUCK,
            Cause.ITEMS_REGRESSED,
            Cause.UNRECOGNISED_STATUS,
            Cause.BAD_RESPONSE,
        ),
    )


def _explain_not_found(status: int) -> StatusExplanation:
    return StatusExplanation(
        cause=None,
        explanation=f"a {status} is about the item, which becomes not_found: evidence of items_missing if the API had it "
        "before, or if it was uploaded longer than missing_after ago; of wrong_scope if half or more of at least 5 "
        "items answer so, or the list does",
        possible_causes=(Cause.ITEMS_MISSING, Cause.WRONG_SCOPE),
    )


def _explain_invalid_id(status: int) -> StatusExplanation:
    token = "; said by the token endpoint, a 400 is evidence of unauthorized" if status == 400 else ""
    return StatusExplanation(
        cause=None,
        explanation=f"a {status} is about the item's id, which becomes invalid: evidence of items_invalid; of bad_request if 5 "
        f"items or more are refused so and none is accepted{token}",
        possible_causes=(Cause.ITEMS_INVALID, Cause.BAD_REQUEST),
    )


def _explain_cause(cause: Cause, status: int, code: str | None) -> str:
    match cause:
        case Cause.UNAUTHORIZED:
            return f"{status}, again after the credentials were renewed: they are rejected"
        case Cause.FORBIDDEN:
            return (
                f"{status} denies access: neither newer credentials nor another attempt cure it; "
                "said by the token endpoint, it is evidence of unauthorized"
            )
        case Cause.SPENDING_LIMIT:
            return f"{_with_code(status, code if status == 429 else None)} asks for money: waiting does not cure it"
        case Cause.RATE_LIMITED:
            return f"{_with_code(status, code)} asks to slow down: waiting cures it"
        case Cause.WRONG_SCOPE:
            return f"{_with_code(status, code)}: the API does not know the publisher"
        case Cause.OUTAGE:
            return f"{status}: the service fails, or does not answer in time"
        case Cause.BAD_RESPONSE:
            return f"{status} is no answer that can be used: redirects are never followed"
        case _:
            return f"{status} refuses the form of the request"


def _with_code(status: int, code: str | None) -> str:
    return f"{status} with the code {code}" if code else str(status)
