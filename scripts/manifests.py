"""`make manifests`: checks the files under deploy/ with standard tools.

Those in the development requirements always run. kubectl, promtool and systemd-analyze run if they are installed; the
tests in tests/deploy need none of them.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from deploy.kustomize import build

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
OVERLAYS = sorted(path.parent for path in (DEPLOY / "kubernetes/overlays").glob("*/kustomization.yaml"))
EXAMPLES = sorted((DEPLOY / "kubernetes/examples").glob("*.yaml"))
UNITS = sorted(path for path in (DEPLOY / "systemd").iterdir() if path.suffix in {".service", ".timer"})
PROMETHEUS_RULES = DEPLOY / "prometheus/rules.yaml"
PROMETHEUS_CASES = ROOT / "tests/deploy/alerts.yaml"
OLDEST, NEWEST = "1.29", kubernetes_validate.latest_version()
"""Kubernetes versions: the manifests are valid for both, and so for those in between."""

__all__ = [
    "DEPLOY",
    "EXAMPLES",
    "OVERLAYS",
    "PROMETHEUS_RULES",
    "ROOT",
    "UNITS",
    "faults",
    "systemd_faults",
    "units_at",
]


def faults(manifest: dict[str, Any]) -> Iterator[str]:
    """Violations of the Kubernetes schemas in a manifest; custom kinds are not checked."""
    if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
        return
    for version in (OLDEST, NEWEST):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            yield f"Kubernetes {version}: {manifest['kind']} {manifest['metadata']['name']}: {where}: {error.message}"


def units_at(folder: Path, units: list[Path], program: str) -> list[Path]:
    """Copies of units that start an existing program of this machine, because `systemd-analyze verify` checks that."""
    copies = []
    for unit in units:
        text = unit.read_text(encoding="utf-8")
        copies.append(folder / unit.name)
        copies[-1].write_text(text.replace("/opt/ingestion-monitor/bin/ingestion-monitor", program), encoding="utf-8")
    return copies


def _kubernetes() -> Iterator[str]:
    for overlay in OVERLAYS:
        built = build(overlay)
        for manifest in built:
            yield from faults(manifest)
        if shutil.which("kubectl"):
            said = _said("kubectl", "kustomize", overlay)
            theirs = [each for each in yaml.safe_load_all(said.stdout) if each]
            if _in_order(theirs) != _in_order(built):
                yield f"{overlay.name}: kubectl kustomize builds something else than tests/deploy/kustomize.py"
    for path in EXAMPLES:
        for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield from faults(manifest)


def _in_order(manifests: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(manifest, sort_keys=True) for manifest in manifests)


def systemd_faults() -> Iterator[str]:
    """Problems that systemd finds in the units; none if it is not installed."""
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory() as folder:
        said = _said("systemd-analyze", "verify", *units_at(Path(folder), UNITS, "/bin/true"))
        # ignore problems of the machine's own units
        yield from (line for line in said.stderr.splitlines() if "ingestion-monitor" in line)


def _prometheus() -> Iterator[str]:
    if shutil.which("promtool"):
        for words in (("check", "rules", PROMETHEUS_RULES), ("test", "rules", PROMETHEUS_CASES)):
            said = _said("promtool", *words)
            if said.returncode != 0:
                yield said.stderr + said.stdout


def _said(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def _main() -> int:
    found = [*_kubernetes(), *systemd_faults(), *_prometheus()]
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    asked = [name for name in ("kubectl", "systemd-analyze", "promtool") if shutil.which(name)]
    by = ", ".join([f"Kubernetes {OLDEST} and {NEWEST}", *asked])
    sys.stdout.write(f"manifests: {len(OVERLAYS)} overlays, {len(UNITS)} units: {len(found)} faults ({by})\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(_main())
