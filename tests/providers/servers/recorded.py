"""Real engines as they answered once: every exchange of a session, by method, path, query and body.

`make engines` keeps the sessions in tests/providers/recorded.
"""

import json

from support.loopback import AnsweringHandler, LoopbackServer


class RecordedServer(LoopbackServer):
    """Answers as recorded; to what was never asked with `otherwise`, else 599 and the question itself."""

    def __init__(self, exchanges, *, otherwise=None):
        self.answers = {_key(each["ask"], each.get("with")): each for each in exchanges}
        self.asked, self.otherwise = [], otherwise
        server = self

        class Handler(AnsweringHandler):
            def get(self):
                self._reply(None)

            def post(self):
                self._reply(json.loads(self.read_body()))

            def _reply(self, body):
                ask = f"{self.command} {self.path}"
                server.asked.append(ask)
                never = server.otherwise or {"status": 599, "body": {"never": ask, "with": body}}
                found = server.answers.get(_key(ask, body), never)
                body = found["text"].encode() if "text" in found else found["body"]
                self.reply(found["status"], {"content-type": found.get("type", "application/json")}, body)

        super().__init__(Handler)


def _key(ask, body):
    return ask, json.dumps(body, sort_keys=True)
