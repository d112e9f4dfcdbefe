"""Fixtures of providers: the world of a document."""

import contextlib
import shutil

import pytest
from providers.documented_world import DocumentedWorld


@pytest.fixture
def documented_world(tmp_path, _sqlite_template):
    """Makes the world of a document: `(document, server)`."""
    shutil.copyfile(_sqlite_template, tmp_path / "monitor.db")
    with contextlib.ExitStack() as opened:

        def make(document, server):
            opened.enter_context(server)
            return opened.enter_context(contextlib.closing(DocumentedWorld(tmp_path, server, document)))

        yield make
