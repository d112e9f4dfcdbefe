"""Runs the examples of docs/providers against APIs that answer as documented."""

import contextlib
import re
import shutil
from pathlib import Path
from uuid import UUID

import pytest
from providers.servers import documented
from support.world import Clock, World

from monitor.model import Cause, RunStatus

DOCS = Path(__file__).parents[2] / "docs/providers"

EXAMPLES = {
    "README.md": (documented.MyEngine, "doc-{}", 2, "ready", "queued embedding", "error cancelled"),
    "openai.md": (documented.OpenAI, "file-a{}", 3, "completed", "in_progress", "failed cancelled"),
    "ragie.md": (
        documented.Ragie,
        "{uuid}",
        3,
        "ready",
        "pending partitioning partitioned refined chunked indexed summary_indexed keyword_indexed",
        "failed",
    ),
    "contextual-ai.md": (
        documented.ContextualAI,
        "{uuid}",
        3,
        "completed",
        "pending processing retrying",
        "failed cancelled",
    ),
    "llamacloud.md": (
        documented.LlamaCloud,
        "{uuid}",
        3,
        "SUCCESS",
        "NOT_STARTED IN_PROGRESS",
        "ERROR CANCELLED PARTIAL_SUCCESS",
    ),
    "prefect.md": (
        documented.Prefect,
        "{uuid}",
        1,
        "COMPLETED",
        "SCHEDULED PENDING RUNNING PAUSED CANCELLING",
        "FAILED CRASHED CANCELLED",
    ),
    "pinecone-assistant.md": (documented.Pinecone, "{uuid}", 1, "Available", "Processing Deleting", "ProcessingFailed"),
}
COMPLETED = 130


class DocumentedWorld(World):
    """A World with its own API, configured only by the first target in a document."""

    def __init__(self, folder, server, document):
        self.folder, self.server, self.clock = folder, server, Clock()
        self.config_path = folder / "monitor.toml"
        self.sync_log = f"sqlite:///{folder / 'pipeline.db'}"
        self._apps, self._app = contextlib.ExitStack(), None
        self.example = example(document)
        self.configure()
        self.log("CREATE TABLE sync_log (item_id TEXT)")

    def configure(self, more=""):
        here = re.sub(r'(base_url = ")https://[^/"]+', rf"\g<1>{self.server.url}", self.example)
        self.config_path.write_text(here + more, encoding="utf-8")
        variables = re.findall(r"\$\{(\w+)\}", here)
        (self.folder / ".env").write_text("".join(f"{name}=the-key\n" for name in variables), encoding="utf-8")
        (self.folder / ".env").chmod(0o600)
        self.close()

    def upload(self, item_id, status):
        self.server.statuses[item_id] = status
        self.record(item_id)

    def record(self, *item_ids):
        self.log("INSERT INTO sync_log VALUES (:i)", [{"i": item_id} for item_id in item_ids])


def example(document):
    """The first TOML block of a document."""
    return re.search(r"^```toml\n(.*?)^```", (DOCS / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]


@pytest.fixture
def documented_world(tmp_path, _sqlite_template):
    """Makes the world of a document: `(document, server)`."""
    shutil.copyfile(_sqlite_template, tmp_path / "monitor.db")
    with contextlib.ExitStack() as opened:

        def make(document, server):
            opened.enter_context(server)
            return opened.enter_context(contextlib.closing(DocumentedWorld(tmp_path, server, document)))

        yield make


def ids(pattern):
    """Item ids in the form of an API."""
    number = 1
    while True:
        yield pattern.format(number, uuid=UUID(int=number, version=4))
        number += 1


def counts(snapshot):
    return {str(state): count for state, count in snapshot.states.items() if count}


def populate(world, pattern, completed, others):
    """Many completed documents, two in every other status, and a record of one that the API does not have."""
    fresh = ids(pattern)
    done = {next(fresh): completed for _ in range(COMPLETED)}
    rest = {next(fresh): status for status in others for _ in range(2)}
    world.server.statuses = {**done, **rest}
    missing = next(fresh)
    world.record(*world.server.statuses, missing)
    return sorted([*rest, missing])


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
    assert counts(report.snapshot) == {
        "completed": COMPLETED,
        "pending": 2 * len(pending),
        "failed": 2 * len(failed),
        "not_found": 1,
    }
    assert world.server.lists == pages
    assert world.server.asked == not_completed
    assert world.rows("SELECT DISTINCT recognised FROM items WHERE stage IS NOT NULL") == [{"recognised": True}]
    world.server.key = "another"
    refused = world.run()
    assert (refused.status, refused.abort_reason) == (RunStatus.ABORTED, "unauthorized")


def test_every_document_about_an_api_is_tested():
    assert {path.name for path in DOCS.glob("*.md")} - {"descriptions.md"} == set(EXAMPLES)


@pytest.mark.parametrize("document", [name for name in EXAMPLES if name != "README.md"])
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


def test_the_same_main_job_on_an_api_with_pages_from_configuration_alone(documented_world):
    """A revoked key: one incident with one opening and one resolution; then documents that fail."""
    world = documented_world("README.md", documented.MyEngine())
    fresh = ids("doc-{}")
    done = [next(fresh) for _ in range(COMPLETED)]
    world.server.statuses = dict.fromkeys(done, "ready")
    world.record(*done)
    assert counts(world.run().snapshot) == {"completed": COMPLETED}
    world.server.key = "rotated"
    assert [open_causes(world.run()) for _ in range(3)] == [[], [Cause.UNAUTHORIZED], [Cause.UNAUTHORIZED]]
    assert sent_kinds(world) == [("opened", "unauthorized")]
    world.server.key = "the-key"
    assert [open_causes(world.run()) for _ in range(2)] == [[Cause.UNAUTHORIZED], []]
    assert sent_kinds(world) == [("opened", "unauthorized"), ("resolved", "unauthorized")]
    world.upload("doc-new", "error")
    assert open_causes(world.run()) == [Cause.ITEMS_FAILED]
    world.server.statuses["doc-new"] = "ready"
    assert open_causes(world.run()) == []
    assert counts(world.run().snapshot) == {"completed": COMPLETED + 1}


def test_item_by_item_finds_the_same_as_the_list(documented_world):
    world = documented_world("contextual-ai.md", documented.ContextualAI())
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
