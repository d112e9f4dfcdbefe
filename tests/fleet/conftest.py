"""Fixtures for the queue: a PostgreSQL database with its tables, and configurations for it."""

import pytest

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
