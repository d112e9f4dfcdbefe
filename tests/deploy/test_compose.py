"""deploy/compose.yaml: unprivileged, started in the right order, and consistent with the program and the settings."""

import re

import pytest
import yaml
from deploy.asked import parsed
from deploy.container import OF_THE_IMAGE, USER
from manifests import DEPLOY, ROOT

from monitor.cli.signals import FORCED_EXIT_S

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "database"}
SETTINGS = (DEPLOY / "kubernetes/base/monitor.toml").read_text(encoding="utf-8")
KEYS = {
    *("build", "image", "user", "command", "environment", "read_only", "tmpfs", "cap_drop", "cap_add"),
    *("security_opt", "secrets", "volumes", "networks", "ports", "depends_on", "restart", "stop_grace_period"),
    *("healthcheck", "logging", "mem_limit", "pids_limit", "shm_size", "profiles"),
}
"""The keys of the Compose specification in use: a mistyped key would be ignored, or refused only by `up`."""


def test_keys_are_those_of_the_compose_specification():
    assert set(COMPOSE) == {"name", "x-locked", "x-folder", "x-monitor", "services", "networks", "volumes", "secrets"}
    assert {key for service in SERVICES.values() for key in service} <= KEYS


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_a_service_has_no_privileges(service):
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":\d+\.\d+", service["image"]), "an image has a version"
    assert OF_THE_IMAGE["HOME"] in [each.split(":")[0] for each in service["tmpfs"]]


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_our_services_run_as_the_images_user_without_capabilities(service):
    assert service["user"] == f"{USER}:{USER}"
    assert "cap_add" not in service
    assert all(volume["read_only"] for volume in service["volumes"])


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_the_program_accepts_the_command_of_a_service(service):
    assert parsed(service["command"])["config"] is None, "it is found by MONITOR_CONFIG"


def test_the_schema_is_upgraded_after_the_database_starts_and_before_the_daemon():
    assert SERVICES["migrate"]["command"] == ["db", "upgrade"]
    assert SERVICES["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["restart"] == "no"
    for name in ("daemon", "worker"):
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_settings_and_secrets_are_mounted_as_folders():
    for service in OURS.values():
        mounted = {volume["target"]: volume["source"] for volume in service["volumes"]}
        assert mounted == {"/etc/ingestion-monitor": "./config", "/run/secrets/ingestion-monitor": "./secrets"}
        assert {volume["type"] for volume in service["volumes"]} == {"bind"}
        assert [volume["bind"] for volume in service["volumes"]] == [{"create_host_path": False}] * 2
        assert "secrets" not in service, "a secret of Compose is a single file"
        assert service["environment"]["MONITOR_CONFIG"] == "/etc/ingestion-monitor/monitor.toml"
    assert re.findall(r'"(/run/secrets/[^"]*/)[\w-]+"', SETTINGS) == ["/run/secrets/ingestion-monitor/"] * 4


def test_settings_and_secrets_are_ignored_by_git():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"deploy/config/", "deploy/secrets/", "deploy/database-password"} <= set(ignored)
    assert COMPOSE["secrets"] == {"database-password": {"file": "./database-password"}}


def test_secrets_are_not_environment_variables():
    assert [
        name
        for service in SERVICES.values()
        for name in service["environment"]
        if re.search("PASSWORD|SECRET|TOKEN|KEY", name) and not name.endswith("_FILE")
    ] == []


@pytest.mark.parametrize("name", ["daemon", "worker"])
def test_the_stop_timeout_is_longer_than_the_program_needs(name):
    service = SERVICES[name]
    assert int(service["stop_grace_period"].removesuffix("s")) > FORCED_EXIT_S + 5
    assert service["restart"] == "unless-stopped"


def test_workers_start_only_with_the_profile():
    assert {name: each["profiles"] for name, each in SERVICES.items() if "profiles" in each} == {"worker": ["fleet"]}


def test_the_port_is_published_on_loopback_only():
    daemon = SERVICES["daemon"]
    assert daemon["environment"]["MONITOR_WEB__LISTEN"] == "0.0.0.0:8990"
    assert daemon["ports"] == ["127.0.0.1:8990:8990"]
    assert SERVICES["database"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert "ports" not in SERVICES["database"]


def test_every_service_that_serves_has_a_health_check():
    assert [name for name, each in SERVICES.items() if each.get("healthcheck", {}).get("test")] == [
        "database", "daemon"
    ]  # fmt: skip


def test_the_health_check_is_the_images():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    exec_form = ", ".join(f'"{word}"' for word in SERVICES["daemon"]["healthcheck"]["test"][1:])
    assert f"CMD [{exec_form}]" in dockerfile
