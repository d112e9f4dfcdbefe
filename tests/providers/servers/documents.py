"""A small API for documents on loopback: real HTTP in its own threads, one key, one status per document."""

import json
from urllib.parse import parse_qsl, unquote, urlsplit

from support.loopback import AnsweringHandler, LoopbackServer


class DocumentServer(LoopbackServer):
    """Answers 401 without its key, `routes` for known paths, 404 otherwise; keeps the requested paths.

    The header `key_header` must contain `key`; a test changes it to revoke the client's key.
    """

    key_header = "authorization"

    def __init__(self, *, key):
        self.key, self.routes, self.paths = key, {}, []
        server = self

        class Handler(AnsweringHandler):
            def get(self):
                url = urlsplit(self.path)
                server.paths.append(url.path)
                self.reply(*server.respond(unquote(url.path), dict(parse_qsl(url.query)), self.lower_headers()))

            def post(self):
                form = self.read_body().decode()
                if self.headers["content-type"] == "application/json":
                    server.paths.append(self.path)
                    self.reply(*server.questioned(self.path, json.loads(form), self.lower_headers()))
                    return
                self.reply(*server.posted(self.path, dict(parse_qsl(form))))

        super().__init__(Handler)

    def answer(self, path, body):
        """Lets a path answer 200 with a body."""
        self.routes[path] = body

    def respond(self, path, query, headers):
        """Status, headers and body of the answer to one request."""
        if headers.get(self.key_header) != self.key:
            return 401, {}, self.refusal()
        return self.documents(path, query, headers)

    def posted(self, path, form):
        """Status, headers and body of the answer to a form."""
        return 405, {}, {"error": "method not allowed"}

    def questioned(self, path, body, headers):
        """Status, headers and body of the answer to a question that is a JSON body."""
        if headers.get(self.key_header) != self.key:
            return 401, {}, self.refusal()
        return self.documents(path, body, headers)

    def documents(self, path, query, headers):
        """The same, after the key was accepted."""
        if path in self.routes:
            return 200, {}, self.routes[path]
        return 404, {}, self.absence(path)

    def refusal(self):
        """The body of a 401."""
        return {"error": "unauthorized"}

    def absence(self, path):
        """The body of a 404."""
        return {"error": "not found"}
