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


class LlamaStack(OpenAI):
    """What it does not know is a 400 without a type; a bad id is one with it."""

    def respond(self, path, query, headers):
        status, more, body = super().respond(path, query, headers)
        if status == 404 and "long" in path:
            return 400, {}, _openai("Invalid value for 'file_id'", "invalid_value")
        return (400 if status == 404 else status), more, body

    def absence(self, path):
        return {"error": {"message": f"File {self.item_id(path)} not found in vector store vs_abc123"}}


class LiteLLM(OpenAI):
    """Without a database it refuses an unknown key with 400."""

    def respond(self, path, query, headers):
        status, more, body = super().respond(path, query, headers)
        return (400 if status == 401 else status), more, body

    def refusal(self):
        error = {"message": "No connected db.", "type": "no_db_connection", "param": None, "code": "400"}
        return {"error": error}


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
        failed = self.statuses[item_id] == "failed"
        return {**self.item(item_id), "errors": ["The file has no text."] if failed else []}

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
        status = self.statuses[item_id]
        listed = None if status == "PARTIAL_SUCCESS" else status  # the type of the list has no such status
        return {"id": f"in-{item_id}", "pipeline_id": STORE, "file_id": item_id, "status": listed}

    def single(self, item_id):
        error = {"job_id": STORE, "step": "PARSE", "message": "The file can't be parsed."}
        status = self.statuses[item_id]
        return {
            "status": status,
            "effective_at": TIMESTAMP,
            "job_id": STORE,
            "error": [error] if status == "ERROR" else None,
        }

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
    """API 2026-07: pages, no reason in the file, and no old failures in the list."""

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
            "size": 1234,
            "multimodal": False,
            "crc32c_hash": "9b2f6c1e",
        }

    def documents(self, path, query, headers):
        if headers.get("x-pinecone-api-version") != "2026-07":
            return 400, {}, {"error": {"code": "INVALID_ARGUMENT", "message": "no such version"}, "status": 400}
        return super().documents(path, query, headers)

    def page(self, query, items):
        recent = [each for each in items if each["status"] != "ProcessingFailed"]
        files, more = self.after(query.get("pagination_token"), recent, int(query.get("limit", 10)))
        return 200, {}, {"files": files, **({"pagination": {"next": files[-1]["id"]}} if more else {})}

    def refusal(self):
        return {"error": {"code": "UNAUTHENTICATED", "message": "Invalid API key."}, "status": 401}

    def absence(self, path):
        return {"error": {"code": "NOT_FOUND", "message": "File not found"}, "status": 404}


class Gemini(Documented):
    """Resource names with slashes; a wrong key is a 400."""

    root = "/v1/fileSearchStores/notes-x1/documents"
    key_header = "x-goog-api-key"

    def __init__(self):
        super().__init__()
        self.key = "the-key"

    @property
    def asked(self):
        return sorted(path.removeprefix("/v1/") for path in self.paths if path != self.root)

    def respond(self, path, query, headers):
        status, more, body = super().respond(path, query, headers)
        return (400 if status == 401 else status), more, body

    def item_id(self, path):
        return path.removeprefix("/v1/")

    def item(self, item_id):
        return {
            "name": item_id,
            "displayName": "report.pdf",
            "state": self.statuses[item_id],
            "sizeBytes": "1234",
            "mimeType": "application/pdf",
            "createTime": TIMESTAMP,
            "updateTime": TIMESTAMP,
        }

    def page(self, query, items):
        size, start = int(query.get("pageSize", 10)), int(query.get("pageToken", 0))
        more = {"nextPageToken": str(start + size)} if start + size < len(items) else {}
        return 200, {}, {"documents": items[start : start + size], **more}

    def refusal(self):
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
        }
        message = {
            "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
            "locale": "en-US",
            "message": "not valid",
        }
        return _google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [info, message])

    def absence(self, path):
        return _google(404, "NOT_FOUND", "Requested entity was not found.", [])


def _google(code, status, message, details):
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


class Mistral(Documented):
    root = f"/v1/libraries/{STORE}/documents"

    def item(self, item_id):
        return {
            "id": item_id,
            "library_id": STORE,
            "name": "report.pdf",
            "hash": None,
            "mime_type": "application/pdf",
            "extension": "pdf",
            "size": 1234,
            "created_at": TIMESTAMP,
            "uploaded_by_id": None,
            "uploaded_by_type": "Workspace",
            "process_status": self.statuses[item_id],
            "processing_status": "Completed",
            "attributes": {"process_status": "done"},
            "tokens_processing_total": 7,
        }

    def item_id(self, path):
        inner, _, last = super().item_id(path).partition("/")
        return inner if last == "status" else ""

    def single(self, item_id):
        return {"document_id": item_id, "process_status": self.statuses[item_id], "processing_status": "Completed"}

    def page(self, query, items):
        size, number = int(query.get("page_size", 100)), int(query.get("page", 0))
        ordered = items if query.get("sort_order") == "asc" else items[::-1]
        page = ordered[number * size : (number + 1) * size]
        pagination = {
            "total_items": len(items),
            "total_pages": -(-len(items) // size),
            "current_page": number,
            "page_size": size,
            "has_more": (number + 1) * size < len(items),
        }
        return 200, {}, {"pagination": pagination, "data": page}

    def refusal(self):
        return {"detail": "Unauthorized"}

    def absence(self, path):
        return {"detail": "Document not found"}


class RAGFlow(Documented):
    """Every answer is HTTP 200; `code` says what it is."""

    root = f"/api/v1/datasets/{STORE}/documents"

    def __init__(self):
        super().__init__()
        self._asked, self._lists = [], 0

    @property
    def lists(self):
        return self._lists

    @property
    def asked(self):
        return sorted(self._asked)

    def respond(self, path, query, headers):
        status, more, body = super().respond(path, query, headers)
        return (200 if status in {401, 404} else status), more, body

    def documents(self, path, query, headers):
        if path != self.root:
            return 404, {}, self.absence(path)
        if (item_id := query.get("id")) is None:
            self._lists += 1
            return self.page(query, [self.item(each) for each in self.statuses])
        self._asked.append(item_id)
        if item_id not in self.statuses:
            return 200, {}, {"code": 102, "message": f"You don't own the document {item_id}."}
        return self.page(query, [self.item(item_id)])

    def item(self, item_id):
        status = self.statuses[item_id]
        return {
            "id": item_id,
            "name": "report.pdf",
            "dataset_id": STORE,
            "run": status,
            "status": "1",
            "progress": -1 if status == "FAIL" else 0.5,
            "progress_msg": "09:11:01 [ERROR] The parser gave up." if status == "FAIL" else "",
            "chunk_count": 3,
        }

    def page(self, query, items):
        size, number = int(query.get("page_size", 30)), int(query.get("page", 1))
        ordered = items if query.get("desc") == "false" else items[::-1]
        page = ordered[(number - 1) * size : number * size]
        return 200, {}, {"code": 0, "data": {"docs": page, "total": len(items)}}

    def refusal(self):
        return {"code": 109, "data": False, "message": "Authentication error: API key is invalid!"}

    def absence(self, path):
        return {"code": 102, "message": "You don't own the dataset. "}


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
