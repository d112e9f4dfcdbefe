"""APIs that take a document, index it and find it again, for canaries: OpenAI, Uppzy and LightRAG, with their quirks.

Each answers as its SDK's types or its source say. `broken` maps a step's request ("POST /v1/files") to a status.
"""

import itertools
import json
import re
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl, unquote, urlsplit

from support.loopback import AnsweringHandler, LoopbackServer


class UploadServer(LoopbackServer):
    """A route is a method and a pattern; its method gets the groups of the pattern, the query and the body."""

    key = ("authorization", "Bearer the-key")

    def __init__(self):
        self.broken, self.requests, self.numbers = {}, [], itertools.count(1)
        server = self

        class Handler(AnsweringHandler):
            def get(self):
                self.answer()

            def post(self):
                self.answer()

            def do_DELETE(self):  # noqa: N802  # the name that the library calls
                self.answer()

            def answer(self):
                url, body = urlsplit(self.path), self.read_body()
                self.reply(
                    *server.respond(self.command, unquote(url.path), dict(parse_qsl(url.query)), self.headers, body)
                )

        super().__init__(Handler)

    def respond(self, method, path, query, headers, raw):
        self.requests.append(f"{method} {path}")
        name, value = self.key
        if headers.get(name) != value:
            return 401, {}, {"error": "unauthorized"}
        if f"{method} {path}" in self.broken:
            return self.broken[f"{method} {path}"], {}, {"error": "broken"}
        body = fields(headers["content-type"], raw)
        for wanted, pattern, answer in self.routes():
            if method == wanted and (found := re.fullmatch(pattern, path)):
                return answer(*found.groups(), query=query, body=body)
        return 404, {}, {"error": "not found"}


def fields(content_type, raw):
    """The body: JSON, or the fields of a form, of which a file is its name and its text."""
    if not raw:
        return {}
    if content_type == "application/json":
        return json.loads(raw)
    parsed = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
    return {
        part.get_param("name", header="content-disposition"): (part.get_filename(), part.get_content())
        if part.get_filename()
        else part.get_content()
        for part in parsed.iter_parts()
    }


class OpenAIStore(UploadServer):
    """A file is uploaded, then attached to the store; deleting one leaves the other."""

    def __init__(self):
        super().__init__()
        self.files, self.attached = {}, {}

    @property
    def left(self):
        return {**self.files, **self.attached}

    def routes(self):
        store = "/v1/vector_stores/vs_abc123"
        return (
            ("POST", "/v1/files", self.upload),
            ("GET", "/v1/files", self.list_files),
            ("DELETE", "/v1/files/([^/]+)", self.delete_file),
            ("POST", f"{store}/files", self.attach),
            ("GET", f"{store}/files/([^/]+)", self.file),
            ("DELETE", f"{store}/files/([^/]+)", self.detach),
            ("POST", f"{store}/search", self.search),
        )

    def upload(self, *, query, body):
        assert body["purpose"].strip() == "assistants"
        name, text = body["file"]
        file_id = f"file-{next(self.numbers)}"
        self.files[file_id] = {"id": file_id, "object": "file", "filename": name, "text": text}
        return 200, {}, {key: value for key, value in self.files[file_id].items() if key != "text"}

    def attach(self, *, query, body):
        file_id = body["file_id"]
        if file_id not in self.files:
            return 404, {}, {"error": {"message": "No such File object", "type": "invalid_request_error"}}
        self.attached[file_id] = body.get("attributes", {})
        return 200, {}, {"id": file_id, "status": "in_progress", "last_error": None}

    def file(self, file_id, *, query, body):
        if file_id not in self.attached:
            return 404, {}, {"error": {"message": "No file found", "type": "invalid_request_error"}}
        return 200, {}, {"id": file_id, "status": "completed", "last_error": None}

    def search(self, *, query, body):
        wanted = body["filters"]
        data = [
            {
                "file_id": each,
                "filename": self.files[each]["filename"],
                "score": 0.9,
                "content": [{"type": "text", "text": self.files[each]["text"]}],
            }
            for each, attributes in self.attached.items()
            if attributes.get(wanted["key"]) == wanted["value"]
        ]
        return 200, {}, {"object": "vector_store.search_results.page", "data": data, "has_more": False}

    def detach(self, file_id, *, query, body):
        if self.attached.pop(file_id, None) is None:
            return 404, {}, {"error": {"message": "No file found", "type": "invalid_request_error"}}
        return 200, {}, {"id": file_id, "deleted": True}

    def delete_file(self, file_id, *, query, body):
        if self.files.pop(file_id, None) is None:
            return 404, {}, {"error": {"message": "No such File object", "type": "invalid_request_error"}}
        return 200, {}, {"id": file_id, "deleted": True}

    def list_files(self, *, query, body):
        assert query == {"purpose": "assistants", "order": "desc", "limit": "1000"}
        return 200, {}, {"object": "list", "data": list(self.files.values()), "has_more": False}


class UppzySite(UploadServer):
    """Text documents of a site, and its chat. The answers' forms are not published: these are the preset's."""

    key = ("x-api-key", "the-key")

    def __init__(self):
        super().__init__()
        self.left = {}

    def routes(self):
        documents = "/api/v1/m2m/sites/site-1/documents"
        return (
            ("POST", f"{documents}/text", self.create),
            ("GET", documents, self.list_documents),
            ("POST", f"{documents}/bulk-delete", self.delete),
            ("POST", "/api/v1/m2m/sites/site-1/chat", self.chat),
        )

    def create(self, *, query, body):
        document_id = f"doc-{next(self.numbers)}"
        self.left[document_id] = {"id": document_id, "title": body["title"], "text": body["content"]}
        return 201, {}, {"id": document_id}

    def list_documents(self, *, query, body):
        rows = [{"id": each["id"], "title": each["title"], "status": "ready"} for each in self.left.values()]
        return 200, {}, rows

    def chat(self, *, query, body):
        known = [each["text"] for each in self.left.values() if each["title"] in body["message"]]
        return 200, {}, {"session_id": body["session_id"], "answer": known[0] if known else "I don't know."}

    def delete(self, *, query, body):
        for each in body["document_ids"]:
            self.left.pop(each, None)
        return 200, {}, {"deleted": len(body["document_ids"])}


class LightRagServer(UploadServer):
    """Documents of uploads, of which alone there are ids to delete; it refuses to delete while it is busy."""

    key = ("x-api-key", "the-key")

    def __init__(self):
        super().__init__()
        self.left, self.busy = {}, 1

    def routes(self):
        return (
            ("POST", "/documents/text", self.insert),
            ("GET", "/documents/track_status/([^/]+)", self.track),
            ("POST", "/documents/paginated", self.list_documents),
            ("DELETE", "/documents/delete_document", self.delete),
            ("POST", "/query", self.answer_query),
        )

    def insert(self, *, query, body):
        track_id = f"insert_{next(self.numbers)}"
        self.left[track_id] = {
            "id": f"doc-{track_id}",
            "track_id": track_id,
            "file_path": body["file_source"],
            "status": "processed",
            "metadata": {},
            "text": body["text"],
        }
        return 200, {}, {"status": "success", "message": "Text received", "track_id": track_id}

    def track(self, track_id, *, query, body):
        documents = [self.left[track_id]] if track_id in self.left else []
        return 200, {}, {"track_id": track_id, "documents": documents, "total_count": len(documents)}

    def list_documents(self, *, query, body):
        return 200, {}, {"documents": list(self.left.values()), "pagination": {"page": 1, "has_next": False}}

    def answer_query(self, *, query, body):
        assert (body["mode"], body["only_need_context"]) == ("naive", True)
        texts = "\n".join(each["text"] for each in self.left.values())
        return 200, {}, {"response": f"Document Chunks:\n{texts}"}

    def delete(self, *, query, body):
        if self.busy:
            self.busy -= 1
            return 200, {}, {"status": "busy", "message": "Pipeline is busy", "doc_id": ", ".join(body["doc_ids"])}
        self.left = {track: each for track, each in self.left.items() if each["id"] not in body["doc_ids"]}
        return 200, {}, {"status": "deletion_started", "message": "started", "doc_id": ", ".join(body["doc_ids"])}
