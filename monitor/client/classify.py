"""Maps an error to the cause that it is evidence of, and explains statuses. Pure.

The status decides, unless the provider's description says what an answer means; a code counts only where one status
has two meanings (400, 403, 429).
"""

from http import HTTPStatus

import msgspec

from monitor.model import WEIGHED_CAUSES, Cause
from monitor.model.http import UNUSABLE_CREDENTIALS, ApiError, Meaning, NetworkFault

SPENDING_CODES = frozenset({"spending_limit_exceeded", "insufficient_quota", "billing_hard_limit_reached"})
"""429s that waiting does not fix (Gloo's error reference; OpenAI's `insufficient_quota`), case-folded."""

CREDENTIAL_CODES = frozenset(
    {
        *("unrecognizedclientexception", "invalidsignatureexception", "expiredtokenexception", "requestexpired"),
        *("incompletesignature", "incompletesignatureexception", "invalidclienttokenid", "signaturedoesnotmatch"),
        *("missingauthenticationtoken", "missingauthenticationtokenexception", "invalidaccesskeyid", "expiredtoken"),
    }
)
"""400s and 403s that are about the key or the signature, where AWS denies access by the same status: unknown, expired,
signed with another secret, or by a clock that is more than five minutes off. Case-folded."""

SCOPE_CODE = "publisher_not_found"
"""The 400 for an unknown publisher, rather than a bad item id (Gloo's error reference), case-folded."""

_CAUSES = {
    Meaning.NOT_FOUND: Cause.WRONG_SCOPE,
    Meaning.INVALID: Cause.BAD_REQUEST,
    Meaning.SPENDING_LIMIT: Cause.SPENDING_LIMIT,
    Meaning.UNAUTHORIZED: Cause.UNAUTHORIZED,
    Meaning.FORBIDDEN: Cause.FORBIDDEN,
    Meaning.WRONG_SCOPE: Cause.WRONG_SCOPE,
    Meaning.RATE_LIMITED: Cause.RATE_LIMITED,
    Meaning.OUTAGE: Cause.OUTAGE,
    Meaning.BAD_REQUEST: Cause.BAD_REQUEST,
}
"""The first two as 404 and 400 have them, which normally answer for one item."""

_UNUSABLE_FAULTS = frozenset({NetworkFault.PROTOCOL, NetworkFault.TOO_LARGE})


_OF_ANY_SENDER = frozenset({401, 402, 408, 429})
"""4xx that mean the same whoever sends them: a gateway may check keys, limits and timeouts for the API."""


def is_gateways(error: ApiError) -> bool:
    """Whether a gateway refused the request: a 4xx with a page, where the API would have sent JSON.

    It says nothing about the item, the id or the credentials: the request did not reach the API.
    """
    status = error.status
    return error.page is not None and status is not None and 400 <= status < 500 and status not in _OF_ANY_SENDER


def cause_of(error: ApiError) -> Cause:
    """The request cause that an error is evidence of.

    A 404 or 410 normally answers for one item. Here it gives `wrong_scope`, which applies where the request was not for
    an item, or where half of the items answer so (see `incidents.evidence`).
    """
    status = error.status
    if error.meaning is not None:
        return _CAUSES[error.meaning]
    if status is None:
        if error.is_local(UNUSABLE_CREDENTIALS):
            return Cause.UNAUTHORIZED
        return Cause.BAD_RESPONSE if error.network in _UNUSABLE_FAULTS else Cause.OUTAGE
    if is_gateways(error):
        return Cause.BAD_RESPONSE
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
        case 400 | 403 if code in CREDENTIAL_CODES:
            return Cause.UNAUTHORIZED
        case 401:
            return Cause.UNAUTHORIZED
        case 402:
            return Cause.SPENDING_LIMIT
        case 403:
            # Gloo's search API answers a bad request with 403 and a list of details
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


def is_absent(error: ApiError) -> bool:
    """Whether the API says that there is no such item (404 or 410, or what its description says)."""
    if error.meaning is not None:
        return error.meaning is Meaning.NOT_FOUND
    return error.status in {404, 410} and not error.from_token_endpoint and not is_gateways(error)


def rejects_credentials(error: ApiError) -> bool:
    """Whether fresh credentials may help: a 401, a code that says so, or what the API's description says."""
    if error.meaning is not None:
        return error.meaning is Meaning.UNAUTHORIZED
    return error.status == 401 or (error.status in {400, 403} and _has_credential_code(error))


def _has_credential_code(error: ApiError) -> bool:
    return (error.code or "").casefold() in CREDENTIAL_CODES and not is_gateways(error)


def accepts_credentials(error: ApiError) -> bool:
    """Whether a failed request shows that the credentials are accepted: the API's own word about an item or its id."""
    return not error.from_token_endpoint and not error.cached and (is_absent(error) or is_invalid_id(error))


def is_invalid_id(error: ApiError) -> bool:
    """Whether the API rejected this id (400 or 422, a 403 that lists validation details, or what its description
    says).
    """
    if error.meaning is not None:
        return error.meaning is Meaning.INVALID
    return error.status in {400, 403, 422} and cause_of(error) is Cause.BAD_REQUEST


class StatusExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """What a response means."""

    cause: Cause | None
    """The request cause that it is evidence of; None if it is about the item."""
    explanation: str
    possible_causes: tuple[Cause, ...] = ()
    """If it is about the item: causes that it can become evidence of."""


def usual_status(code: str) -> int | None:
    """The status that a code which decides a cause comes with; None for any other code."""
    folded = code.casefold()
    if folded in SPENDING_CODES:
        return HTTPStatus.TOO_MANY_REQUESTS
    if folded in CREDENTIAL_CODES:
        return HTTPStatus.FORBIDDEN
    return HTTPStatus.BAD_REQUEST if folded == SCOPE_CODE else None


def explain_status(status: int, code: str | None = None) -> StatusExplanation:
    """What a response to a request for an item means, after retries did not help."""
    error = ApiError(status=status, code=code)
    if 200 <= status < 300:
        explanation, causes = _SUCCESS
    elif status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        explanation, causes = _NOT_FOUND
    elif is_invalid_id(error):
        explanation, causes = _INVALID_ID
    else:
        cause = cause_of(error)
        alone = _ALONE if cause in WEIGHED_CAUSES else ""
        return StatusExplanation(cause=cause, explanation=f"{_explain_cause(cause, status, code)}{alone}")
    token = "; from the token endpoint, a 400 is evidence of unauthorized" if status == 400 else ""
    return StatusExplanation(cause=None, explanation=f"a {status} {explanation}{token}", possible_causes=causes)


_ALONE = "; one item alone, while others are answered, is evidence of items_unverified after three runs"
_Explanation = tuple[str, tuple[Cause, ...]]
_SUCCESS: _Explanation = (
    "is an answer: the status in its body decides about the item; an unreadable body is evidence of bad_response",
    (Cause.ITEMS_FAILED, Cause.ITEMS_STUCK, Cause.ITEMS_REGRESSED, Cause.UNRECOGNISED_STATUS, Cause.BAD_RESPONSE),
)
_NOT_FOUND: _Explanation = (
    (
        "is about the item, which becomes not_found: evidence of items_missing if the API had it before, or if it was "
        "uploaded longer than missing_after ago; of wrong_scope if the list, or at least half of 5 items or more, "
        "answer with it; a page that is no JSON is a gateway's, and evidence of bad_response"
    ),
    (Cause.ITEMS_MISSING, Cause.WRONG_SCOPE, Cause.BAD_RESPONSE),
)
_INVALID_ID: _Explanation = (
    (
        "is about the item's id, which becomes invalid: evidence of items_invalid; of bad_request if 2 items or more "
        "are rejected and none is accepted; a page that is no JSON is a gateway's, and evidence of bad_response"
    ),
    (Cause.ITEMS_INVALID, Cause.BAD_REQUEST, Cause.BAD_RESPONSE),
)


def _explain_cause(cause: Cause, status: int, code: str | None) -> str:
    match cause:
        case Cause.UNAUTHORIZED:
            named = _with_code(status, None if status == 401 else code)
            return f"{named}, again after the credentials were renewed: they are rejected"
        case Cause.FORBIDDEN:
            return (
                f"{status} denies access: new credentials or another attempt do not help; "
                "from the token endpoint, it is evidence of unauthorized"
            )
        case Cause.SPENDING_LIMIT:
            return f"{_with_code(status, code if status == 429 else None)} asks for money: waiting does not cure it"
        case Cause.RATE_LIMITED:
            return f"{_with_code(status, code)} asks to slow down: waiting cures it"
        case Cause.WRONG_SCOPE:
            return f"{_with_code(status, code)}: the API does not know the publisher"
        case Cause.OUTAGE:
            return f"{status}: the service fails or does not answer in time"
        case Cause.BAD_RESPONSE:
            return f"{status} is not a usable answer: redirects are never followed"
        case _:
            return f"{status}: the API rejects the form of the request"


def _with_code(status: int, code: str | None) -> str:
    return f"{status} with the code {code}" if code else str(status)
