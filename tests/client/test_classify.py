from datetime import UTC, datetime

import pytest

from monitor.client.classify import CREDENTIAL_CODES, cause_of, is_invalid_id, rejects_credentials
from monitor.model import BadBody, Cause, ItemState, ItemStatus
from monitor.model.http import ApiError, ErrorDetail, NetworkFault, Reply
from monitor.runs.outcomes import malformed_id_outcome, outcome_from_error, outcome_from_status

AT = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def error(status=None, **fields):
    return ApiError(status=status, **fields)


CAUSES = [
    ("network: refused", error(network=NetworkFault.REFUSED), Cause.OUTAGE),
    ("network: timeout", error(network=NetworkFault.TIMEOUT), Cause.OUTAGE),
    ("network: tls", error(network=NetworkFault.TLS), Cause.OUTAGE),
    ("garbage on the wire", error(network=NetworkFault.PROTOCOL), Cause.BAD_RESPONSE),
    ("body over the cap", error(network=NetworkFault.TOO_LARGE), Cause.BAD_RESPONSE),
    ("breaker open", error(code="breaker_open"), Cause.OUTAGE),
    ("unusable secret", error(code="unusable_credentials", from_token_endpoint=True), Cause.UNAUTHORIZED),
    ("token 400", error(400, from_token_endpoint=True), Cause.UNAUTHORIZED),
    ("token 401", error(401, code="invalid_client", from_token_endpoint=True), Cause.UNAUTHORIZED),
    ("token 403", error(403, from_token_endpoint=True), Cause.UNAUTHORIZED),
    ("token 503", error(503, from_token_endpoint=True), Cause.OUTAGE),
    ("token 429", error(429, from_token_endpoint=True), Cause.RATE_LIMITED),
    ("200 that can't be read", error(200), Cause.BAD_RESPONSE),
    ("redirect", error(302), Cause.BAD_RESPONSE),
    ("401", error(401), Cause.UNAUTHORIZED),
    ("402", error(402), Cause.SPENDING_LIMIT),
    ("403", error(403, code="forbidden"), Cause.FORBIDDEN),
    ("403 with a list of details", error(403, details=(ErrorDetail(loc="body.query", msg="x"),)), Cause.BAD_REQUEST),
    ("404", error(404), Cause.WRONG_SCOPE),
    ("410", error(410), Cause.WRONG_SCOPE),
    ("429", error(429, code="too_many_requests"), Cause.RATE_LIMITED),
    ("429 spending limit", error(429, code="SPENDING_LIMIT_EXCEEDED", retryable=True), Cause.SPENDING_LIMIT),
    ("429 quota, in the type", error(429, type="insufficient_quota"), Cause.SPENDING_LIMIT),
    ("400 publisher not found", error(400, code="Publisher_Not_Found"), Cause.WRONG_SCOPE),
    ("403 about the key", error(403, code="UnrecognizedClientException"), Cause.UNAUTHORIZED),
    ("400 about the signature", error(400, code="IncompleteSignature"), Cause.UNAUTHORIZED),
    ("404 with such a code", error(404, code="ExpiredTokenException"), Cause.WRONG_SCOPE),
    ("403 about the permission", error(403, code="AccessDeniedException"), Cause.FORBIDDEN),
    ("400", error(400), Cause.BAD_REQUEST),
    ("405", error(405), Cause.BAD_REQUEST),
    ("409", error(409), Cause.BAD_REQUEST),
    ("422", error(422), Cause.BAD_REQUEST),
    ("408", error(408), Cause.OUTAGE),
    ("500", error(500), Cause.OUTAGE),
    ("501", error(501), Cause.OUTAGE),
    ("504", error(504), Cause.OUTAGE),
]


@pytest.mark.parametrize(("failure", "cause"), [row[1:] for row in CAUSES], ids=[row[0] for row in CAUSES])
def test_an_error_has_one_cause(failure, cause):
    assert cause_of(failure) is cause


@pytest.mark.parametrize("code", sorted(CREDENTIAL_CODES))
def test_fresh_credentials_may_help_where_aws_says_that_the_key_is_wrong(code):
    refused = {status: rejects_credentials(error(status, code=code.upper())) for status in (400, 403, 404, 429, 500)}
    assert refused == {400: True, 403: True, 404: False, 429: False, 500: False}
    assert not rejects_credentials(error(403, code=code, page="Forbidden")), "a gateway's page"
    assert not is_invalid_id(error(400, code=code))


@pytest.mark.parametrize("code", [None, "forbidden", "AccessDeniedException"])
def test_a_403_that_denies_access_renews_nothing(code):
    assert not rejects_credentials(error(403, code=code))
    assert rejects_credentials(error(401, code=code))


def test_a_readable_200_gives_the_provider_s_reading():
    answer = Reply(status=200, headers={}, body=b"{}")
    status = ItemStatus(state=ItemState.PENDING, stage="Chunking", recognised=False)
    outcome = outcome_from_status("a", answer, status, AT)
    assert (outcome.state, outcome.stage, outcome.recognised, outcome.answered) == (
        ItemState.PENDING, "Chunking", False, True,
    )  # fmt: skip
    assert outcome.reason is None


def test_an_unreadable_200_is_unknown_and_never_healthy():
    answer = Reply(status=200, headers={}, body=b"<html>")
    outcome = outcome_from_status("a", answer, BadBody(reason="not JSON"), AT)
    assert (outcome.state, outcome.reason, outcome.answered) == (ItemState.UNKNOWN, Cause.BAD_RESPONSE, False)
    assert outcome.error is not None
    assert outcome.error.message == "not JSON"


OUTCOMES = [
    ("404", error(404), ItemState.NOT_FOUND, None, True),
    ("410", error(410), ItemState.NOT_FOUND, None, True),
    ("400 for the id", error(400), ItemState.INVALID, None, True),
    ("422 for the id", error(422), ItemState.INVALID, None, True),
    (
        "403 that is a validation error",
        error(403, details=(ErrorDetail(loc="q", msg="m"),)),
        ItemState.INVALID,
        None,
        True,
    ),
    ("400 for the publisher", error(400, code="publisher_not_found"), ItemState.UNKNOWN, Cause.WRONG_SCOPE, False),
    ("403 on one item", error(403), ItemState.UNKNOWN, Cause.FORBIDDEN, False),
    ("404 of the token endpoint", error(404, from_token_endpoint=True), ItemState.UNKNOWN, Cause.WRONG_SCOPE, False),
    ("409", error(409), ItemState.UNKNOWN, Cause.BAD_REQUEST, False),
    ("503", error(503), ItemState.UNKNOWN, Cause.OUTAGE, False),
]


@pytest.mark.parametrize(
    ("failure", "state", "reason", "answered"), [row[1:] for row in OUTCOMES], ids=[row[0] for row in OUTCOMES]
)
def test_an_error_gives_an_item_state_or_unknown(failure, state, reason, answered):
    outcome = outcome_from_error("a", failure, AT)
    assert (outcome.state, outcome.reason, outcome.answered) == (state, reason, answered)
    assert outcome.error == failure


def test_an_empty_answer_is_an_outage():
    assert outcome_from_error("a", ApiError(status=None), AT).reason is Cause.OUTAGE


def test_a_409_does_not_make_an_id_invalid():
    assert not is_invalid_id(error(409))
    assert is_invalid_id(error(400))


def test_a_malformed_id_is_invalid_without_a_request():
    outcome = malformed_id_outcome("not a uuid", AT)
    assert (outcome.state, outcome.answered, outcome.error) == (ItemState.INVALID, False, None)
