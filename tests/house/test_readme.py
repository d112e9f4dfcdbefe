"""README.md and the quickstart name real commands, and README.md stays short."""

import re
import shlex
from pathlib import Path

import pytest

from monitor.cli.app import command_tree

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_LINES = 100


def commands(name):
    """The words of each command in a document."""
    text = (ROOT / name).read_text(encoding="utf-8")
    fence = re.compile(r"^```(\w*).*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    lines = [
        line for kind, block in fence.findall(text) if kind in {"", "sh", "console"} for line in block.splitlines()
    ]
    spans = re.findall(r"`((?:ingestion-monitor|\*/5) [^`]+)`", fence.sub("", text))
    for line in [*lines, *spans]:
        if found := re.search(r"(?:^|(?<=\* )|(?<=\$ ))ingestion-monitor .*", line):
            yield shlex.split(found[0].split(" 2>>")[0], comments=True)[1:]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=f"{name} {' '.join(words)}")
        for name in ("README.md", "docs/quickstart.md")
        for words in {tuple(words): words for words in commands(name)}.values()
    ],
)
def test_every_command_of_the_documents_exists(words):
    command, rest = command_tree(), words
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    assert not hasattr(command, "commands"), "a group without a command"
    command.make_context(" ".join(words), list(rest))


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MAX_LINES
