"""Folders that were deleted or have odd names, and ids that would reorder what a terminal shows."""

import json
import os
import subprocess
import sys

import pytest
from support.thinned import first_only
from support.world import environment

TURNED = "doc-\u202egpj.exe"


def deleted_folder(world, *arguments):
    """Runs the command in a folder that is deleted under it."""
    gone = world.folder / "release-41"
    gone.mkdir()
    script = f'cd "{gone}" && rmdir "{gone}" && exec "{sys.executable}" -m monitor "$@"'
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", *arguments],
        env={**environment(), "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


@pytest.mark.parametrize("command", first_only(["check", "report", "config check", "items list"]))
def test_a_command_works_in_a_folder_that_was_deleted(small_world, command):
    arguments = command.split()
    small_world.track(1)
    done = deleted_folder(small_world, *arguments, "--config", str(small_world.config_path))
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    without = deleted_folder(small_world, *arguments)
    assert without.returncode == 2
    assert "Traceback" not in without.stderr


@pytest.mark.process
def test_a_folder_whose_name_is_not_utf_8_is_as_good_as_any(small_world):
    small_world.track(1)
    odd = os.fsencode(small_world.folder) + b"/caf\xe9"
    os.mkdir(odd)  # noqa: PTH102  # a path of bytes
    content = small_world.config_path.read_text()
    content = content.replace(small_world.database, "sqlite:///monitor.db").replace(
        small_world.sync_log, "sqlite:///missing.db"
    )
    with open(odd + b"/monitor.toml", "w", encoding="utf-8") as file:  # noqa: PTH123  # as above
        file.write(content)
    for arguments in (("check",), ("doctor",), ("config", "show"), ("db", "current")):
        done = subprocess.run(
            [sys.executable, "-m", "monitor", *arguments], cwd=odd, env=environment(), capture_output=True, check=False,
            timeout=240,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode()
        assert "Traceback" not in said
        assert "control characters" not in said
        if arguments == ("check",):
            assert r"caf\udce9/missing.db does not exist" in said
            assert done.returncode == 3


def test_an_id_that_reorders_text_reaches_no_terminal_as_it_is(small_world):
    small_world.record(TURNED)
    shown = [small_world.cli("check"), small_world.cli("items", "list"), small_world.cli("items", "show", TURNED)]
    for done in shown:
        assert "\u202e" not in done.stdout + done.stderr
    assert r"doc-\u202egpj.exe" in shown[1].stdout
    listed = small_world.cli("items", "list", "--json")
    assert "\u202e" not in listed.stdout
    assert [each["item_id"] for each in json.loads(listed.stdout)["items"]] == [TURNED]
