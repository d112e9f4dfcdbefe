"""The units under deploy/systemd and the crontab: hardened, with fitting timeouts, and consistent with the program."""

import re
import shlex
from datetime import timedelta

import pytest
from deploy.asked import loaded, parsed
from manifests import DEPLOY, UNITS, systemd_faults

from monitor.cli.signals import FORCED_EXIT_S

PROGRAM = "/opt/ingestion-monitor/bin/ingestion-monitor"
SYSTEMD = DEPLOY / "systemd"
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
CRONTAB = (DEPLOY / "crontab").read_text(encoding="utf-8")
SETTINGS = (SYSTEMD / "monitor.toml").read_text(encoding="utf-8")
LOCKED = {
    "AmbientCapabilities": [""],
    "CapabilityBoundingSet": [""],
    "LockPersonality": ["yes"],
    "MemoryDenyWriteExecute": ["yes"],
    "NoNewPrivileges": ["yes"],
    "PrivateDevices": ["yes"],
    "PrivateTmp": ["yes"],
    "PrivateUsers": ["yes"],
    "ProtectHome": ["yes"],
    "ProtectKernelModules": ["yes"],
    "ProtectKernelTunables": ["yes"],
    "ProtectSystem": ["strict"],
    "RestrictAddressFamilies": ["AF_UNIX AF_INET AF_INET6"],
    "RestrictNamespaces": ["yes"],
    "StateDirectory": ["ingestion-monitor"],
    "SystemCallArchitectures": ["native"],
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "UMask": ["0077"],
    "User": ["ingestion-monitor"],
}


def settings(name):
    """Each setting of a unit, with its values in order."""
    found = {}
    for line in (SYSTEMD / name).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(min|)", text).groups()
    return int(number) * (60 if unit else 1)


def test_systemd_analyze_finds_no_problem_if_installed():
    assert list(systemd_faults()) == []


@pytest.mark.parametrize("service", SERVICES, ids=lambda unit: unit.stem)
def test_a_service_is_sandboxed(service):
    found = settings(service.name)
    assert {key: found.get(key) for key in LOCKED} == LOCKED


@pytest.mark.parametrize("service", SERVICES, ids=lambda unit: unit.stem)
def test_the_program_accepts_the_arguments_of_a_service(service):
    found = settings(service.name)
    started = [shlex.split(each.removeprefix("-")) for key in ("ExecStartPre", "ExecStart") for each in found[key]]
    assert [words[0] for words in started] == [PROGRAM, PROGRAM]
    assert started[0][1:] == ["db", "upgrade"]
    assert [list(parsed(words[1:])) for words in started if not parsed(words[1:])] == []
    assert found["Environment"] == ["MONITOR_CONFIG=/etc/ingestion-monitor/monitor.toml"]


@pytest.mark.parametrize("service", SERVICES, ids=lambda unit: unit.stem)
def test_the_stop_timeout_is_longer_than_the_program_needs(service):
    assert seconds(settings(service.name)["TimeoutStopSec"][0]) > FORCED_EXIT_S + 5


def test_the_daemon_unit_has_notify_watchdog_and_restart():
    found = settings("ingestion-monitor.service")
    assert (found["Type"], found["NotifyAccess"]) == (["notify"], ["main"])
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert seconds(found["WatchdogSec"][0]) >= 30
    assert found["Restart"] == ["on-failure"]
    assert found["StartLimitIntervalSec"] == ["0"], "a database that is down for an hour must not end it for good"
    assert found["ExecStartPre"][0].startswith("-"), "nor may the migration, which needs the database"
    assert found["RestartPreventExitStatus"] == ["2"], "a restart does not fix a wrong configuration"
    assert found["SuccessExitStatus"] == ["143 130"]


def test_a_run_has_time_for_its_deadline_before_systemd_ends_it(tmp_path):
    (target,) = loaded(SETTINGS, tmp_path).targets
    limit = timedelta(seconds=seconds(settings("ingestion-monitor-check.service")["TimeoutStartSec"][0]))
    assert limit > target.check.deadline + timedelta(seconds=FORCED_EXIT_S + 30)


def test_the_timer_has_the_schedule_of_the_settings(tmp_path):
    timer = settings("ingestion-monitor-check.timer")
    every = loaded(SETTINGS, tmp_path).schedule.every
    assert timer["OnCalendar"] == [f"*:0/{every // timedelta(minutes=1)}"]
    assert timer["Persistent"] == ["true"]
    assert timedelta(seconds=seconds(timer["RandomizedDelaySec"][0])) < every / 2, "else a run would count as missed"


def test_the_settings_are_accepted_and_keep_the_database_in_the_state_directory(tmp_path):
    config = loaded(SETTINGS, tmp_path)
    assert config.warnings == ()
    assert config.database.reveal() == "sqlite:////var/lib/ingestion-monitor/monitor.db"


def test_the_settings_are_accepted_with_systemds_credentials(tmp_path):
    by_credentials = SETTINGS.replace('"secrets/', '"${CREDENTIALS_DIRECTORY}/')
    config = loaded(by_credentials, tmp_path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert config.targets[0].auth.client_secret.reveal() == "secret"


def cron_lines():
    """The command lines of the crontab, including commented-out ones."""
    return re.findall(r"^(?:# )?(\S+ \S+ \S+ \S+ \S+)  (\S+) (.+)$", CRONTAB, re.MULTILINE)


@pytest.mark.parametrize(("when", "program", "arguments"), cron_lines())
def test_the_program_accepts_the_arguments_of_the_crontab(when, program, arguments):
    assert re.fullmatch(r"\*/\d+ \* \* \* \*", when)
    assert program == PROGRAM
    assert parsed(shlex.split(arguments))


def test_a_cron_job_prints_nothing_if_healthy_or_another_run_is_in_progress():
    (check,) = [parsed(shlex.split(arguments)) for _, _, arguments in cron_lines() if arguments.startswith("check")]
    assert (check["quiet"], check["skip_ok"]) == (True, True)
