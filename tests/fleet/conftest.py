"""Fixtures for the queue, and for runs that are shared: PostgreSQL databases, and Worlds on them."""

import pytest
from support.world import World

from monitor.config import load_config
from monitor.fleet import queue_schema

TARGET = """
[[targets]]
name = "docs"
provider = "generic"
base_url = "https://api.example"
auth = { api_key = "key" }
statuses = { completed = ["done"] }
item = { path = "/documents/{item_id}" }
"""


@pytest.fixture
def queue_url(new_postgres):
    """A database with the newest schema and the queue."""
    url = new_postgres(migrated=True)
    queue_schema.upgrade(url)
    return url


@pytest.fixture
def configured(tmp_path):
    """Makes the configuration of a fleet on a database."""

    def make(url, fleet='stalled_after = "5s"'):
        path = tmp_path / "monitor.toml"
        path.write_text(f'database = "{url}"\n{TARGET}\n[fleet]\nworkers = true\n{fleet}\n', encoding="utf-8")
        return load_config(path, environ={})

    return make


@pytest.fixture
def shared_world(tmp_path, sandbox, new_postgres):
    """A World on PostgreSQL whose requests are not repeated."""
    made = World(tmp_path, sandbox, database=new_postgres(migrated=True), sync_log=new_postgres())
    made.configure(auth=made.key_auth, check="max_attempts = 1")
    yield made
    made.close()


@pytest.fixture
def alone(tmp_path, sandbox, shared_world, new_postgres):
    """A second World over the same sandbox and sync log, whose runs are of one process."""
    (tmp_path / "alone").mkdir()
    made = World(tmp_path / "alone", sandbox, database=new_postgres(migrated=True), sync_log=new_postgres())
    made.sync_log = shared_world.sync_log
    made.configure(auth=made.key_auth, check="max_attempts = 1")
    yield made
    made.close()
