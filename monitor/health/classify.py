"""From an answer to a meaning: the cause behind an error, and the outcome for the item that was asked about. Pure.

Decisions rest on the status; codes are looked at only where one status has two meanings (400, 403, 429).
"""

from collections.abc import Callable
from datetime import datetime

from monitor.exchange import UNUSABLE_SECRET, Answer, ApiError, NetworkFault
from monitor.model import BadBody, Cause, ItemState, ItemStatus, Outcome, Reason

__all__ = ["SCOPE_CODE", "SPENDING_CODES", "cause_of", "is_invalid_id", "malformed", "outcome_of"]

SPENDING_CODES = frozenset({"spending_limit_exceeded", "insufficient_quota", "billing_hard_limit_reached"})
"""429s that waiting does not cure (Gloo's error reference; OpenAI's `insufficient_quota`), case-folded."""

SCOPE_CODE = "publisher_not_found"
"""The 400 that says that the API does not know us, rather than the item (Gloo's error reference), case-folded."""

_UNUSABLE = frozenset({NetworkFault.PROTOCOL, NetworkFault.TOO_LARGE})


def cause_of(error: ApiError) -> Cause:
    """The request cause that an error is evidence of.

    404 and 410 are answers about an item, not errors of the request: for them this says `wrong_scope`, which they
    become when they are met where no item was asked for, or by the half (see `evidence`).
    """
    status = error.status
    if status is None:
        if error.is_our(UNUSABLE_SECRET):
            return Cause.UNAUTHORIZED
        return Cause.BAD_RESPONSE if error.network in _UNUSABLE else Cause.OUTAGE
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
            spent = code in SPENDING_CODES or (error.type or "").casefold() in SPENDING_CODES
            return Cause.SPENDING_LIMIT if spent else Cause.RATE_LIMITED
        case 400 if code == SCOPE_CODE:
            return Cause.WRONG_SCOPE
        case _:
            return Cause.BAD_REQUEST


def is_invalid_id(error: ApiError) -> bool:
    """Whether the API refused this very id (400 or 422, or a 403 that lists validation details)."""
    return error.status in {400, 403, 422} and cause_of(error) is Cause.BAD_REQUEST


def outcome_of(
    item_id: str, answer: Answer, read: Callable[[bytes, str], ItemStatus | BadBody], at: datetime
) -> Outcome:
    """What an answer says about the item that was asked for.

    Args:
        item_id: the id that was asked for.
        answer: how the call ended.
        read: the provider's reading of a 200's body.
        at: when (aware).
    """
    if answer.reply is not None:
        status = read(answer.reply.body, item_id)
        if isinstance(status, BadBody):
            error = ApiError(status=answer.reply.status, message=status.reason)
            return Outcome(
                item_id=item_id, state=ItemState.UNKNOWN, reason=Reason.BAD_RESPONSE, error=error, answered=False, at=at
            )
        return Outcome(
            item_id=item_id, state=status.state, stage=status.stage, recognised=status.recognised, answered=True, at=at
        )
    return _from_error(item_id, answer.error or ApiError(status=None), at)


def _from_error(item_id: str, error: ApiError, at: datetime) -> Outcome:
    if not error.from_token_endpoint:
        if error.status in {404, 410}:
            return Outcome(item_id=item_id, state=ItemState.NOT_FOUND, error=error, answered=True, at=at)
        if is_invalid_id(error):
            return Outcome(item_id=item_id, state=ItemState.INVALID, error=error, answered=True, at=at)
    reason = Reason(cause_of(error).value)
    return Outcome(item_id=item_id, state=ItemState.UNKNOWN, reason=reason, error=error, answered=False, at=at)


def malformed(item_id: str, at: datetime) -> Outcome:
    """The outcome for an id that the provider can't accept: quarantined, no request sent."""
    return Outcome(item_id=item_id, state=ItemState.INVALID, answered=False, at=at)
