import dataclasses

from monitor.client.secrecy import without_secrets
from monitor.exchange import ApiError, Detail

CANARY = "canary-key-7c1f"


def test_no_text_of_an_error_keeps_a_secret_and_everything_else_stays():
    texts = ("code", "error", "type", "message", "field", "request_id", "trace_id", "fault")
    error = ApiError(
        status=403,
        retryable=False,
        details=(Detail(loc=f"body.{CANARY}", msg=CANARY),),
        gateway=(("via", f"1.1 {CANARY}"),),
        **{name: f"{name} {CANARY}" for name in texts},
    )
    hidden = without_secrets(error, lambda text: text.replace(CANARY, "*"))
    assert CANARY not in str(dataclasses.asdict(hidden))
    assert (hidden.status, hidden.retryable, hidden.message) == (403, False, "message *")
    assert hidden.details == (Detail(loc="body.*", msg="*"),)


def test_what_was_not_said_stays_unsaid():
    error = ApiError(status=503)
    assert without_secrets(error, str.upper) == error
