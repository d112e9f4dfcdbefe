import io
import json
import re
import sys

import pytest
from house.test_secrets import CANARIES, leaks, postgres, with_canaries
from support.receiver import Receiver

from monitor.cli import main


def checked_lines(done, world):
    """Lines that are fine or problems, with single spaces. Warnings are omitted, since they depend on the machine."""
    text = re.sub(r"\n {17}(?! )", " ", done.stdout).replace(str(world.folder), "…")
    lines = [" ".join(line.split()) for line in text.replace(world.sandbox.url[7:], "HOST").splitlines()]
    return [re.sub(r"\(\d{4}\)", "(N)", line) for line in lines if line.startswith(("✓", "✗", "target"))]


def test_a_healthy_setup_is_printed_with_ticks(here, small_world):
    (item_id,) = small_world.track(1)
    small_world.configure(strategy="auto")
    small_world.config_path.chmod(0o600)
    done = here(small_world, "doctor", "--log-level", "error")
    assert (done.returncode, done.stderr) == (0, "")
    assert checked_lines(done, small_world) == [
        "✓ configuration …/monitor.toml: 1 target, 0 channels.",
        "✓ database …/monitor.db is readable and writable; its schema is current (N).",
        "✓ secret files 1 file, readable only by its owner.",
        "target gloo",
        '✓ sync log table "sync_log" is readable: 1 row, 1 item.',
        "✓ ids 1 item, each with an id that gloo can accept.",
        "✓ connection HOST answers.",
        "✓ credentials a token was issued and accepted.",
        f"✓ item {item_id} is COMPLETED.",
        "✓ list 1 item could be read; runs with over 50 due items will use it.",
        "✓ clock ours and the API's agree within 1 s.",
        "✓ routes there is no channel: incidents go to the log.",
    ]
    assert done.stdout.endswith(f" Next:\n  ingestion-monitor check --config {small_world.config_path}\n")


def test_a_problem_is_code_3_with_the_next_step(here, small_world):
    small_world.track(1)
    small_world.sandbox.revoke_client()
    done = here(small_world, "doctor")
    assert done.returncode == 3
    assert "✗ credentials    the token endpoint: " in done.stdout
    assert re.search(r"→ targets\.gloo\.auth \(monitor\.toml, line \d+\)", done.stdout)
    assert "Fix what is marked, then run again:" in done.stdout
    assert all(len(line) < 80 for line in done.stdout.splitlines() if "/" not in line)


def test_a_configuration_that_can_t_be_read_ends_with_code_2_and_every_problem(here, small_world):
    text = small_world.config_path.read_text(encoding="utf-8")
    small_world.config_path.write_text(text.replace("publisher_id", "publisherid") + 'rate = "fast"\n')
    done = here(small_world, "doctor")
    assert done.returncode == 2
    assert done.stdout.count("✗ configuration") == 3
    assert '✗ configuration targets.gloo.publisherid is not a known key; did you mean "publisher_id"?' in checked_lines(
        done, small_world
    )
    assert "- all else       not tried: the configuration is unusable." in done.stdout
    assert small_world.sandbox.requests() == 0


def test_json_is_one_value_on_stdout(here, small_world):
    small_world.track(1)
    done = here(small_world, "doctor", "--json")
    value = json.loads(done.stdout)
    assert (value["ok"], value["exit_code"], done.returncode) == (True, 0, 0)
    (item,) = [finding for finding in value["findings"] if finding["part"] == "item"]
    assert (item["about"], item["level"]) == ("target gloo", "ok")


def test_json_of_a_wrong_configuration_has_its_problems(here, small_world):
    small_world.config_path.write_text("targets = 1", encoding="utf-8")
    done = here(small_world, "doctor", "--json")
    value = json.loads(done.stdout)
    assert (value["exit_code"], done.returncode) == (2, 2)
    assert [finding["level"] for finding in value["findings"]] == ["problem", "not_tried"]


def test_a_single_target_can_be_checked(here, small_world):
    small_world.track(1)
    second = (
        small_world.config_path.read_text(encoding="utf-8").partition("[[targets]]")[2].replace('"gloo"', '"two"', 1)
    )
    small_world.configure(more="[[targets]]" + second)
    done = here(small_world, "doctor", "--target", "two")
    assert "target two" in done.stdout
    assert "target gloo" not in done.stdout
    unknown = here(small_world, "doctor", "--target", "three")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "error: --target: there is no target 'three'; choose from gloo, two\n"


def test_a_test_message_is_sent_on_request(here, small_world):
    with Receiver() as receiver:
        small_world.configure(more=f'[[channels]]\nname = "hook"\ntype = "slack"\nurl = "{receiver.url}"\n')
        here(small_world, "doctor")
        assert receiver.got == []
        assert (
            "✓ hook           a test message was sent and accepted."
            in here(small_world, "doctor", "--send-test").stdout
        )
        assert len(receiver.got) == 1


def test_an_ascii_terminal_gets_ascii_marks(small_world, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["doctor", "--config", str(small_world.config_path)]) == 0
    assert b"+ database" in raw.getvalue()


# --- secrets ---------------------------------------------------------------------------------------------------------


def talkative(here, world):
    """All output of doctor, as text and as JSON, at the most verbose log level."""
    done = [here(world, "doctor", "--send-test", "--log-level", "debug", *more) for more in ((), ("--json",))]
    assert "request_finished" in done[0].stderr, "the log is wide open"
    return done[0], "".join(each.stdout + each.stderr for each in done)


ECHO = {"code": CANARIES["apikey"], "message": f"Incorrect API key provided: {CANARIES['apikey']}"}
FAILING = {
    "a refused client": ("client", None),
    "a refused key": ("apikey", None),
    "an api that repeats the key": ("apikey", {"path": "/engine", "status": 403, "body": ECHO}),
    "a rejected token": ("right", {"path": "/engine", "status": 401}),
    "a dropped token request": ("client", {"path": "/oauth2", "close": True}),
    "a body that can't be read": ("apikey", {"path": "/engine", "status": 200, "body": "<html>"}),
}


@pytest.mark.parametrize(("auth", "fault"), FAILING.values(), ids=FAILING)
def test_no_secret_is_printed_with_any_answer_of_the_api(here, small_world, auth, fault):
    small_world.track(1)
    with_canaries(small_world, auth=auth)
    if fault:
        small_world.sandbox.add_fault(**fault)
    done, said = talkative(here, small_world)
    assert done.returncode == 3
    assert "no answer (refused)" in said, "the channel fails too"
    assert leaks(said) == []


def test_unreachable_databases_reveal_no_secret(here, small_world):
    with_canaries(small_world, auth="right", database=postgres(1, "dbpass"), sync_log=postgres(1, "logpass"))
    done, said = talkative(here, small_world)
    assert done.returncode == 3
    assert said.count("can't be reached") >= 4
    assert leaks(said) == []


def test_an_unusable_secret_file_is_named_and_not_quoted(here, small_world):
    small_world.track(1)
    (small_world.folder / "hook").write_text(f"ftp://{CANARIES['hookpath']}", encoding="utf-8")
    small_world.configure(more='[[channels]]\nname = "s"\ntype = "slack"\nurl_file = "hook"\n')
    done = here(small_world, "doctor", "--log-level", "debug")
    assert done.returncode == 2
    assert "channels.s.url" in done.stdout
    assert leaks(done.stdout, done.stderr) == []
