"""The transcripts of docs/wait.md are what the command prints, apart from ids and times."""

import re
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).parents[2] / "docs/wait.md").read_text(encoding="utf-8")
TRANSCRIPT = re.compile(r"<!-- transcript: ([\w ]+) -->\n```\n\$ (.+)\n([^`]*)exit (\d+)\n```", re.MULTILINE)
SHOWN = {name: (command, output, int(code)) for name, command, output, code in TRANSCRIPT.findall(
    DOCUMENT.replace("`--timeout`", "--timeout")
)}  # fmt: skip
UPLOADS = {
    "completed": ["COMPLETED", "COMPLETED", "COMPLETED"],
    "failed": ["COMPLETED", "FAILED", "letter-17"],
    "timed out": ["COMPLETED", "CHUNKING", "9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d"],
}
"""Statuses of uploaded documents, and ids of none."""
_UUID, _TIME = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}"), re.compile(r"\b\d+(?:\.\d+)?(?:ms|s|m)(?:\d+s)?\b")


def facts(text):
    """The lines without what differs from one time to another."""
    lines = text.replace("`--timeout`", "--timeout").splitlines()
    return [_TIME.sub("T", _UUID.sub("ID", line)) for line in lines if not line.startswith("waiting for ")]


@pytest.mark.parametrize("name", UPLOADS)
def test_the_transcript_is_what_the_command_prints(here, small_world, name):
    site = small_world
    path = site.config_path
    path.write_text(path.read_text().replace('name = "gloo"', 'name = "sandbox"'))
    ids = [
        site.sandbox.create_items(1, status=each)[0] if each.isupper() else each for each in UPLOADS[name]
    ]  # fmt: skip
    (site.folder / "ids.txt").write_text("\n".join(ids))
    command, output, code = SHOWN[name]
    assert "wait sandbox --ids-from ids.txt --timeout 2m" in command
    done = here(site, "wait", "sandbox", "--ids-from", str(site.folder / "ids.txt"), "--timeout", "2s")
    assert (done.returncode, facts(done.stdout)) == (code, facts(output))


def test_the_document_names_every_result_and_exit_code():
    from monitor.waits.rules import WaitResult

    assert [each.value for each in WaitResult if f"`{each.value}`" not in DOCUMENT] == []
    assert set(SHOWN) == set(UPLOADS)
