"""The manifests under deploy/kubernetes: valid, unprivileged, and consistent with the program."""

import json
import re
from datetime import timedelta

import pytest
import yaml
from deploy.asked import expanded, loaded, parsed
from deploy.container import OF_THE_IMAGE, USER
from deploy.kustomize import UnknownFeatureError, build, containers, pod_of
from manifests import DEPLOY, EXAMPLES, OVERLAYS, faults

from monitor.cli.check import MAX_RUN_KEY_LENGTH
from monitor.cli.signals import FORCED_EXIT_S
from monitor.web.metric_definitions import METRIC_DEFINITIONS, PREFIX

BUILT = {overlay.name: build(overlay) for overlay in OVERLAYS}
MANIFESTS = {
    f"{overlay}: {each['kind']} {each['metadata']['name']}": each for overlay, all_ in BUILT.items() for each in all_
}
PODS = {name: pod_of(each) for name, each in MANIFESTS.items() if pod_of(each)}
CONTAINERS = {f"{name}, {each['name']}": each for name, manifest in MANIFESTS.items() for each in containers(manifest)}
JOB_LABEL = "metadata.labels['batch.kubernetes.io/job-name']"
MAX_JOB_NAME = 63
"""The longest value of a label, which Kubernetes makes from the name."""
BARE = "resources: [only.yaml]\n"
ONLY = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"


def only(overlay, kind, name="ingestion-monitor"):
    """The object of a kind, or of several the one that is named so."""
    found = [each for each in BUILT[overlay] if each["kind"] == kind]
    (found,) = found if len(found) == 1 else [each for each in found if each["metadata"]["name"] == name]
    return found


def config_of(overlay, folder):
    return loaded(only(overlay, "ConfigMap")["data"]["monitor.toml"], folder)


def variables(container):
    return {each["name"]: each.get("value", "ingestion-monitor-29000000") for each in container["env"]}


# --- valid -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_a_built_manifest_is_valid_for_old_and_new_clusters(manifest):
    assert list(faults(manifest)) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid(path):
    manifests = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert manifests
    assert [fault for each in manifests for fault in faults(each)] == []


def test_a_mistake_in_a_manifest_is_found():
    manifest = json.loads(json.dumps(only("daemon", "Deployment")))
    manifest["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFileSystem"] = True
    assert any("readOnlyRootFileSystem" in fault for fault in faults(manifest))


def test_every_way_to_run_has_its_overlay():
    assert sorted(BUILT) == ["cronjob", "daemon", "fleet"]


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_all_objects_are_in_one_namespace(manifest):
    where = manifest["metadata"]["name" if manifest["kind"] == "Namespace" else "namespace"]
    assert where == "ingestion-monitor"


@pytest.mark.parametrize(
    "feature",
    ["patchesStrategicMerge: []", "commonLabels: {}", "secretGenerator: []", "images: [{name: a, newTag: b, tag: c}]"],
)
def test_the_builder_refuses_unknown_keys(tmp_path, feature):
    (tmp_path / "only.yaml").write_text(ONLY, encoding="utf-8")
    (tmp_path / "kustomization.yaml").write_text(BARE, encoding="utf-8")
    assert len(build(tmp_path)) == 1
    (tmp_path / "kustomization.yaml").write_text(BARE + feature, encoding="utf-8")
    with pytest.raises(UnknownFeatureError, match=r"kustomization\.yaml: \w+"):
        build(tmp_path)


def test_the_builder_names_a_map_as_kustomize_does(tmp_path):
    (tmp_path / "a.txt").write_text("hello\n", encoding="utf-8")
    made = "configMapGenerator: [{name: m, files: [a.txt]}]\n"
    (tmp_path / "kustomization.yaml").write_text(made, encoding="utf-8")
    (config_map,) = build(tmp_path)
    assert config_map["metadata"]["name"] == "m-7bbhf79gm2"  # by kustomize 5.5


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_everything_that_a_pod_mounts_exists(pod):
    maps = {each["metadata"]["name"] for each in MANIFESTS.values() if each["kind"] == "ConfigMap"}
    (secret,) = yaml.safe_load_all((DEPLOY / "kubernetes/examples/secret.yaml").read_text(encoding="utf-8"))
    assert {each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each} <= maps
    assert {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v} == {secret["metadata"]["name"]}
    named = {volume["name"] for volume in pod["volumes"]}
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert {mount["name"] for mount in container["volumeMounts"]} == named


def test_the_secrets_that_the_settings_name_are_those_of_the_example():
    (secret,) = yaml.safe_load_all((DEPLOY / "kubernetes/examples/secret.yaml").read_text(encoding="utf-8"))
    settings = (DEPLOY / "kubernetes/base/monitor.toml").read_text(encoding="utf-8")
    assert set(re.findall(r'"/run/secrets/ingestion-monitor/([\w-]+)"', settings)) == set(secret["stringData"])


# --- privileges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_has_no_privileges_token_or_service_variables(pod):
    context = pod["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, USER, USER)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "configMap", "secret", "emptyDir"}
    assert all(volume["secret"]["defaultMode"] == 0o440 for volume in pod["volumes"] if "secret" in volume)


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_a_container_has_no_privileges_and_has_resource_limits(container):
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["requests"]) == set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")] == [OF_THE_IMAGE["HOME"]]


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_images_have_a_version(container):
    assert re.fullmatch(r"registry\.example/ingestion-monitor:\d+\.\d+\.\d+", container["image"])


def test_the_service_account_has_no_token():
    assert all(not only(overlay, "ServiceAccount")["automountServiceAccountToken"] for overlay in BUILT)


def test_network_policy_allows_dns_https_and_postgres_out_and_only_prometheus_in():
    policies = {each["metadata"]["name"]: each["spec"] for each in BUILT["daemon"] if each["kind"] == "NetworkPolicy"}
    out = policies["ingestion-monitor"]
    assert out["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in out
    assert {port["port"] for rule in out["egress"] for port in rule["ports"]} == {53, 443, 5432}
    assert all(rule["to"] for rule in out["egress"])
    (rule,) = policies["ingestion-monitor-metrics"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8990}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


@pytest.mark.parametrize("overlay", BUILT)
def test_policy_service_and_disruption_budget_select_existing_pods(overlay):
    specs = [each["spec"] for each in BUILT[overlay] if each["kind"] in {"Deployment", "CronJob"}]
    templates = [
        spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"] for spec in specs
    ]
    for each in BUILT[overlay]:
        selector = each.get("spec", {}).get("podSelector") or each.get("spec", {}).get("selector")
        if selector:
            labels = selector.get("matchLabels", selector).items()
            assert [template for template in templates if labels <= template["metadata"]["labels"].items()]


# --- consistent with the program -------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", BUILT)
def test_the_settings_are_accepted(overlay, tmp_path):
    config = config_of(overlay, tmp_path)
    assert config.warnings == ()
    assert config.database.reveal().startswith("postgresql")
    assert config.schedule.explicit


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_the_program_accepts_the_arguments_of_a_container(container):
    parsed(expanded(container["args"], variables(container)))
    assert variables(container)["MONITOR_CONFIG"] == "/etc/ingestion-monitor/monitor.toml"


@pytest.mark.parametrize("manifest", [m for m in MANIFESTS.values() if pod_of(m)], ids=lambda m: m["kind"])
def test_the_schema_is_upgraded_first(manifest):
    pod = pod_of(manifest)
    assert [each["args"] for each in pod["initContainers"]] == [["db", "upgrade"]]
    assert {each["image"] for each in containers(manifest)} == {pod["containers"][0]["image"]}


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_the_grace_period_is_longer_than_the_program_needs(pod):
    assert pod["terminationGracePeriodSeconds"] > FORCED_EXIT_S + 5


def test_a_job_has_one_attempt_and_time_for_the_whole_run(tmp_path):
    job = only("cronjob", "CronJob")["spec"]["jobTemplate"]["spec"]
    (target,) = config_of("cronjob", tmp_path).targets
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert timedelta(seconds=job["activeDeadlineSeconds"]) >= target.check.deadline + timedelta(
        seconds=FORCED_EXIT_S + 30
    )
    assert job["ttlSecondsAfterFinished"] >= 3600


def test_the_cron_job_has_the_schedule_of_the_settings(tmp_path):
    spec = only("cronjob", "CronJob")["spec"]
    every = config_of("cronjob", tmp_path).schedule.every
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["schedule"] == f"*/{every // timedelta(minutes=1)} * * * *"
    assert timedelta(seconds=10) < timedelta(seconds=spec["startingDeadlineSeconds"]) < every
    assert timedelta(seconds=spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]) < every
    assert spec["successfulJobsHistoryLimit"] >= 1
    assert spec["failedJobsHistoryLimit"] >= 1


def test_a_job_uses_its_name_as_run_key():
    (check,) = pod_of(only("cronjob", "CronJob"))["containers"]
    (name,) = [each for each in check["env"] if each["name"] == "JOB_NAME"]
    assert name["valueFrom"] == {"fieldRef": {"fieldPath": JOB_LABEL}}
    options = parsed(expanded(check["args"], {"JOB_NAME": "x" * MAX_JOB_NAME}))
    assert options["run_key"] == "x" * MAX_JOB_NAME
    assert MAX_JOB_NAME <= MAX_RUN_KEY_LENGTH
    assert options["skip_ok"], "what Kubernetes starts twice for one Job must not fail it"


def test_the_probes_use_the_port_of_the_daemon():
    (daemon,) = pod_of(only("daemon", "Deployment"))["containers"]
    (port,) = daemon["ports"]
    assert variables(daemon)["MONITOR_WEB__LISTEN"] == f"0.0.0.0:{port['containerPort']}"
    probes = {name: daemon[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    paths = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert probes == {name: {"path": path, "port": port["name"]} for name, path in paths.items()}
    service = only("daemon", "Service")["spec"]
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]


def test_two_daemons_share_the_work_and_one_always_stays():
    spec = only("daemon", "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (2, "RollingUpdate")
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert only("daemon", "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


# --- workers ---------------------------------------------------------------------------------------------------------


def test_every_pod_of_the_fleet_runs_with_workers_and_one_image():
    deployments = [only("fleet", "Deployment", name) for name in ("ingestion-monitor", "ingestion-monitor-worker")]
    running = [pod_of(each)["containers"][0] for each in deployments]
    assert [each["args"] for each in running] == [["daemon"], ["worker", "--concurrency", "4"]]
    assert [variables(each)["MONITOR_FLEET__WORKERS"] for each in running] == ["true", "true"]
    assert len({each["image"] for deployment in deployments for each in containers(deployment)}) == 1


def test_the_daemon_of_the_fleet_is_the_other_overlays_but_for_one_variable():
    fleet, alone = (json.loads(json.dumps(only(overlay, "Deployment"))) for overlay in ("fleet", "daemon"))
    assert pod_of(fleet)["containers"][0]["env"].pop()["name"] == "MONITOR_FLEET__WORKERS"
    assert fleet == alone


def test_a_worker_is_locked_like_the_daemon():
    worker, daemon = (
        pod_of(only("fleet", "Deployment", name)) for name in ("ingestion-monitor-worker", "ingestion-monitor")
    )
    for key in ("securityContext", "automountServiceAccountToken", "terminationGracePeriodSeconds", "volumes"):
        assert worker[key] == daemon[key]
    assert worker["containers"][0]["securityContext"] == daemon["containers"][0]["securityContext"]
    assert "ports" not in worker["containers"][0]
    assert only("fleet", "PodDisruptionBudget", "ingestion-monitor-worker")["spec"]["maxUnavailable"] == 1


def test_the_autoscaler_counts_the_queues_jobs_for_the_workers_deployment():
    text = (DEPLOY / "kubernetes/examples/autoscaler.yaml").read_text(encoding="utf-8")
    spec = yaml.safe_load(text)["spec"]
    assert spec["scaleTargetRef"]["name"] == only("fleet", "Deployment", "ingestion-monitor-worker")["metadata"]["name"]
    (metric,) = spec["metrics"]
    assert f"as: {metric['external']['metric']['name']}" in text
    series = set(re.findall(rf"\b{PREFIX}\w+", text)) - {metric["external"]["metric"]["name"]}
    assert series <= {definition.full_name for definition in METRIC_DEFINITIONS}
    assert series
    assert 1 < spec["minReplicas"] < spec["maxReplicas"]
    (worker,) = pod_of(only("fleet", "Deployment", "ingestion-monitor-worker"))["containers"]
    assert int(metric["external"]["target"]["averageValue"]) == parsed(worker["args"])["concurrency"]


@pytest.mark.parametrize("operation", ["op: replace, path: /data, value: {}", "op: add, path: /list/0, value: 1"])
def test_the_builder_refuses_other_patches(tmp_path, operation):
    (tmp_path / "only.yaml").write_text(f"{ONLY}list: []\n", encoding="utf-8")
    patch = f"patches: [{{target: {{kind: Secret, name: s}}, patch: '[{{{operation}}}]'}}]\n"
    (tmp_path / "kustomization.yaml").write_text(BARE + patch, encoding="utf-8")
    with pytest.raises(UnknownFeatureError, match=r"kustomization\.yaml: (replace|add) /"):
        build(tmp_path)
