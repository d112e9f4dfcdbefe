"""Canaries by description: the requests of a step, what answers say, what can't work, and whole canaries."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from providers.described import described, settings
from providers.servers.uploads import LightRagServer, OpenAIStore, UploadServer, UppzySite
from support.world import World

from monitor.app.canaries import build_canary_job, build_canary_requests
from monitor.cli import main
from monitor.config import load_config
from monitor.errors import ConfigError
from monitor.model import BadBody
from monitor.model.http import Operation
from monitor.providers.canary import StepAnswer
from monitor.providers.generic import Generic
from monitor.providers.preset import find_preset, preset_names
from monitor.runs.canary.canary import Canary
from monitor.runs.canary.model import CanaryStatus, CleanUp, Document, Step

DOCS = Path(__file__).parents[2] / "docs"
UPLOAD = {"path": "/documents", "body": {"text": "{text}", "title": "{name}"}, "keep": {"item_id": "id"}}
RETRIEVE = {"path": "/search?q={query}", "snippets": "data.*.text"}
DELETE = {"path": "/documents/{item_id}"}
FIND = {"path": "/documents", "items": "data", "name": "title"}
VALUES = Document(name="n-1", marker="m1", item_id="doc/1").values


def steps(*, upload=(UPLOAD,), retrieve=(RETRIEVE,), delete=(DELETE,), **more):
    return {"upload": list(upload), "retrieve": list(retrieve), "delete": list(delete), **more}


def requests(**changes):
    return described(**steps(**changes)).canary_requests()


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_step_is_a_request_with_its_placeholders_filled_in():
    made = requests(find=FIND)
    upload, delete = made.upload[0].request(VALUES), made.delete[0].request(VALUES)
    assert (upload.method, upload.path, upload.operation) == ("POST", "/documents", Operation.WRITE)
    assert b"m1" in upload.body
    assert upload.headers["content-type"] == "application/json"
    assert (delete.method, delete.path, delete.template) == ("DELETE", "/documents/doc%2F1", "/documents/{item_id}")
    assert (delete.operation, delete.body) == (Operation.CLOSE, None)
    asked = made.retrieve[0].request(VALUES)
    assert (asked.method, asked.operation) == ("GET", Operation.READ)
    assert asked.path.startswith("/search?q=What%20is")
    assert made.find.request("n-1").method == "GET"


def test_a_file_is_a_multipart_form_and_fields_alone_are_a_plain_one():
    file = {"path": "/files", "form": {"purpose": "{name}"}, "file": 'a"b', "keep": {"item_id": "id"}}
    form = {"path": "/files", "form": {"text": "{text}", "n": "{name}"}, "keep": {"item_id": "id"}}
    sent = requests(upload=[file]).upload[0].request(VALUES)
    assert sent.headers["content-type"] == "multipart/form-data; boundary=canary-m1"
    lines = sent.body.decode().split("\r\n")
    assert lines[:4] == ["--canary-m1", 'Content-Disposition: form-data; name="purpose"', "", "n-1"]
    assert lines[5] == 'Content-Disposition: form-data; name="a%22b"; filename="n-1.txt"'
    assert lines[-2:] == ["--canary-m1--", ""]
    plain = requests(upload=[form]).upload[0].request(VALUES)
    assert plain.headers["content-type"] == "application/x-www-form-urlencoded"
    assert plain.body.endswith(b"&n=n-1")


def test_a_step_that_lacks_a_value_sends_nothing():
    assert requests().delete[0].request(Document(name="n", marker="m").values) is None


ANSWERS = {
    "nothing is expected": ({}, b"<html>", StepAnswer()),
    "the first place that is there": (
        {"keep": {"item_id": ["data.id", "id"]}},
        b'{"id": 7}',
        StepAnswer(kept={"item_id": "7"}),
    ),
    "no id": ({"keep": {"item_id": "id"}}, b"{}", StepAnswer(lacking="id")),
    "an id that can't be sent": ({"keep": {"item_id": "id"}}, b'{"id": "a\\u0000"}', StepAnswer(lacking="id")),
    "an id that is too long": ({"keep": {"item_id": "id"}}, b'{"id": "%s"}' % (b"x" * 513), StepAnswer(lacking="id")),
    "what is expected": ({"expect": {"status": ["DONE"]}}, b'{"status": "done"}', StepAnswer()),
    "something else": ({"expect": {"status": ["done"]}}, b'{"status": "busy"}', StepAnswer(lacking="status")),
    "no JSON": ({"expect": {"status": ["done"]}}, b"<html>", BadBody(reason="the body of the answer is not JSON")),
    "nothing": ({"keep": {"item_id": "id"}}, b"", BadBody(reason="the body of the answer is empty")),
}


@pytest.mark.parametrize(("keys", "body", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_what_an_answer_says(keys, body, answer):
    upload = {**UPLOAD, "keep": {"item_id": "id"}}
    second = {"path": "/more", "method": "POST", **keys}
    if "keep" in keys:
        upload, second = {**UPLOAD, "keep": {}}, {**second}
    assert requests(upload=[upload, second]).upload[1].read(body) == answer


SNIPPETS = {
    "of every element": ("data.*.text", b'{"data": [{"text": "a"}, {"text": "b"}, {}]}', ("a", "b")),
    "a list of texts": ("data.*.texts", b'{"data": [{"texts": ["a", 3, "b"]}]}', ("a", "b")),
    "one text": ("answer", b'{"answer": "a"}', ("a",)),
    "several places": (["answer", "text"], b'{"text": "b"}', ("b",)),
    "none": ("data.*.text", b'{"data": null}', ()),
}


@pytest.mark.parametrize(("place", "body", "texts"), SNIPPETS.values(), ids=SNIPPETS)
def test_where_the_texts_are(place, body, texts):
    assert requests(retrieve=[{**RETRIEVE, "snippets": place}]).retrieve[0].read(body).snippets == texts


FOUND = {
    "by name": (FIND, b'{"data": [{"id": 1, "title": "n"}, {"id": 2, "title": "other"}]}', ("1",)),
    "by the file's name": (FIND, b'{"data": [{"id": "1", "title": "n.txt"}]}', ("1",)),
    "all": ({"path": "/by?name={name}"}, b'[{"id": "1"}, {"id": "2"}, {"id": "1"}]', ("1", "2")),
    "none": (FIND, b'{"data": []}', ()),
    "no list": (FIND, b"{}", BadBody(reason="the answer has no list of items at 'data'")),
    "no id": (FIND, b'{"data": [{"title": "n"}]}', BadBody(reason="an item in the answer has no id at 'id'")),
    "no JSON": (FIND, b"x", BadBody(reason="the body of the answer is not JSON")),
}


@pytest.mark.parametrize(("rule", "body", "ids"), FOUND.values(), ids=FOUND)
def test_what_is_found_by_name(rule, body, ids):
    assert requests(find=rule).find.read(body, "n") == ids


# --- what can't work --------------------------------------------------------------------------------------------------


def upload(**keys):
    return steps(upload=[{**UPLOAD, **keys}])


def retrieve(**keys):
    return steps(retrieve=[{**RETRIEVE, **keys}])


def delete(**keys):
    return steps(delete=[{**DELETE, **keys}])


WRONG = {
    "no deletion": ({**steps(), "delete": []}, "delete is missing: a canary needs upload, retrieve and delete"),
    "a search by name alone": ({"find": FIND}, "upload is missing: a canary needs"),
    "no id": (upload(keep={}), "upload.0.keep needs item_id"),
    "no document": (upload(body={"a": "{name}"}), "upload.0 does not send the document"),
    "no name to find": (
        {**upload(body={"a": "{text}"}), "find": FIND},
        "upload.0 does not send {name}, by which find looks",
    ),
    "another host": (upload(path="//evil.example/"), "upload.0.path must begin with one slash"),
    "an unknown placeholder": (upload(path="/{stroe}"), "upload.0.path contains {stroe}, which the target does not"),
    "one in the body": (upload(body=["{text} {stroe}"]), "upload.0.body contains {stroe}"),
    "one in the form": (upload(body=None, form={"a": "{x}"}, file="f"), "upload.0.form.a contains {x}"),
    "the id before it is known": (upload(path="/{item_id}"), "upload.0.path contains {item_id}"),
    "a body and a form": (upload(form={"a": "b"}), "upload.0.body does not go with form and file"),
    "a body with GET": (upload(method="GET"), "upload.0.body needs another method than GET"),
    "a form with GET": (upload(method="GET", body=None, file="f"), "upload.0.form needs another method than GET"),
    "another method": (upload(method="HEAD"), "upload.0.method must be one of GET, POST"),
    "a name that is taken": (upload(keep={"item_id": "id", "marker": "id"}), "upload.0.keep.'marker' must be a name"),
    "a star in what is kept": (upload(keep={"item_id": "data.*.id"}), "upload.0.keep.item_id must lead to one place"),
    "nothing that counts": (upload(expect={"status": []}), "upload.0.expect.'status' is empty"),
    "a place in brackets": (upload(expect={"a[0]": ["x"]}), "upload.0.expect.'a[0]' must be names and positions"),
    "texts of an upload": (upload(snippets="text"), "upload.0.snippets belongs to retrieve"),
    "no texts": (retrieve(snippets=None), "retrieve.0.snippets is missing: say where"),
    "texts in brackets": (retrieve(snippets="$.text"), "retrieve.0.snippets must be names and positions"),
    "a file of a search": (retrieve(file="f", method="POST"), "retrieve.0.file belongs to an upload"),
    "nothing to delete": (delete(path="/documents"), "delete.0 does not say what to delete"),
    "what find does not give": (
        {**upload(keep={"item_id": "id", "part": "part"}), "delete": [{"path": "/{item_id}/{part}"}], "find": FIND},
        "delete uses {part}, which find does not give",
    ),
    "find by another method": (steps(find={**FIND, "method": "PUT"}), 'find.method must be "GET" or "POST"'),
    "find with a body and GET": (steps(find={**FIND, "method": "GET", "body": {}}), "find.body needs method"),
    "find without a name": (steps(find={"path": "/documents"}), "find.name is missing: say where each item"),
    "find by an id": (steps(find={**FIND, "path": "/{item_id}"}), "find.path contains {item_id}"),
    "a placeholder in find": (steps(find={**FIND, "body": "{x}"}), "find.body contains {x}"),
    "a star in find": (steps(find={**FIND, "items": "a.*"}), "find.items must lead to one place"),
}


@pytest.mark.parametrize(("description", "problem"), WRONG.values(), ids=WRONG)
def test_what_cant_work_is_named(description, problem):
    with pytest.raises(ConfigError) as caught:
        described(**description)
    assert any(problem in each for each in caught.value.problems), caught.value.problems


def test_what_works_has_no_problem_whatever_its_parts():
    kept = {**UPLOAD, "keep": {"item_id": "id", "part": "part"}}
    lookup = {"method": "GET", "path": "/{item_id}", "keep": {"part2": "part"}}
    made = requests(upload=[kept, {"path": "/attach", "body": ["{item_id}", "{part}"]}],
                    delete=[lookup, {"path": "/parts/{part2}"}], find=FIND)  # fmt: skip
    values = {**VALUES, "part2": "p2"}
    assert [each.request(values).operation for each in made.delete] == [Operation.READ, Operation.CLOSE]


def test_a_description_without_steps_has_no_canary():
    assert described().canary_requests() is None
    assert Generic.from_settings(settings(item={"path": "/{item_id}"})).canary_requests() is None


@pytest.mark.parametrize("name", [name for name in preset_names() if "upload" in find_preset(name).settings])
def test_each_preset_with_an_upload_has_a_whole_canary_that_can_be_found_again(name):
    assert {"upload", "retrieve", "delete", "find"} <= find_preset(name).settings.keys()


# --- whole canaries ---------------------------------------------------------------------------------------------------


class DescribedDocs(UploadServer):
    """The API of the document's own example."""

    def __init__(self):
        super().__init__()
        self.left = {}

    def routes(self):
        return (
            ("POST", "/v1/documents", self.upload),
            ("GET", "/v1/documents", self.list_documents),
            ("GET", "/v1/documents/([^/]+)", self.document),
            ("DELETE", "/v1/documents/([^/]+)", self.delete),
            ("POST", "/v1/search", self.search),
        )

    def upload(self, *, query, body):
        assert body["collection"].strip() == "canary"
        name, text = body["file"]
        number = f"d{next(self.numbers)}"
        self.left[number] = {"id": number, "file_name": name, "text": text, "status": "ready"}
        return 200, {}, {"id": number}

    def list_documents(self, *, query, body):
        return 200, {}, {"documents": [each for each in self.left.values() if each["file_name"] == query["name"]]}

    def document(self, number, *, query, body):
        return (200, {}, self.left[number]) if number in self.left else (404, {}, {"error": "none"})

    def delete(self, number, *, query, body):
        return (204, {}, b"") if self.left.pop(number, None) else (404, {}, {"error": "none"})

    def search(self, *, query, body):
        return 200, {}, {"results": [{"text": each["text"]} for each in self.left.values()]}


APIS = {
    "openai": (OpenAIStore, "POST /v1/vector_stores/vs_abc123/search", "POST /v1/vector_stores/vs_abc123/files"),
    "uppzy": (UppzySite, "POST /api/v1/m2m/sites/site-1/chat", None),
    "lightrag": (LightRagServer, "POST /query", None),
    "generic": (DescribedDocs, "POST /v1/search", None),
}
"""By provider: the server, its search, and the second request of an upload."""


class CanaryWorld(World):
    """A world that is configured by the target of a provider in docs/canary.md alone."""

    def __init__(self, folder, server, provider):
        self.server, self.provider = server, provider
        super().__init__(folder, server, database=f"sqlite:///{folder}/monitor.db", sync_log="sqlite://")

    def configure(self, **_):
        text = (DOCS / "canary.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```toml\n(\[\[targets\]\].*?)^```", text, re.DOTALL | re.MULTILINE)
        target = next(block for block in blocks if f'provider = "{self.provider}"' in block)
        url = find_preset(self.provider)
        public = url.settings.get("base_url", "") if url else ""
        if "base_url" not in target:
            target = target.replace("\nprovider", f'\nbase_url = "{public}"\nprovider', 1)
        target = re.sub(r'(base_url = ")https://[^/"]+', rf"\g<1>{self.server.url}", target)
        target = re.sub(r"\$\{\w+\}", "the-key", target)
        self.config_path.write_text(f'database = "{self.database}"\n{target}', encoding="utf-8")

    def log(self, *_):
        """There is no sync log."""


@pytest.fixture(params=APIS)
def described_world(request, tmp_path):
    server = APIS[request.param][0]()
    server.settings = type("Settings", (), {"client_id": "", "client_secret": "", "api_key": ""})
    with server:
        made = CanaryWorld(tmp_path, server, request.param)
        yield made
        made.close()


BUDGETS = {Step.UPLOAD: 5.0, Step.RETRIEVE: 0.5, Step.CLEAN_UP: 2.0}


def canary(world, **changes):
    job = replace(build_canary_job(world.app, world.app.config.targets[0]), step_s=BUDGETS, **changes)
    return asyncio.run(Canary(job, interrupt=asyncio.Event())())


def test_the_target_of_the_document_uploads_retrieves_and_leaves_nothing(described_world):
    report = canary(described_world)
    assert (report.status, report.failure, report.clean_up) == (CanaryStatus.SUCCEEDED, None, CleanUp.DONE)
    assert described_world.server.left == {}


def test_a_search_that_fails_is_named_and_nothing_is_left(described_world):
    search = APIS[described_world.provider][1]
    described_world.server.broken[search] = 400
    report = canary(described_world)
    assert (report.failure.step, report.failure.http_status) == (Step.RETRIEVE, 400)
    assert (report.clean_up, described_world.server.left) == (CleanUp.DONE, {})


def test_a_document_that_was_uploaded_and_whose_id_never_came_is_found_by_name(described_world):
    """What a kill between the upload and its answer leaves."""
    world, server = described_world, described_world.server
    provider, made = build_canary_requests(world.app.config.targets[0])
    document = Document(name="ingestion-monitor-canary-lost", marker="lost")
    sent = made.upload[0].request(document.values)
    headers = {**sent.headers, server.key[0]: server.key[1]}
    path = ("/api/v1" if provider.name == "uppzy" else "/v1" if provider.name != "lightrag" else "") + sent.path
    assert server.respond("POST", path, {}, headers, sent.body)[0] in {200, 201}
    assert len(server.left) == 1

    job = build_canary_job(world.app, world.app.config.targets[0])
    killed = replace(job, new_token=lambda: "lost")
    Canary(killed, interrupt=asyncio.Event())._begin()
    progress_released(world)
    report = canary(world)
    assert (report.leftovers_removed, server.left) == (1, {})


def progress_released(world):
    """The lease of the killed canary has expired."""
    with world.app.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE leases SET expires_at = acquired_at, holder = NULL")


def test_a_half_finished_upload_is_removed(described_world):
    second = APIS[described_world.provider][2]
    if second is None:
        described_world.server.broken[APIS[described_world.provider][1]] = 500
    else:
        described_world.server.broken[second] = 400
    report = canary(described_world)
    assert report.failure.step is (Step.RETRIEVE if second is None else Step.UPLOAD)
    assert (report.clean_up, described_world.server.left) == (CleanUp.DONE, {})


# --- what the commands say --------------------------------------------------------------------------------------------

RAGIE = """
[[targets]]
name = "r"
provider = "ragie"
auth = { api_key = "k" }
[targets.canary]
every = "1h"
"""


def test_a_provider_without_canary_is_refused_by_config_check(tmp_path, capsys):
    file = tmp_path / "monitor.toml"
    file.write_text(RAGIE, encoding="utf-8")
    assert main(["config", "check", "--config", str(file)]) == 2
    assert "targets.r.canary can't be used with provider ragie" in capsys.readouterr().err


def test_parameters_of_its_own_win_and_replace_those_of_rows(tmp_path):
    file = tmp_path / "monitor.toml"
    file.write_text(
        '[[targets]]\nname = "s"\nprovider = "openai"\nauth = { api_key = "k" }\n'
        'sync_log = { url = "sqlite:///p.db", param_columns = { vector_store_id = "store" } }\n'
        '[targets.canary]\nparams = { vector_store_id = "vs_canary" }\n',
        encoding="utf-8",
    )
    target = load_config(file, environ={}).targets[0]
    provider, made = build_canary_requests(target)
    assert provider.item_request("f").path == "/vector_stores/vs_canary/files/f"
    values = Document(name="n", marker="m", item_id="f").values
    assert made.delete[0].request(values).path == "/vector_stores/vs_canary/files/f"
    without = target.model_copy(update={"canary": None})
    with pytest.raises(ConfigError, match="vector_store_id"):
        build_canary_requests(without)
