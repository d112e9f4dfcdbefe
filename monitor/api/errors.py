"""`ApiError`: a call that failed, as an exception. Its fields come from whatever shape the error had."""

from datetime import timedelta

from monitor.client.classify import cause_of
from monitor.errors import MonitorError
from monitor.model import Cause
from monitor.model.http import ApiError as Failure
from monitor.model.http import ErrorDetail, NetworkFault


class ApiError(MonitorError):
    """The API refused a call, failed, or gave no usable answer; retries that were safe have been made.

    Branch on `status`, `cause` or `code`, not on texts. The text of the exception names the request by its template,
    the status, the code and the request id: it can be logged. `error`, `message` and `details` are the API's own words,
    which may quote a document: they are not part of it.
    """

    def __init__(self, failure: Failure, *, method: str, template: str) -> None:
        self.status: int | None = failure.status
        """HTTP status; None: there was no usable response, see `network`."""
        self.code: str | None = failure.code
        """The API's code; without a response one of ours, such as `deadline_exceeded`."""
        self.error: str | None = failure.error
        self.type: str | None = failure.type
        self.message: str | None = failure.message
        self.field: str | None = failure.field
        """The field of the request that is wrong."""
        self.request_id: str | None = failure.request_id
        self.trace_id: str | None = failure.trace_id
        self.details: tuple[ErrorDetail, ...] = failure.details
        """Validation errors: where (`loc`) and what (`msg`)."""
        self.fault: str | None = failure.fault
        """Who is at fault, according to the API (`client`, `provider`)."""
        self.retryable: bool | None = failure.retryable
        """The API's own flag."""
        self.retry_after: timedelta | None = failure.retry_after
        """How long the server asks to wait; at most one hour."""
        self.network: NetworkFault | None = failure.network
        """Why there was no usable response."""
        self.cause: Cause = cause_of(failure)
        """What an incident about it would be called, such as `rate_limited`."""
        super().__init__(f"{method} {template}: {_words(failure)}")


def _words(failure: Failure) -> str:
    """`HTTP 404 ITEM_NOT_FOUND (request id req-1)`, or the fault of the network."""
    if failure.status is not None:
        said = f"HTTP {failure.status}" + (f" {failure.code}" if failure.code else "")
    elif failure.network is not None:
        said = f"no usable response ({failure.network.value})"
    else:
        said = (failure.code or "no answer").replace("_", " ")
    return f"{said} (request id {failure.request_id})" if failure.request_id else said
