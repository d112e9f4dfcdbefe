"""What the simulated data engine answers with, as Gloo's error reference and tutorial show it. Data only."""

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

MALFORMED_ID: Body = {"detail": {"code": "Invalid item ID format", "message": "Item ID must be a valid UUID format"}}
ITEM_NOT_FOUND: Body = {
    "detail": {"code": "Item not found", "message": "The requested item does not exist or has been permanently deleted"}
}
ITEM_MISMATCH: Body = {
    "detail": {"code": "item_publisher_mismatch", "message": "Item does not belong to the specified publisher"}
}
PUBLISHER_NOT_FOUND: Body = {"detail": {"code": "publisher_not_found", "message": "Publisher not found"}}
PUBLISHER_MISMATCH: Body = {
    "detail": {"message": "Item does not belong to this publisher", "code": "publisher_mismatch"}
}
TOO_MANY_FILES: Body = {
    "detail": {"message": "Too many files. Producer ID is pre-file only.", "code": "too_many_files"}
}
MISSING_ITEM_IDS: Body = {"detail": {"code": "Invalid request", "message": "At least one item_id is required"}}
TOO_MANY_ITEM_IDS: Body = {"detail": {"code": "Invalid request", "message": "At most 1000 item_ids are allowed"}}
MISSING_PRODUCER_IDS: Body = {
    "detail": {"code": "Invalid request", "message": "At least one producer_id must be provided"}
}
NO_ITEMS_OF_PRODUCERS: Body = {
    "detail": {"code": "Items not found", "message": "No items were found for the provided producer IDs"}
}
RATE_LIMITED: Body = {"error": "Rate limit exceeded", "code": "too_many_requests"}
BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
"""What a gateway says in the engine's stead."""

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
    502: {
        "detail": {
            "code": "Weaviate update failed",
            "message": "Postgres not modified due to vector store update failure",
            "weaviate_error": "Weaviate update failed",
        }
    },
    503: _error_body(_UNSTABLE, "service_unavailable_error", "PROVIDER_UNAVAILABLE", "provider"),
}
"""What the error reference shows for a status."""


def missing_fields(names: Sequence[str]) -> Body:
    """The validation error (422) of a body that lacks required fields."""
    return {
        "detail": [{"type": "missing", "loc": ["body", name], "msg": "Field required", "input": {}} for name in names]
    }


def not_a_string(loc: Sequence[str | int], given: object) -> Body:
    """The validation error (422) of a field that should be a text."""
    entry = {"type": "string_type", "loc": ["body", *loc], "msg": "Input should be a valid string", "input": given}
    return {"detail": [entry]}


def not_a_limit(given: str) -> Body:
    """The validation error (422) of a limit that is no whole number of 1 or more."""
    entry = {"type": "int_parsing", "loc": ["query", "limit"], "msg": "Input should be a valid integer", "input": given}
    return {"detail": [entry]}


def deleted(errors: Mapping[str, str | None], *, partially: frozenset[str]) -> Body:
    """The results of a bulk delete.

    Args:
        errors: by id, in the order of the request: why it was not deleted, or None when it was.
        partially: those of them that are gone from some places, but not from all.
    """
    total, deleted_count = len(errors), sum(error is None for error in errors.values())
    results = [
        {
            "item_id": item_id,
            "success": error is None,
            "error": error,
            "deleted_from": {
                place: error is None or (item_id in partially and place not in _KEPT_IN) for place in _DELETED_FROM
            },
        }
        for item_id, error in errors.items()
    ]
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
    return {
        "detail": {
            "code": "Unauthorized access",
            "message": "You don't have permission to delete these items",
            "unauthorized_items": item_ids,
        }
    }
