"""Runs the examples of docs/providers against APIs that answer as documented."""

import re
from uuid import UUID

import pytest
from providers.documented_world import DOCS, blocks
from providers.servers import catalogues, documented
from providers_table import renewed
from support.thinned import first_only

from monitor.app import validate_providers
from monitor.config import load_config
from monitor.model import Cause, RunStatus
from monitor.providers.preset import find_preset, preset_names

EXAMPLES = {
    "README.md": (documented.MyEngine, "doc-{}", 2, "ready", "queued embedding", "error cancelled"),
    "contextual": (
        documented.ContextualAI,
        "{uuid}",
        3,
        "completed",
        "pending processing retrying",
        "failed cancelled",
    ),
    "gemini.md": (
        documented.Gemini,
        "fileSearchStores/notes-x1/documents/d-{}",
        0,
        "STATE_ACTIVE",
        "STATE_PENDING STATE_UNSPECIFIED",
        "STATE_FAILED",
    ),
    "llamacloud.md": (
        documented.LlamaCloud,
        "{uuid}",
        3,
        "SUCCESS",
        "NOT_STARTED IN_PROGRESS",
        "ERROR CANCELLED PARTIAL_SUCCESS",
    ),
    "mistral.md": (
        documented.Mistral,
        "{uuid}",
        2,
        "done",
        "todo in_progress waiting_for_capacity",
        "error missing_content",
    ),
    "openai.md": (documented.OpenAI, "file-a{}", 3, "completed", "in_progress", "failed cancelled"),
    "pinecone.md": (documented.Pinecone, "{uuid}", 3, "Available", "Processing Deleting", "ProcessingFailed"),
    "prefect.md": (
        documented.Prefect,
        "{uuid}",
        1,
        "COMPLETED",
        "SCHEDULED PENDING RUNNING PAUSED CANCELLING",
        "FAILED CRASHED CANCELLED",
    ),
    "rag_modulo.md": (catalogues.RagModulo, "{uuid}", 0, "completed", "created processing", "error"),
    "ragflow.md": (documented.RAGFlow, "{hex}", 2, "DONE", "UNSTART SCHEDULE RUNNING", "FAIL CANCEL"),
    "ragie.md": (
        documented.Ragie,
        "{uuid}",
        3,
        "ready",
        "pending partitioning partitioned refined chunked indexed summary_indexed keyword_indexed",
        "failed",
    ),
    "uppzy.md": (catalogues.Uppzy, "doc-{}", 1, "completed ready", "", "failed"),
}
"""The page with the example, or a preset without a page: its API, ids, pages of the list (0: it has none), statuses."""

LIST_ALONE = {"uppzy.md"}
REASONS = {
    "llamacloud.md": ("PARSE", "The file can't be parsed."),
    "openai.md": ("unsupported_file", "The file's type is not supported."),
    "prefect.md": ("Failed", None),
    "ragflow.md": (None, "09:11:01 [ERROR] The parser gave up."),
    "ragie.md": (None, "The file has no text."),
}
"""Why an item of the first failed status failed: the code, and the API's own words."""

COMPLETED = 130


def ids(pattern):
    """Item ids in the form of an API."""
    number = 1
    while True:
        uuid = UUID(int=number, version=4)
        yield pattern.format(number, uuid=uuid, hex=uuid.hex)
        number += 1


def counts(snapshot):
    return {str(state): count for state, count in snapshot.states.items() if count}


def populate(world, pattern, completed, others):
    """Many completed documents, two in every other status, and a record of one that the API does not have."""
    fresh = ids(pattern)
    words = completed.split()
    done = {next(fresh): words[number % len(words)] for number in range(COMPLETED)}
    rest = {next(fresh): status for status in others for _ in range(2)}
    world.server.statuses = {**done, **rest}
    missing = next(fresh)
    world.record(*world.server.statuses, missing)
    return sorted([*rest, missing])


def asked_alone(world, document, pages, not_completed):
    """The items that are asked about one by one: what the list does not call completed, or all without a list."""
    if document in LIST_ALONE:
        return []
    return not_completed if pages else sorted({*world.server.statuses, *not_completed})


@pytest.mark.parametrize(
    ("document", "api", "pattern", "pages", "completed", "pending", "failed"),
    [(document, *rest) for document, rest in EXAMPLES.items()],
    ids=EXAMPLES,
)
def test_the_example_in_the_document_watches_the_documented_api(
    documented_world, document, api, pattern, pages, completed, pending, failed
):
    world = documented_world(document, api())
    pending, failed = pending.split(), failed.split()
    not_completed = populate(world, pattern, completed, [*pending, *failed])
    report = world.run()
    assert report.status is RunStatus.COMPLETE
    expected = {"completed": COMPLETED, "pending": 2 * len(pending), "failed": 2 * len(failed), "not_found": 1}
    assert counts(report.snapshot) == {state: count for state, count in expected.items() if count}
    assert world.server.lists == pages
    assert world.server.asked == asked_alone(world, document, pages, not_completed)
    why = "SELECT failure_reason, failure_message FROM items WHERE state = 'failed' AND stage = '{}'"
    told = {tuple(row.values()) for row in world.rows(why.format(failed[0]))}
    assert told == {REASONS.get(document, (None, None))}
    assert world.rows("SELECT DISTINCT recognised FROM items WHERE stage IS NOT NULL") == [{"recognised": True}]
    world.server.key = "another"
    refused = world.run()
    assert (refused.status, refused.abort_reason) == (RunStatus.ABORTED, "unauthorized")


def test_every_document_about_an_api_is_tested():
    pages = {path.name for path in DOCS.glob("*.md")} - {"descriptions.md", "engines.md"}
    assert pages - TESTED_ELSEWHERE == {document for document in EXAMPLES if document.endswith(".md")}


TESTED_ELSEWHERE = frozenset({"bedrock.md"})
"""Pages of APIs whose own tests run the engine, or what it answered, or check signatures."""


def test_the_table_of_what_is_built_in_is_current():
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    assert renewed(text) == text, "`make docs` writes it anew"


@pytest.mark.parametrize("name", [name for name in preset_names() if (find_preset(name).docs or "").endswith(".md")])
def test_the_page_of_a_preset_exists_and_names_it(name):
    page = DOCS.parents[1] / find_preset(name).docs
    assert f"`{name}`" in (text := page.read_text(encoding="utf-8")) or f'provider = "{name}"' in text


NOT_INSTALLED = re.compile(r'^provider = "(acme|bedrock)"', re.MULTILINE)
"""Targets that need a package which the tests do not."""


def targets_in_documents():
    for page in sorted(DOCS.glob("*.md")):
        for number, block in enumerate(blocks(page.name)):
            if "[[targets]]" in block and not NOT_INSTALLED.search(block):
                yield pytest.param(block, id=f"{page.name}-{number}")


@pytest.mark.parametrize("block", [*targets_in_documents()])
def test_every_target_in_the_documents_is_valid(tmp_path, block):
    path = tmp_path / "monitor.toml"
    path.write_text(block, encoding="utf-8")
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block), "the-key")
    targets = load_config(path, environ=environ).targets
    assert targets
    validate_providers(targets)


@pytest.mark.parametrize("document", [name for name in EXAMPLES if name.endswith(".md") and name != "README.md"])
def test_every_status_in_the_table_of_a_document_means_what_its_example_says(document):
    text = (DOCS / document).read_text(encoding="utf-8")
    *_, completed, pending, failed = EXAMPLES[document]
    meant = {**dict.fromkeys(completed.split(), "completed"), **dict.fromkeys(pending.split(), "pending")} | (
        dict.fromkeys(failed.split(), "failed")
    )
    rows = re.findall(r"^\| (`.*?) \| (completed|pending|failed) \|", text, re.MULTILINE)
    documented_states = {status: state for names, state in rows for status in re.findall(r"`(\w+)`", names)}
    assert documented_states
    assert documented_states.items() <= meant.items()


@pytest.mark.parametrize("document", first_only(["README.md", "rag_modulo.md", "uppzy.md"]))
def test_the_same_main_job_from_a_few_lines_of_configuration(documented_world, document):
    """A revoked key: one incident with one opening and one resolution; then documents that fail."""
    api, pattern, _, good, _, bad = EXAMPLES[document]
    good, bad = good.split()[0], bad.split()[0]
    world = documented_world(document, api())
    fresh = ids(pattern)
    done = [next(fresh) for _ in range(COMPLETED)]
    world.server.statuses = dict.fromkeys(done, good)
    world.record(*done)
    assert counts(world.run().snapshot) == {"completed": COMPLETED}
    key, world.server.key = world.server.key, "rotated"
    assert [open_causes(world.run()) for _ in range(3)] == [[], [Cause.UNAUTHORIZED], [Cause.UNAUTHORIZED]]
    assert sent_kinds(world) == [("opened", "unauthorized")]
    world.server.key = key
    assert [open_causes(world.run()) for _ in range(2)] == [[Cause.UNAUTHORIZED], []]
    assert sent_kinds(world) == [("opened", "unauthorized"), ("resolved", "unauthorized")]
    new = next(fresh)
    world.upload(new, bad)
    assert open_causes(world.run()) == [Cause.ITEMS_FAILED]
    world.server.statuses[new] = good
    assert open_causes(world.run()) == []
    assert counts(world.run().snapshot) == {"completed": COMPLETED + 1}


def test_item_by_item_finds_the_same_as_the_list(documented_world):
    world = documented_world("contextual", documented.ContextualAI())
    world.configure('\n[targets.check]\nstrategy = "items"\n')
    populate(world, "{uuid}", "completed", ["retrying", "cancelled"])
    assert counts(world.run().snapshot) == {"completed": COMPLETED, "pending": 2, "failed": 2, "not_found": 1}
    assert world.server.lists == 0
    assert len(world.server.asked) == COMPLETED + 5


class Issuing(documented.MyEngine):
    """An engine that requires a token from its own token endpoint."""

    key_header = "authorization"

    def __init__(self):
        super().__init__()
        self.key, self.forms = "Bearer granted", []

    def posted(self, path, form):
        self.forms.append((path, form))
        return 200, {}, {"access_token": "granted", "token_type": "Bearer", "expires_in": 3600}


def with_auth(world, line):
    """Replaces the authentication; an empty line means none."""
    world.example = re.sub(r"^auth = .*\n", line, world.example, flags=re.MULTILINE)
    world.configure()


def test_client_credentials_go_to_the_token_endpoint_that_the_configuration_names(documented_world):
    world = documented_world("README.md", Issuing())
    with_auth(
        world, 'auth = { client_id = "me", client_secret = "the-key", token_path = "/token?v=2", scope = "read" }\n'
    )
    world.upload("doc-1", "ready")
    assert counts(world.run().snapshot) == {"completed": 1}
    assert world.server.forms == [("/api/token?v=2", {"grant_type": "client_credentials", "scope": "read"})]


def test_an_api_without_credentials_gets_none(documented_world):
    world = documented_world("README.md", documented.MyEngine())
    with_auth(world, "")
    world.server.key = None
    world.upload("doc-1", "ready")
    assert counts(world.run().snapshot) == {"completed": 1}


class Circling(documented.MyEngine):
    """An engine that ignores page numbers and always returns the first page."""

    def page(self, query, items):
        return super().page({**query, "page": 1}, items)


class LinkingAway(documented.MyEngine):
    """An engine whose second page is on another origin."""

    def page(self, query, items):
        status, _, body = super().page({"page": 1, **query}, items)
        return status, {"link": '<https://evil.example.net/api/documents?page=2>; rel="next"'}, body


ASTRAY = {
    "in a circle": (Circling, [('total = "meta.total"\n', "")], 4),  # after three in a row that only repeat
    "to another host": (LinkingAway, [('by = "number" ', 'by = "link"   '), ('total = "meta.total"\n', "")], 1),
}


@pytest.mark.parametrize(("api", "changes", "pages"), ASTRAY.values(), ids=ASTRAY)
def test_a_wrong_list_is_dropped_and_items_are_requested(documented_world, api, changes, pages):
    world = documented_world("README.md", api())
    for old, new in changes:
        assert old in world.example
        world.example = world.example.replace(old, new)
    world.configure()
    populate(world, "doc-{}", "ready", ["queued"])
    assert counts(world.run().snapshot) == {"completed": COMPLETED, "pending": 2, "not_found": 1}
    assert world.server.lists == pages
    assert len(world.server.asked) == COMPLETED + 3


def open_causes(report):
    return [incident.cause for incident in report.open_incidents]


def sent_kinds(world):
    query = "SELECT n.kind, i.cause FROM notifications n JOIN incidents i ON i.id = n.incident_id ORDER BY n.id"
    return [(row["kind"], row["cause"]) for row in world.rows(query)]
