"""`here`: the command called in this process, for what needs no process of its own."""

import logging
import os
from types import SimpleNamespace

import pytest
import structlog

from monitor.cli import main


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Commands called in this process set the log up for a stream that ends with the test."""
    handlers = list(logging.getLogger().handlers)
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def here(capsys, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MONITOR_", "GLOO_"))]:
        monkeypatch.delenv(name)

    def call(world, *arguments):
        capsys.readouterr()  # what the test itself printed before
        code = main([*arguments, "--config", str(world.config_path)])
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return call
