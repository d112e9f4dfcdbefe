"""Other APIs, one class each, with paths, pages, bodies and errors as documented.

A page has at most `most` documents, whatever the client requests, so that few documents make several pages.
"""

import base64
from abc import ABC, abstractmethod

from providers.servers.documents import DocumentServer

STORE = "11111111-2222-4333-8444-555555555555"
TIMESTAMP = "2026-03-01T03:00:00Z"


class Documented(DocumentServer, ABC):
    """The common part: documents in the order of their upload, below `root`."""

    root = ""
    most = 50

    def __init__(self):
        super().__init__(key="Bearer the-key")
        self.statuses = {}

    @property
    def lists(self):
        """The number of requested pages of the list."""
        return self.paths.count(self.root)

    @property
    def asked(self):
        """Ids of the items that were requested individually."""
        return sorted(path.removeprefix(f"{self.root}/").partition("/")[0] for path in self.paths if path != self.root)

    def documents(self, path, query, headers):
        if path == self.root:
            return self.page(query, [self.item(each) for each in self.statuses])
        item_id = self.item_id(path)
        if item_id in self.statuses:
            return 200, {}, self.single(item_id)
        return 404, {}, self.absence(path)

    def item_id(self, path):
        return path.removeprefix(f"{self.root}/")

    def item(self, item_id):
        """A document as the list shows it."""
        return {"id": item_id, "status": self.statuses[item_id]}

    def single(self, item_id):
        """A document in the response to an item request."""
        return self.item(item_id)

    @abstractmethod
    def page(self, query, items):
        """Status, headers and body of one page."""

    def after(self, cursor, items, size):
        """The items after a cursor, and whether there are more after those."""
        start = [each["id"] for each in items].index(cursor) + 1 if cursor else 0
        end = start + min(size, self.most)
        return items[start:end], end < len(items)


class OpenAI(Documented):
    root = "/v1/vector_stores/vs_abc123/files"

    def item(self, item_id):
        status = self.statuses[item_id]
        error = {"code": "unsupported_file", "message": "The file's type is not supported."}
        return {
            "id": item_id,
            "object": "vector_store.file",
            "usage_bytes": 1234,
            "created_at": 1699061776,
            "vector_store_id": "vs_abc123",
            "status": status,
            "last_error": error if status == "failed" else None,
            "attributes": {"status": "completed", "id": "of the user's own"},
            "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 800}},
        }

    def documents(self, path, query, headers):
        if headers.get("openai-beta") != "assistants=v2":
            return 400, {}, _openai("You must provide the 'OpenAI-Beta' header.", "invalid_beta")
        return super().documents(path, query, headers)

    def page(self, query, items):
        if not 1 <= int(query.get("limit", 20)) <= 100:
            return 400, {}, _openai("Invalid 'limit'.", "integer_above_max_value")
        ordered = items if query.get("order") == "asc" else items[::-1]
        data, more = self.after(query.get("after"), ordered, int(query.get("limit", 20)))
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return 200, {}, {"object": "list", "data": data, **ends, "has_more": more}

    def refusal(self):
        return _openai("Incorrect API key provided: **********.", "invalid_api_key")

    def absence(self, path):
        return _openai(f"No file found with id '{self.item_id(path)}' in vector store 'vs_abc123'.", None)


def _openai(message, code):
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


class Ragie(Documented):
    root = "/documents"

    def item(self, item_id):
        return {
            "id": item_id,
            "created_at": TIMESTAMP,
            "updated_at": TIMESTAMP,
            "status": self.statuses[item_id],
            "name": "report.pdf",
            "metadata": {"status": "ready"},
            "partition": "default",
            "chunk_count": 3,
            "external_id": None,
        }

    def single(self, item_id):
        return {**self.item(item_id), "errors": []}

    def page(self, query, items):
        size = int(query.get("page_size", 10))
        if not 1 <= size <= 100:
            return 422, {}, {"detail": [{"loc": ["query", "page_size"], "msg": "out of range", "type": "value_error"}]}
        documents, more = self.after(query.get("cursor"), items[::-1], size)
        pagination = {"next_cursor": documents[-1]["id"] if more else None, "total_count": len(items)}
        return 200, {}, {"pagination": pagination, "documents": documents}

    def refusal(self):
        return _rfc7807(401, "Authentication failure", "Your request did not provide a valid API key.")

    def absence(self, path):
        return _rfc7807(404, "The specified resource was not found.", "Could not find resource for tenant")


def _rfc7807(status, title, detail):
    kind = f"https://docs.ragie.ai/docs/errors#{status}"
    return {"detail": detail, "status_code": status, "title": title, "type": kind}


class ContextualAI(Documented):
    root = f"/v1/datastores/{STORE}/documents"

    def item(self, item_id):
        return {
            "id": item_id,
            "name": "report.pdf",
            "status": self.statuses[item_id],
            "created_at": TIMESTAMP,
            "updated_at": TIMESTAMP,
            "custom_metadata": {"status": "completed"},
            "has_access": True,
        }

    def item_id(self, path):
        inner, _, last = path.removeprefix(f"{self.root}/").partition("/")
        return inner if last == "metadata" else ""

    def page(self, query, items):
        size = int(query.get("limit", 1000))
        if not 1 <= size <= 1000:
            return 422, {}, {"detail": [{"loc": ["query", "limit"], "msg": "out of range", "type": "value_error"}]}
        documents, more = self.after(query.get("cursor"), items, size)
        cursor = {"next_cursor": documents[-1]["id"]} if more else {}
        return 200, {}, {"documents": documents, "total_count": len(items), **cursor}


class LlamaCloud(Documented):
    root = f"/api/v1/pipelines/{STORE}/files2"

    @property
    def asked(self):
        return sorted(path.split("/")[-2] for path in self.paths if path != self.root)

    def item(self, item_id):
        return {"id": f"in-{item_id}", "pipeline_id": STORE, "file_id": item_id, "status": self.statuses[item_id]}

    def single(self, item_id):
        return {"status": self.statuses[item_id], "effective_at": TIMESTAMP, "job_id": STORE, "error": None}

    def item_id(self, path):
        inner, _, last = path.removeprefix(f"/api/v1/pipelines/{STORE}/files/").partition("/")
        return inner if last == "status" else ""

    def page(self, query, items):
        size, start = min(int(query["limit"]), self.most), int(query["offset"])
        page = items[start : start + size]
        return 200, {}, {"files": page, "limit": size, "offset": start, "total_count": len(items)}

    def refusal(self):
        return {"detail": "Invalid API Key"}

    def absence(self, path):
        return {"detail": "File not found"}


class Pinecone(Documented):
    root = "/assistant/files/my-assistant"
    key_header = "api-key"

    def __init__(self):
        super().__init__()
        self.key = "the-key"

    def item(self, item_id):
        return {
            "name": "report.pdf",
            "id": item_id,
            "metadata": {"status": "Available"},
            "created_on": TIMESTAMP,
            "updated_on": TIMESTAMP,
            "status": self.statuses[item_id],
            "percent_done": 1.0,
            "error_message": None,
        }

    def documents(self, path, query, headers):
        if "x-pinecone-api-version" not in headers:
            return 400, {}, {"error": {"code": "INVALID_ARGUMENT", "message": "no version"}, "status": 400}
        return super().documents(path, query, headers)

    def page(self, query, items):
        return 200, {}, {"files": items}

    def refusal(self):
        return {"error": {"code": "UNAUTHENTICATED", "message": "Invalid API key."}, "status": 401}

    def absence(self, path):
        return {"error": {"code": "NOT_FOUND", "message": "File not found"}, "status": 404}


class MyEngine(Documented):
    """The engine of docs/providers/README.md."""

    root = "/api/documents"
    key_header = "x-api-key"

    def __init__(self):
        super().__init__()
        self.key = "the-key"

    def single(self, item_id):
        return {"data": self.item(item_id)}

    def page(self, query, items):
        size, number = int(query["limit"]), int(query["page"])
        page = items[(number - 1) * size : number * size]
        return 200, {}, {"data": page, "meta": {"total": len(items)}}


class Prefect(Documented):
    """A server with `auth_string`: flow runs as prefect 3.9.1 answers (`FlowRunResponse`), shortened."""

    root = "/api/flow_runs"
    most = 200

    def __init__(self):
        super().__init__()
        self.key = f"Basic {base64.b64encode(b'admin:the-key').decode()}"

    @property
    def lists(self):
        return self.paths.count(f"{self.root}/filter")

    @property
    def asked(self):
        return [each for each in super().asked if each != "filter"]

    def documents(self, path, query, headers):
        if path == f"{self.root}/filter":
            assert query.keys() == {"sort", "limit", "offset"}
            return self.page(query, [self.item(each) for each in self.statuses])
        return super().documents(path, query, headers)

    def item(self, item_id):
        state = self.statuses[item_id]
        return {
            "id": item_id,
            "name": "ingest",
            "flow_id": STORE,
            "state_type": state,
            "state_name": state.title(),
            "state": {"type": state, "name": state.title(), "message": None, "timestamp": TIMESTAMP},
            "tags": ["nightly"],
        }

    def page(self, query, items):
        assert query["limit"] <= self.most, "422: the limit is 200"
        return 200, {}, items[query["offset"] : query["offset"] + query["limit"]]

    def refusal(self):
        return {"exception_message": "Unauthorized"}

    def absence(self, path):
        return {"detail": "Flow run not found"}
