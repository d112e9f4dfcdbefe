"""What the shell completes: names from the configuration, and the words that options accept."""

import os
import subprocess
import sys

import pytest
from support.thinned import first_only

from monitor.model import Cause

CASES = {
    "a target": ("check --target ", ["gloo"]),
    "a state": ("items list --state fai", ["failed"]),
    "a state that was known": ("items list --known-state ", ["completed", "failed", "not_found"]),
    "a cause": ("rules test --cause items_f", ["items_failed"]),
    "an attribute": ("silences add --match sev", ["severity="]),
    "a severity": ("silences add --match severity=w", ["severity=warning"]),
    "a cause to silence": ("silences add --match cause=out", ["cause=outage"]),
    "a target to silence": ("silences add --match target=", ["target=gloo"]),
    "a word of --fail-on": ("check --fail-on failed,stu", ["failed,stuck"]),
    "a gate's target": ("gate g", ["gloo"]),
    "a target to wait for": ("wait g", ["gloo"]),
    "a target to ask": ("status g", ["gloo"]),
    "a channel": ("notifications list --channel ", ["log"]),
    "an API": ("init --provider op", ["openai"]),
    "an API to show": ("providers show pre", ["prefect"]),
    "a format": ("report --format js", ["json"]),
}


def complete(line, folder, **environ):
    """What bash would offer behind this line."""
    words = f"ingestion-monitor {line}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "GLOO_"))}
    asked = {
        "_INGESTION_MONITOR_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "monitor"], env={**kept, **asked, **environ}, cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(("line", "offered"), first_only(CASES.values()), ids=CASES)
def test_a_word_is_completed(small_world, line, offered):
    found = complete(line, small_world.folder)
    assert [each for each in offered if each not in found] == []


def test_all_causes_are_offered(small_world):
    assert complete("rules test --cause ", small_world.folder) == [cause.value for cause in Cause]


def test_without_a_readable_configuration_nothing_is_offered_and_nothing_fails(small_world):
    small_world.config_path.write_text("nonsense")
    assert complete("check --target ", small_world.folder) == []


def test_the_configuration_may_be_named_on_the_line_or_in_the_environment(small_world, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = str(small_world.config_path)
    assert complete(f"check --config {path} --target ", elsewhere) == ["gloo"]
    assert complete("check --target ", elsewhere, MONITOR_CONFIG=path) == ["gloo"]
