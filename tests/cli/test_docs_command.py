import json
from types import SimpleNamespace

import pytest

from monitor.cli import main


@pytest.fixture
def command(capsys):
    def call(*arguments):
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return call


def test_pages_are_listed_with_their_titles(command):
    listed = command("docs").stdout
    assert "channels " in listed
    assert "providers/openai " in listed
    assert "adr/" not in listed


@pytest.mark.parametrize("name", ["channels", "docs/channels.md", "providers", "providers/openai"])
def test_a_page_is_printed(command, name):
    done = command("docs", name)
    assert (done.returncode, done.stdout.startswith("# ")) == (0, True)
    assert json.loads(command("docs", name, "--json").stdout)["text"].startswith("# ")


@pytest.mark.parametrize(("name", "hint"), [
    ("providers/lightrag", "docs providers/engines`"), ("gloo", "`ingestion-monitor providers show gloo`"),
])  # fmt: skip
def test_an_api_without_a_page_of_its_own_is_shown_elsewhere(command, name, hint):
    done = command("docs", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr


def test_an_unknown_page_is_a_usage_error_with_a_near_name(command):
    done = command("docs", "chanels")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'did you mean "channels"?' in done.stderr
