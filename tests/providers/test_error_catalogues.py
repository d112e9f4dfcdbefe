"""What errors of an API mean, from its reference or its engine: whole runs on the targets of the documents."""

import json
from uuid import UUID

import pytest
from providers.documented_world import blocks
from providers.servers import catalogues, documented

from monitor.model import Cause, RunStatus

QUICK = '[targets.check]\nmax_attempts = 1\ndeadline = "5s"\n'
UUIDS = [str(UUID(int=number, version=4)) for number in range(6)]
DOCUMENTS = [f"doc-{number}" for number in range(6)]


def refused(world, answer, ids, runs=4):
    """Runs against an API that gives one answer to everything, some minutes apart; the last report."""
    world.configure(QUICK)
    world.server.refused = answer
    world.record(*ids)
    for _ in range(runs):
        report = world.run()
        world.clock.advance(minutes=10)
    return report


def incidents(report):
    return {incident.cause: str(incident.team) for incident in report.open_incidents}


def states(world):
    return {row["item_id"]: row["state"] for row in world.rows("SELECT item_id, state FROM items")}


def evidence(world):
    return {(row["cause"], row["code"]) for row in world.rows("SELECT cause, code FROM evidence")}


RAG_MODULO = {401: Cause.UNAUTHORIZED, 403: Cause.FORBIDDEN, 404: Cause.WRONG_SCOPE, 429: Cause.RATE_LIMITED,
              500: Cause.OUTAGE, 503: Cause.OUTAGE}  # fmt: skip


@pytest.mark.parametrize(
    "answer", catalogues.RagModulo.errors, ids=lambda answer: answer[2].get("error_code", answer[2]["detail"])
)
def test_each_error_of_rag_modulo_for_everything_has_its_cause_and_keeps_its_code(documented_world, answer):
    world = documented_world("rag_modulo.md", catalogues.RagModulo())

    report = refused(world, answer, UUIDS)

    cause = RAG_MODULO[answer[0]]
    assert cause in incidents(report)
    assert (cause, answer[2].get("error_code")) in evidence(world)
    assert not {"completed", "failed", "invalid"} & set(states(world).values())


def test_a_validation_error_of_rag_modulo_is_about_one_id_and_its_input_is_not_kept(documented_world):
    world = documented_world("rag_modulo.md", catalogues.RagModulo())
    refused_id = str(UUID(int=7, version=1))
    world.server.statuses = dict.fromkeys(UUIDS, "completed")
    world.record(*UUIDS, refused_id, "no-uuid")

    report = world.run()

    assert report.status is RunStatus.COMPLETE
    assert states(world) == {**dict.fromkeys(UUIDS, "completed"), refused_id: "invalid", "no-uuid": "invalid"}
    assert "no-uuid" not in world.server.asked
    assert b"kept-nowhere" not in (world.folder / "monitor.db").read_bytes()


def test_documents_of_rag_modulo_can_be_watched_as_its_documentation_describes_them(documented_world):
    world = documented_world("rag_modulo.md", catalogues.RagModuloDocuments())
    world.example = blocks("rag_modulo.md")[1]
    world.configure()
    fresh = [str(UUID(int=number, version=4)) for number in range(230)]
    world.server.statuses = {**dict.fromkeys(fresh, "indexed"), fresh[3]: "processing", fresh[4]: "failed"}
    gone = str(UUID(int=999, version=4))
    world.record(*fresh, gone)

    report = world.run()

    assert report.status is RunStatus.COMPLETE
    found = states(world)
    assert (found[fresh[0]], found[fresh[3]], found[fresh[4]], found[gone]) == (
        "completed", "pending", "failed", "not_found",
    )  # fmt: skip
    assert world.server.lists == 3


UPPZY = {400: (Cause.BAD_REQUEST, "integration"), 401: (Cause.UNAUTHORIZED, "credentials"),
         403: (Cause.FORBIDDEN, "account"), 404: (Cause.WRONG_SCOPE, "integration"),
         429: (Cause.RATE_LIMITED, "operations"), 500: (Cause.OUTAGE, "operations")}  # fmt: skip


@pytest.mark.parametrize("answer", catalogues.Uppzy.errors, ids=lambda answer: answer[0])
def test_each_error_of_uppzy_calls_whom_its_incident_routing_names(documented_world, answer):
    world = documented_world("uppzy.md", catalogues.Uppzy())

    report = refused(world, answer, DOCUMENTS)

    cause, team = UPPZY[answer[0]]
    assert team in incidents(report)[cause]
    assert set(states(world).values()) == {"unknown"}


class OtherUppzy(catalogues.Uppzy):
    def item(self, item_id):
        return {"document_id": item_id, "ingestion_status": self.statuses[item_id]}

    def page(self, query, items):
        number = int(query.get("page", 1))
        return 200, {}, {"data": {"documents": items[(number - 1) * 2 : number * 2], "total": len(items)}}


def test_another_form_of_uppzys_list_is_a_few_keys_of_the_target(documented_world):
    world = documented_world("uppzy.md", OtherUppzy())
    world.configure(blocks("uppzy.md")[1])
    world.server.statuses = dict(zip(DOCUMENTS, ["indexed", "indexed", "queued", "rejected", "new"], strict=False))
    world.record(*DOCUMENTS)

    world.run()

    assert [*states(world).values()] == ["completed", "completed", "pending", "failed", "pending", "not_found"]


@pytest.mark.parametrize(
    ("more", "said"), [("", "is not an array"), ('list = { items = "data.documents" }\n', "no id at 'id'")]
)
def test_doctor_says_where_uppzys_list_has_another_form_and_that_nothing_else_answers(documented_world, more, said):
    world = documented_world("uppzy.md", OtherUppzy())
    world.configure(more)
    world.server.statuses = dict.fromkeys(DOCUMENTS, "indexed")
    world.record(*DOCUMENTS)

    done = world.cli("doctor", "--json")

    (found,) = [each for each in json.loads(done.stdout)["findings"] if each["part"] == "list"]
    assert found["level"] == "problem"
    assert said in found["message"]
    assert "item by item" not in found["message"]


FILES = [f"file-{number}" for number in range(6)]


def test_a_400_without_a_type_is_a_file_that_llama_stack_does_not_know(documented_world):
    world = documented_world("openai.md", documented.LlamaStack())
    world.server.statuses = dict.fromkeys(FILES, "completed")
    world.record(*FILES, "file-gone", "file-long")

    assert world.run().status is RunStatus.COMPLETE

    assert states(world) == {**dict.fromkeys(FILES, "completed"), "file-gone": "not_found", "file-long": "invalid"}


def test_a_400_of_litellm_about_the_key_is_no_word_about_any_file(documented_world):
    world = documented_world("openai.md", documented.LiteLLM())
    world.server.statuses = dict.fromkeys(FILES, "completed")
    world.server.key = "another"
    world.record(*FILES)

    reports = [world.run(), world.run()]

    assert (reports[0].status, reports[0].abort_reason) == (RunStatus.ABORTED, "unauthorized")
    assert incidents(reports[1]) == {Cause.UNAUTHORIZED: "credentials"}
    assert set(states(world).values()) == {"unknown"}


def test_a_400_of_openai_for_every_file_is_about_the_request(documented_world):
    """A gateway that rejects the header: nobody's id is invalid, and no file is missing."""
    world = documented_world("openai.md", documented.OpenAI())
    world.server.statuses = dict.fromkeys(FILES, "completed")
    world.configure('headers = { OpenAI-Beta = "assistants=v1" }\n')
    world.record(*FILES)

    report = [world.run(), world.run()][1]

    assert Cause.BAD_REQUEST in incidents(report)
    assert set(states(world).values()) == {"unknown"}


class OneCode(documented.RAGFlow):
    code = 0

    def documents(self, path, query, headers):
        return 200, {}, {"code": self.code, "message": "it says"}


RAGFLOW = {100: Cause.OUTAGE, 101: Cause.BAD_RESPONSE, 102: Cause.WRONG_SCOPE, 108: Cause.FORBIDDEN,
           109: Cause.UNAUTHORIZED}  # fmt: skip


@pytest.mark.parametrize("code", RAGFLOW)
def test_the_code_in_ragflows_200_says_what_it_is(documented_world, code):
    world = documented_world("ragflow.md", OneCode())
    world.server.code = code

    report = refused(world, None, DOCUMENTS)

    assert RAGFLOW[code] in incidents(report)
    assert not {"completed", "failed", "invalid"} & set(states(world).values())


def test_the_list_of_a_gemini_store_can_be_added(documented_world):
    world = documented_world("gemini.md", documented.Gemini())
    world.configure(blocks("gemini.md")[1])
    ids = [f"fileSearchStores/notes-x1/documents/d-{number}" for number in range(60)]
    world.server.statuses = {**dict.fromkeys(ids, "STATE_ACTIVE"), ids[7]: "STATE_PENDING"}
    world.record(*ids)

    assert world.run().status is RunStatus.COMPLETE

    assert (world.server.lists, world.server.asked) == (3, [ids[7]])


class SwitchedOff(documented.LlamaCloud):
    def documents(self, path, query, headers):
        return 410, {}, {"detail": "This endpoint has been removed."}


def test_no_file_is_missing_when_llamacloud_switches_its_questions_off(documented_world):
    world = documented_world("llamacloud.md", SwitchedOff())

    report = refused(world, None, UUIDS)

    assert Cause.WRONG_SCOPE in incidents(report)
    assert set(states(world).values()) == {"unknown"}
