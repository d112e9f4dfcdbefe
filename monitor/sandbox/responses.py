"""The simulated engine's responses, after Gloo's error reference and tutorial. Data only."""

from collections.abc import Mapping, Sequence

Body = Mapping[str, object]

JsonAnswer = tuple[int, Body | Sequence[Body]]
"""A status and a JSON body."""

INVALID_CLIENT: Body = {"error": "invalid_client", "error_description": "Client authentication failed"}
MISSING_GRANT: Body = {"error": "invalid_request", "error_description": "grant_type is required"}
UNSUPPORTED_GRANT: Body = {"error": "unsupported_grant_type", "error_description": "Only client_credentials is served"}
INVALID_SCOPE: Body = {"error": "invalid_scope", "error_description": "Only api/access is served"}
MISSING_AUTHORIZATION: Body = {"error": "Missing Authorization", "code": "unauthorized_missing_authorization"}
EXPIRED_TOKEN: Body = {"detail": "Invalid or expired access token."}
FORBIDDEN: Body = {"error": "Forbidden - insufficient permissions", "code": "forbidden"}


def _detail(code: str, message: str, **more: object) -> Body:
    return {"detail": {"code": code, "message": message, **more}}


MALFORMED_ID = _detail("Invalid item ID format", "Item ID must be a valid UUID format")
ITEM_NOT_FOUND = _detail("Item not found", "The requested item does not exist or has been permanently deleted")
ITEM_MISMATCH = _detail("item_publisher_mismatch", "Item does not belong to the specified publisher")
PUBLISHER_NOT_FOUND = _detail("publisher_not_found", "Publisher not found")
PUBLISHER_MISMATCH: Body = {
    "detail": {"message": "Item does not belong to this publisher", "code": "publisher_mismatch"}
}
TOO_MANY_FILES: Body = {
    "detail": {"message": "Too many files. Producer ID is pre-file only.", "code": "too_many_files"}
}
MISSING_ITEM_IDS = _detail("Invalid request", "At least one item_id is required")
TOO_MANY_ITEM_IDS = _detail("Invalid request", "At most 1000 item_ids are allowed")
MISSING_PRODUCER_IDS = _detail("Invalid request", "At least one producer_id must be provided")
NO_ITEMS_OF_PRODUCERS = _detail("Items not found", "No items were found for the provided producer IDs")
RATE_LIMITED: Body = {"error": "Rate limit exceeded", "code": "too_many_requests"}
BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
"""The page of a gateway in front of the engine."""

_DELETED_FROM = ("weaviate", "s3", "chunk_enrichments", "files", "database")
_KEPT_IN = frozenset({"files", "database"})
_UNSTABLE = "The provider is currently unavailable. Please try again later."
_UNEXPECTED = "An unexpected error occurred during model inference. Please try again."
_TIMEOUT = "The provider did not respond in time. Please try again."


def _error_body(message: str, kind: str, code: str, fault: str, *, detail: object = None) -> Body:
    error = {
        "message": message, "type": kind, "code": code, "fault": fault, "retryable": True, "trace_id": "trace-sandbox",
    }  # fmt: skip
    return {"detail": detail or message, "error": error}


SPENDING_LIMIT = _error_body(
    "Spending limit reached",
    "rate_limit_error",
    "SPENDING_LIMIT_EXCEEDED",
    "client",
    detail={"message": "Spending limit reached", "code": "SPENDING_LIMIT_EXCEEDED"},
)

BY_STATUS: Mapping[int, Body] = {
    401: EXPIRED_TOKEN,
    403: FORBIDDEN,
    404: ITEM_NOT_FOUND,
    408: _error_body(_TIMEOUT, "provider_timeout_error", "PROVIDER_TIMEOUT", "provider"),
    429: RATE_LIMITED,
    500: _error_body(_UNEXPECTED, "provider_error", "PROVIDER_INFERENCE_ERROR", "provider"),
    502: _detail(
        "Weaviate update failed",
        "Postgres not modified due to vector store update failure",
        weaviate_error="Weaviate update failed",
    ),
    503: _error_body(_UNSTABLE, "service_unavailable_error", "PROVIDER_UNAVAILABLE", "provider"),
}
"""The error reference's body for a status."""


def missing_fields(names: Sequence[str]) -> Body:
    """The validation error (422) for missing required fields."""
    return {
        "detail": [{"type": "missing", "loc": ["body", name], "msg": "Field required", "input": {}} for name in names]
    }


def not_a_string(loc: Sequence[str | int], given: object) -> Body:
    """The validation error (422) for a field that is not a text."""
    entry = {"type": "string_type", "loc": ["body", *loc], "msg": "Input should be a valid string", "input": given}
    return {"detail": [entry]}


def not_a_limit(given: str) -> Body:
    """The validation error (422) for a limit that is not a whole number of at least 1."""
    entry = {"type": "int_parsing", "loc": ["query", "limit"], "msg": "Input should be a valid integer", "input": given}
    return {"detail": [entry]}


def deleted(errors: Mapping[str, str | None], *, partially: frozenset[str]) -> Body:
    """The results of a bulk delete, by id; `partially`: the ids that were deleted from some places only."""
    total, deleted_count = len(errors), sum(error is None for error in errors.values())
    results = []
    for item_id, error in errors.items():
        kept_in = _KEPT_IN if item_id in partially else _DELETED_FROM
        places = {place: error is None or place not in kept_in for place in _DELETED_FROM}
        results.append({"item_id": item_id, "success": error is None, "error": error, "deleted_from": places})
    return {
        "success": deleted_count == total,
        "mode": "hard",
        "total_requested": total,
        "total_deleted": deleted_count,
        "total_failed": total - deleted_count,
        "results": results,
        "message": f"{deleted_count} of {total} items deleted",
    }


def unauthorized_delete(item_ids: Sequence[str]) -> Body:
    """The refusal (403) to delete another publisher's items."""
    message = "You don't have permission to delete these items"
    return _detail("Unauthorized access", message, unauthorized_items=item_ids)
