import pytest
from support.samples import NOW

from monitor.client.classify import CREDENTIAL_CODES, SPENDING_CODES, explain_status, usual_status
from monitor.model import Cause
from monitor.model.http import ApiError
from monitor.runs.outcomes import outcome_from_error

MEANINGS = [
    (401, None, Cause.UNAUTHORIZED, "401, again after the credentials were renewed"),
    (402, None, Cause.SPENDING_LIMIT, "402 asks for money"),
    (403, None, Cause.FORBIDDEN, "403 denies access"),
    (400, "PUBLISHER_NOT_FOUND", Cause.WRONG_SCOPE, "400 with the code PUBLISHER_NOT_FOUND"),
    (429, None, Cause.RATE_LIMITED, "429 asks to slow down"),
    (429, "SLOW_DOWN", Cause.RATE_LIMITED, "429 with the code SLOW_DOWN asks to slow down"),
    (429, "SPENDING_LIMIT_EXCEEDED", Cause.SPENDING_LIMIT, "429 with the code SPENDING_LIMIT_EXCEEDED asks for money"),
    (402, "whatever", Cause.SPENDING_LIMIT, "402 asks for money"),
    (408, None, Cause.OUTAGE, "408: the service fails"),
    (503, None, Cause.OUTAGE, "503: the service fails"),
    (302, None, Cause.BAD_RESPONSE, "302 is not a usable answer"),
    (101, None, Cause.BAD_RESPONSE, "101 is not a usable answer"),
    (405, None, Cause.BAD_REQUEST, "405: the API rejects the form"),
]


@pytest.mark.parametrize(("status", "code", "cause", "why"), MEANINGS, ids=[f"{m[0]} {m[1] or ''}" for m in MEANINGS])
def test_the_cause_of_an_answer(status, code, cause, why):
    meaning = explain_status(status, code)
    assert (meaning.cause, meaning.possible_causes) == (cause, ())
    assert meaning.explanation.startswith(why)


ABOUT_THE_ITEM = [
    (200, "is an answer", {Cause.ITEMS_FAILED, Cause.ITEMS_STUCK, Cause.BAD_RESPONSE}),
    (404, "becomes not_found", {Cause.ITEMS_MISSING, Cause.WRONG_SCOPE}),
    (410, "becomes not_found", {Cause.ITEMS_MISSING, Cause.WRONG_SCOPE}),
    (400, "becomes invalid", {Cause.ITEMS_INVALID, Cause.BAD_REQUEST}),
    (422, "becomes invalid", {Cause.ITEMS_INVALID, Cause.BAD_REQUEST}),
]


@pytest.mark.parametrize(("status", "says", "possible_causes"), ABOUT_THE_ITEM, ids=[str(a[0]) for a in ABOUT_THE_ITEM])
def test_the_item_state_of_an_answer(status, says, possible_causes):
    meaning = explain_status(status)
    assert meaning.cause is None
    assert says in meaning.explanation
    assert possible_causes <= set(meaning.possible_causes)
    assert ("token endpoint" in meaning.explanation) is (status == 400)


@pytest.mark.parametrize(
    "code", [None, "SPENDING_LIMIT_EXCEEDED", "publisher_not_found", "ExpiredTokenException", "other"]
)
def test_each_status_is_explained_as_a_run_treats_it(code):
    for status in (*range(100, 200), *range(300, 600)):
        outcome = outcome_from_error("a", ApiError(status=status, code=code), NOW)
        found = explain_status(status, code).cause
        assert (found.value if found else None) == (outcome.reason.value if outcome.reason else None), status


def test_some_codes_come_with_a_status_of_their_own():
    assert {usual_status(code.upper()) for code in SPENDING_CODES} == {429}
    assert {usual_status(code.upper()) for code in CREDENTIAL_CODES} == {403}
    assert usual_status("Publisher_Not_Found") == 400
    assert usual_status("other") is None


def test_a_refused_key_is_explained_with_its_code_where_the_status_alone_says_less():
    assert explain_status(403, "ExpiredTokenException").explanation.startswith(
        "403 with the code ExpiredTokenException"
    )
    assert explain_status(401, "x").explanation.startswith("401, again")
