"""What the simulated data engine answers with, as Gloo's error reference and tutorial show it. Data only."""

from collections.abc import Mapping, Sequence

__all__ = [
    "EXPIRED_TOKEN",
    "FORBIDDEN",
    "INVALID_CLIENT",
    "INVALID_SCOPE",
    "ITEM_MISMATCH",
    "ITEM_NOT_FOUND",
    "MALFORMED_ID",
    "MISSING_AUTHORIZATION",
    "MISSING_GRANT",
    "MISSING_ITEM_IDS",
    "PUBLISHER_MISMATCH",
    "PUBLISHER_NOT_FOUND",
    "TOO_MANY_FILES",
    "TOO_MANY_ITEM_IDS",
    "UNSUPPORTED_GRANT",
    "Body",
    "missing_fields",
    "not_text",
    "unauthorized_delete",
]

Body = Mapping[str, object]

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


def missing_fields(names: Sequence[str]) -> Body:
    """The validation error (422) of a body that lacks required fields."""
    return {
        "detail": [{"type": "missing", "loc": ["body", name], "msg": "Field required", "input": {}} for name in names]
    }


def not_text(loc: Sequence[str | int], given: object) -> Body:
    """The validation error (422) of a field that should be a text."""
    entry = {"type": "string_type", "loc": ["body", *loc], "msg": "Input should be a valid string", "input": given}
    return {"detail": [entry]}


def unauthorized_delete(item_ids: Sequence[str]) -> Body:
    """The refusal (403) to delete another publisher's items."""
    return {
        "detail": {
            "code": "Unauthorized access",
            "message": "You don't have permission to delete these items",
            "unauthorized_items": item_ids,
        }
    }
