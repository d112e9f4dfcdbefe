"""SIGHUP: a new configuration is applied, or the old one stays; runs in progress are not disturbed."""

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from support.observed import until, until_asked

from monitor.config import load_config
from monitor.daemon.reload import target_changes

pytestmark = pytest.mark.process

HOURLY = '[schedule]\nevery = "1h"\n'
SECOND = """
[[targets]]
name = "second"
provider = "gloo"
base_url = "{base_url}"
publisher_id = "{publisher}"
auth = {auth}
sync_log = {{ url = "{sync_log}" }}
"""


def second(world):
    return SECOND.format(
        base_url=world.sandbox.url,
        publisher=world.sandbox.settings.publisher_id,
        auth=world.client_auth,
        sync_log=world.sync_log,
    )


def reload(daemon, event="configuration_reloaded"):
    """Sends SIGHUP; returns the daemon's event about it."""
    before = len(daemon.logged(event))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.await_events(event, before + 1)
    return daemon.logged(event)[-1]


def runs_of(daemon):
    return [event["integration"] for event in daemon.logged("run_finished")]


def test_targets_are_added_and_removed_and_the_others_keep_their_schedule(small_world, start):
    small_world.configure(more=HOURLY)
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    small_world.configure(more=HOURLY + second(small_world))
    answer = reload(daemon)
    assert (answer["added"], answer["removed"], answer["rescheduled"]) == (["second"], [], [])
    daemon.await_events("run_finished", 2)
    small_world.configure(more=HOURLY)
    assert reload(daemon)["removed"] == ["second"]
    small_world.configure(more='[schedule]\nevery = "1s"\n')
    assert reload(daemon)["rescheduled"] == ["gloo"]
    daemon.await_events("run_finished", 4)
    assert daemon.end()[0] == 143
    assert runs_of(daemon)[:4] == ["gloo", "second", "gloo", "gloo"]
    assert small_world.rows("SELECT cause FROM evidence") == [], "another rhythm is no gap"


def test_an_invalid_configuration_is_refused_with_every_reason_and_the_old_one_stays(small_world, start):
    small_world.configure(more='[schedule]\nevery = "1s"\n')
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    good = small_world.config_path.read_text(encoding="utf-8")
    small_world.config_path.write_text(good.replace('"1s"', '"1 second"') + "colour = 3\n", encoding="utf-8")
    answer = reload(daemon, "configuration_refused")
    assert (answer["level"], len(answer["problems"])) == ("error", 2)
    assert answer["problems"][0].startswith("schedule.every must be a duration")
    small_world.config_path.write_text("nonsense [", encoding="utf-8")
    assert "is not valid TOML" in reload(daemon, "configuration_refused")["problems"][0]
    seen = len(daemon.logged("run_finished"))
    daemon.await_events("run_finished", seen + 2)
    small_world.config_path.write_text(good, encoding="utf-8")
    reload(daemon)
    assert daemon.end()[0] == 143


def test_a_run_in_progress_keeps_its_settings(small_world, start):
    small_world.configure(check="concurrency = 2", more=HOURLY)
    small_world.track(40)
    small_world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)
    daemon = start(small_world)
    until_asked(small_world, 6)
    small_world.configure(more='environment = "other"\n[schedule]\nevery = "2h"\n'.partition("\n")[2])
    reload(daemon)
    daemon.await_events("run_finished", 2)
    assert daemon.end()[0] == 143
    first, second_run = small_world.rows("SELECT run_key, status, total FROM history ORDER BY run_id")[:2]
    assert (first["run_key"][:8], first["status"], first["total"]) == ("every 1h", "complete", 40)
    assert second_run["run_key"][:8] == "every 2h"
    assert daemon.logged("run_skipped") == [], "it waits for its own run, and not for a lease"


def test_a_new_secret_is_masked_from_the_first_event(small_world, start, tmp_path):
    small_world.configure(more=HOURLY)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    secret, path = "n3w-cAnary-s3cret", tmp_path / "key"
    path.write_text(secret, encoding="utf-8")
    small_world.configure(
        more=HOURLY + second(small_world).replace(small_world.client_auth, f'{{ api_key_file = "{path}" }}')
    )
    small_world.config_path.write_text(
        small_world.config_path.read_text(encoding="utf-8").replace(
            'environment = "test"', f'environment = "x {secret} x"'
        ),
        encoding="utf-8",
    )
    reload(daemon)
    daemon.await_events("run_finished", 2)
    assert daemon.end()[0] == 143
    assert not [line for line in daemon.lines if secret in line]
    assert daemon.logged("run_finished")[-1]["environment"] == "x ********** x"


def test_a_reload_changes_the_database_and_refuses_an_unusable_one(small_world, start):
    small_world.configure(more='[schedule]\nevery = "1s"\n')
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    elsewhere = small_world.folder / "elsewhere.db"
    small_world.configure(more='[schedule]\nevery = "1s"\n', database=f"sqlite:///{small_world.folder}/no/such.db")
    assert "can't be" in reload(daemon, "configuration_refused")["problems"][0]
    small_world.configure(more='[schedule]\nevery = "1s"\n', database=f"sqlite:///{elsewhere}")
    assert reload(daemon)["database_changed"] is True
    until(lambda: small_world.rows("SELECT 1 FROM history"), "a run in the other database")
    assert daemon.end()[0] == 143


def test_a_reload_can_change_the_database_while_the_daemon_waits_for_it(small_world, start):
    shutil.move(small_world.folder / "monitor.db", small_world.folder / "moved.db")
    small_world.configure(more=HOURLY, database=f"sqlite:///{small_world.folder}/no/such.db")
    daemon = start(small_world)
    daemon.await_events("database_not_ready")
    small_world.configure(more=HOURLY, database=f"sqlite:///{small_world.folder}/moved.db")
    reload(daemon)
    daemon.await_events("run_finished")
    assert daemon.end()[0] == 143


def test_a_key_rotated_in_its_file_is_used_without_a_reload(small_world, start, tmp_path):
    path = tmp_path / "key"
    path.write_text(small_world.sandbox.settings.api_key, encoding="utf-8")
    small_world.configure(auth=f'{{ api_key_file = "{path}" }}', more='[schedule]\nevery = "1s"\n')
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    path.write_text("wrong-key-for-a-while", encoding="utf-8")
    until(lambda: daemon.logged("run_finished")[-1]["unknown"] == 1, "a refusal")
    path.write_text(small_world.sandbox.settings.api_key, encoding="utf-8")
    until(lambda: daemon.logged("run_finished")[-1]["completed"] == 1, "the key again")
    assert daemon.end()[0] == 143
    assert not [line for line in daemon.lines if "wrong-key-for-a-while" in line]


def test_a_schema_that_becomes_newer_is_logged_and_the_daemon_waits(small_world, start):
    small_world.configure(more='[schedule]\nevery = "1s"\n')
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    with closing(sqlite3.connect(small_world.folder / "monitor.db", timeout=20)) as conn, conn:
        (schema,) = conn.execute("SELECT version_num FROM ingestion_monitor_version").fetchone()
        conn.execute("UPDATE ingestion_monitor_version SET version_num = '9999'")
        # makes the daemon check at once instead of within half a minute
        conn.execute("ALTER TABLE leases RENAME TO mislaid")
    until(lambda: any("is newer than this program's" in e["reason"] for e in daemon.logged("database_not_ready")), "it")
    assert daemon.process.poll() is None
    with closing(sqlite3.connect(small_world.folder / "monitor.db", timeout=20)) as conn, conn:
        conn.execute("UPDATE ingestion_monitor_version SET version_num = ?", (schema,))
        conn.execute("ALTER TABLE mislaid RENAME TO leases")
    seen = len(daemon.logged("run_finished"))
    daemon.await_events("run_finished", seen + 1)
    assert daemon.end()[0] == 143


@pytest.mark.parametrize("sign", [signal.SIGHUP])
def test_repeated_and_early_sighups_do_not_end_the_daemon(small_world, start, sign):
    small_world.configure(more=HOURLY)
    daemon = start(small_world)
    until(lambda: _ignores(daemon.process.pid, sign), "that it heeds the signal")
    for _ in range(20):
        daemon.process.send_signal(sign)
        time.sleep(0.02)
    daemon.await_events("run_finished")
    assert daemon.end()[0] == 143


def _ignores(pid, sign):
    """Whether a process has a handler for a signal, which would end it otherwise."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123  # a file of the kernel's
        masks = dict(line.split(":\t") for line in status if line.startswith(("SigIgn", "SigCgt")))
    return any(int(mask, 16) >> (sign - 1) & 1 for mask in masks.values()) and os.path.exists(f"/proc/{pid}")  # noqa: PTH110  # the same


@pytest.mark.smoke
def test_only_changed_targets_are_restarted(small_world):
    small_world.configure(more=HOURLY)
    old = load_config(small_world.config_path, environ={})
    small_world.configure(check="concurrency = 3", more=HOURLY)
    same = load_config(small_world.config_path, environ={})
    small_world.configure(more=HOURLY.replace("]\n", ']\njitter = "1m"\n'))
    jittered = load_config(small_world.config_path, environ={})
    assert target_changes(old, same) == target_changes(old, old)
    assert target_changes(old, jittered).rescheduled == ("gloo",)
