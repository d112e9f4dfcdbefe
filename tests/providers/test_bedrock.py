"""Bedrock knowledge bases: whole runs against a server that checks each signature, from the page's own example."""

import re
import shutil
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest
from providers.servers.knowledge_base import MODEL, KnowledgeBase
from support.world import Clock, World

from monitor.model import Cause, RunStatus
from monitor.providers.preset import find_preset

PAGE = (Path(__file__).parents[2] / "docs/providers/bedrock.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
KEYS = 'auth = {{ access_key_id = "AKIDEXAMPLE", secret_access_key = "{secret}", region = "eu-central-1"{more} }}'
SECRET = "the-secret-access-key"
STATUSES = find_preset("bedrock").settings["statuses"]


class BedrockWorld(World):
    """A world whose API is a knowledge base."""

    def __init__(self, folder, server):
        self.folder, self.server, self.clock = folder, server, Clock()
        self.config_path, self.sync_log = folder / "monitor.toml", f"sqlite:///{folder / 'pipeline.db'}"
        self._apps, self._app = ExitStack(), None
        self.configure()
        self.log("CREATE TABLE sync_log (s3_uri TEXT)")

    def configure(self, *, secret=SECRET, more="", target="", example=EXAMPLES[0]):
        text = re.sub(r'base_url = "[^"]+"', f'base_url = "{self.server.url}"', example)
        keys = f"{KEYS.format(secret=secret, more=more)}\n{target}"
        self.config_path.write_text(text.replace('provider = "bedrock"', f'provider = "bedrock"\n{keys}'))
        self.close()

    def has(self, *uris, status="INDEXED", recorded=True):
        self.server.statuses |= dict.fromkeys(uris, status)
        if recorded:
            self.log("INSERT INTO sync_log VALUES (:i)", [{"i": uri} for uri in uris])

    def states(self):
        return {row["item_id"]: row["state"] for row in self.rows("SELECT item_id, state FROM items")}


@pytest.fixture
def base(tmp_path, _sqlite_template):
    shutil.copyfile(_sqlite_template, tmp_path / "monitor.db")
    with KnowledgeBase() as server, closing(BedrockWorld(tmp_path, server)) as world:
        yield world


def uris(count):
    return [f"s3://my-bucket/reports/{number:02} é+%2F.pdf" for number in range(count)]


def test_every_status_of_the_service_is_in_the_preset_and_on_the_page():
    known = set(MODEL.shape_for("DocumentStatus").enum)

    assert {word for words in STATUSES.values() for word in words} == known
    rows = re.findall(r"^\| (`.*?) \| (completed|pending|failed|not found) \|", PAGE, re.MULTILINE)
    shown = {word: state.replace(" ", "_") for words, state in rows for word in re.findall(r"`(\w+)`", words)}
    assert shown == {word: state for state, words in STATUSES.items() for word in words}


def test_the_service_takes_ten_documents_by_these_questions():
    item, list_ = find_preset("bedrock").settings["item"], find_preset("bedrock").settings["list"]

    for operation, rule in (("GetKnowledgeBaseDocuments", item), ("ListKnowledgeBaseDocuments", list_)):
        http = MODEL.operation_model(operation).http
        path = rule["path"].replace("knowledge_base_id", "knowledgeBaseId").replace("data_source_id", "dataSourceId")
        assert (http["method"], http["requestUri"]) == (rule["method"], path)
    assert item["batch"] == MODEL.shape_for("DocumentIdentifiers").metadata["max"]
    assert list_["page"]["size"] == MODEL.shape_for("MaxResults").metadata["max"]


def test_documents_are_asked_about_by_ten_in_signed_requests(base):
    base.has(*uris(23))

    report = base.run()

    assert report.status is RunStatus.COMPLETE
    assert report.snapshot.states["completed"] == 23
    assert max(map(len, base.server.asked())) == 10
    assert sorted(uri for question in base.server.asked() for uri in question) == sorted(uris(23))


@pytest.mark.parametrize(("state", "words"), STATUSES.items(), ids=STATUSES)
def test_each_status_means_what_the_page_says(base, state, words):
    for word, uri in zip(words, uris(9), strict=False):
        base.has(uri, status=word)

    base.run()

    assert set(base.states().values()) == {state}
    assert base.rows("SELECT DISTINCT recognised FROM items WHERE stage IS NOT NULL") in ([{"recognised": 1}], [])


def test_a_document_that_the_service_does_not_know_is_not_found_and_the_others_are_judged(base):
    known, unknown, ignored = uris(3)
    base.has(known, unknown, ignored)
    del base.server.statuses[unknown]
    base.server.statuses[ignored], base.server.reasons[ignored] = "IGNORED", "Unsupported file type."

    base.run()

    assert base.states() == {known: "completed", unknown: "not_found", ignored: "failed"}
    (row,) = base.rows(f"SELECT * FROM items WHERE item_id = '{ignored}'")
    assert "Unsupported file type." in row.values()
    assert "IGNORED" in row.values()


def test_the_list_is_read_page_by_page(base):
    base.server.page_size = 7
    base.has(*uris(60))

    report = base.run()

    assert report.snapshot.states["completed"] == 60
    lists = [body for path, _, body in base.server.requests if path.endswith("/documents")]
    assert [body.get("nextToken") for body in lists] == [None, *map(str, range(7, 60, 7))]
    assert base.server.asked() == []


def test_documents_of_a_custom_source_are_named_as_the_page_says(base):
    base.configure(example=EXAMPLES[0] + EXAMPLES[1])
    base.server.identify = lambda each: {"dataSourceType": "CUSTOM", "custom": {"id": each}}
    base.has("doc 1", "doc/2")

    base.run()

    assert base.states() == {"doc 1": "completed", "doc/2": "completed"}
    (question,) = [body for path, _, body in base.server.requests if path.endswith("/getDocuments")][-1:]
    assert {each["dataSourceType"] for each in question["documentIdentifiers"]} == {"CUSTOM"}


REFUSALS = {
    "an unknown key": (lambda base: base.server.keys.clear(), "unauthorized"),
    "another secret": (lambda base: base.configure(secret="another-secret-key"), "unauthorized"),
    "a token that is wrong": (lambda base: base.configure(more=', session_token = "old-token"'), "unauthorized"),
    "a clock that is slow": (lambda base: setattr(base.server, "ahead", timedelta(hours=1)), "unauthorized"),
    "a clock that is fast": (lambda base: setattr(base.server, "ahead", timedelta(hours=-1)), "unauthorized"),
    "no permission": (
        lambda base: base.server.faults.extend(
            [(403, "AccessDeniedException", "User is not authorized to perform this action")] * 9
        ),
        "forbidden",
    ),
    "an unknown knowledge base": (
        lambda base: base.config_path.write_text(base.config_path.read_text().replace("ABCDEFGHIJ", "XBCDEFGHIJ")),
        "wrong_scope",
    ),
}


@pytest.mark.parametrize(("change", "cause"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_about_all_documents_and_has_its_cause(base, change, cause):
    base.has(*uris(12))
    change(base)

    reports = [base.run() for _ in range(2)]

    assert {state for report in reports for state, count in report.snapshot.states.items() if count} == {"unknown"}
    assert [row["cause"] for row in base.rows("SELECT DISTINCT cause FROM incidents")] == [cause]


def test_doctor_compares_the_clocks_if_signatures_are_refused(base):
    base.has(*uris(1))
    base.server.ahead = timedelta(hours=1)

    done = base.cli("doctor")

    assert done.returncode == 3
    assert "InvalidSignatureException" in done.stdout
    assert "! clock" in done.stdout or "✗ clock" in done.stdout


def test_keys_in_a_file_are_read_again_when_they_are_refused(base):
    secret = base.folder / "secret"
    secret.write_text(SECRET)
    base.configure(secret="x")
    base.config_path.write_text(
        base.config_path.read_text().replace('secret_access_key = "x"', f'secret_access_key_file = "{secret}"')
    )
    base.has(*uris(2))
    assert base.run().snapshot.states["completed"] == 2
    base.server.keys["AKIDEXAMPLE"] = "the-next-secret-key"
    secret.write_text("the-next-secret-key")

    assert base.run().snapshot.states["completed"] == 2


@pytest.mark.parametrize("fault", [
    (429, "ThrottlingException", "Rate exceeded"), (402, "ServiceQuotaExceededException", "Too many requests"),
])  # fmt: skip
def test_a_limit_on_requests_passes(base, fault):
    base.has(*uris(2))
    base.server.faults.append(fault)

    report = base.run()

    assert report.snapshot.states["completed"] == 2
    assert base.server.asked() == [uris(2)] * 2


def test_neither_the_secret_nor_the_token_is_shown(base):
    secret, token = "canary-secret-access-key", "canary+session/token=="
    base.configure(secret=secret, more=f', session_token = "{token}"')
    base.server.token = token
    base.has(*uris(1))
    base.run()

    shown = [base.cli("config", "show"), base.cli("check", "--log-level", "debug"), base.cli("incidents", "list")]

    text = "".join(each.stdout + each.stderr for each in shown)
    assert "AKIDEXAMPLE" in text
    assert "does not match the signature" in text or "unauthorized" in text
    assert all(part not in text for part in ("canary-secret", "canary+session", "Signature="))
    stored = str(base.rows("SELECT * FROM incidents")) + str(base.rows("SELECT * FROM incident_events"))
    assert "canary" not in stored


def test_a_refused_key_is_one_incident(base):
    base.has(*uris(3))
    base.server.keys.clear()
    for _ in range(3):
        base.run()

    assert [row["cause"] for row in base.rows("SELECT cause FROM incidents")] == [str(Cause.UNAUTHORIZED)]
