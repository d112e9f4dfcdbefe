"""RAG Modulo and Uppzy, whose references are error catalogues: answers with their bodies, word for word."""

from uuid import UUID

from providers.servers.documented import TIMESTAMP, Documented


class Refusing(Documented):
    """Answers as documented, or with `refused` (status, headers, body) to everything."""

    def __init__(self):
        super().__init__()
        self.refused = None

    def respond(self, path, query, headers):
        return super().respond(path, query, headers) if self.refused is None else self.refused


class RagModulo(Refusing):
    """Collections as the code serves them (`CollectionOutput`); it has no list with statuses."""

    root = "/api/collections"
    errors = (
        (401, {}, {"detail": "Invalid authentication credentials"}),
        (401, {}, {"detail": "Not authenticated"}),
        (401, {}, {"detail": "Token has expired"}),
        (
            403,
            {},
            {
                "detail": "You do not have permission to delete this collection",
                "error_code": "INSUFFICIENT_PERMISSIONS",
            },
        ),
        (
            404,
            {},
            {
                "detail": "Collection not found",
                "error_code": "COLLECTION_NOT_FOUND",
                "collection_id": "00000000-0000-0000-0000-000000000000",
            },
        ),
        (
            429,
            {
                "Retry-After": "60",
                "X-RateLimit-Limit": "20",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": "1609459260",
            },
            {
                "detail": "Rate limit exceeded. Try again in 60 seconds.",
                "error_code": "RATE_LIMIT_EXCEEDED",
                "retry_after": 60,
            },
        ),
        (
            500,
            {},
            {"detail": "An unexpected error occurred", "error_code": "INTERNAL_ERROR", "request_id": "req_abc123"},
        ),
        (
            503,
            {},
            {"detail": "Service temporarily unavailable. Please try again later.", "error_code": "SERVICE_UNAVAILABLE"},
        ),
    )

    def documents(self, path, query, headers):
        if path != self.root and UUID(self.item_id(path)).version != 4:
            said = {"type": "uuid_version", "loc": ["path", "collection_id"], "msg": "UUID version 4 expected"}
            return 422, {}, {"detail": [{**said, "input": f"kept-nowhere {self.item_id(path)}"}]}
        return super().documents(path, query, headers)

    def item(self, item_id):
        return {
            "id": item_id,
            "name": "My Documents",
            "vector_db_name": "collection_1",
            "is_private": True,
            "created_at": TIMESTAMP,
            "updated_at": TIMESTAMP,
            "user_ids": [],
            "files": [{"id": "456e7890-e89b-42d3-a456-426614174000", "filename": "document.pdf"}],
            "status": self.statuses[item_id],
        }

    def page(self, query, items):
        """The documentation's list: without statuses."""
        return 200, {}, [{"id": each["id"], "name": each["name"]} for each in items]

    def refusal(self):
        return {"detail": "Invalid authentication credentials"}

    def absence(self, path):
        return {"detail": "Collection not found", "error_code": "COLLECTION_NOT_FOUND"}


class RagModuloDocuments(Refusing):
    """Documents of a collection as the documentation describes them: a list by pages with the header `Link`."""

    root = "/api/documents"

    def item(self, item_id):
        return {"id": item_id, "filename": "document.pdf", "status": self.statuses[item_id], "created_at": TIMESTAMP}

    def page(self, query, items):
        size, number = int(query.get("page_size", 20)), int(query.get("page", 1))
        assert query["collection_id"]
        assert size <= 100
        more = {"X-Total-Count": str(len(items)), "X-Page": str(number), "X-Page-Size": str(size)}
        if number * size < len(items):
            following = (
                f"{self.url}{self.root}?collection_id={query['collection_id']}&page_size={size}&page={number + 1}"
            )
            more["Link"] = f'<{following}>; rel="next", <{self.url}{self.root}?page=9>; rel="last"'
        return 200, more, items[(number - 1) * size : number * size]


class Uppzy(Refusing):
    """Nothing is published of its list but the path: one array here, as the preset takes it."""

    root = "/api/v1/m2m/sites/site-1/documents"
    key_header = "x-api-key"
    errors = (
        (400, {}, {"error": "Invalid request payload, missing field, or malformed input", "request_id": "req-7"}),
        (401, {}, {"error": "Missing or invalid authentication", "request_id": "req-7"}),
        (403, {}, {"error": "Valid identity but action is not allowed", "request_id": "req-7"}),
        (404, {}, {"error": "Tenant, site, request, or document was not found in the requested scope"}),
        (429, {"Retry-After": "60"}, {"error": "Too many requests"}),
        (500, {}, {"error": "Temporary server-side or upstream failure"}),
    )

    def __init__(self):
        super().__init__()
        self.key = "the-key"

    def page(self, query, items):
        return 200, {}, items
