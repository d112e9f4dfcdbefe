"""Builds a kustomization like `kubectl kustomize`, with only the features that ours use; it refuses others.

Known: `resources` (files and folders), `namespace`, `images` (newName, newTag, digest), `patches` that append to a list
by JSON Patch, and `configMapGenerator` with `files`, whose names end with the hash of their content. `make manifests`
compares it with kubectl where there is one.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = ["UnknownFeatureError", "build", "containers", "pod_of"]

Manifest = dict[str, Any]

CLUSTER_WIDE = {"Namespace"}
KNOWN = {"apiVersion", "kind", "resources", "namespace", "images", "patches", "configMapGenerator"}
KNOWN_OF_AN_IMAGE = {"name", "newName", "newTag", "digest"}
KNOWN_OF_A_MAP = {"name", "files"}
KNOWN_OF_A_PATCH = {"target", "patch"}
KNOWN_OF_A_TARGET = {"kind", "name"}
HASH_DIGITS = str.maketrans("013ae", "ghkmt")
"""kustomize replaces the characters of hashes that could form words."""


class UnknownFeatureError(Exception):
    """A kustomization uses a feature that this builder does not support."""


def build(folder: Path) -> list[Manifest]:
    """Returns the manifests that applying a folder would send to the cluster.

    Raises:
        UnknownFeatureError: the kustomization, or one that it builds on, uses another feature.
    """
    manifests = _gathered(folder)
    names = {each["metadata"]["name"]: _hashed(each) for each in manifests if each.pop("made", False)}
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            manifest["metadata"]["name"] = names.get(manifest["metadata"]["name"], manifest["metadata"]["name"])
        for volume in (pod_of(manifest) or {}).get("volumes", []):
            if "configMap" in volume:
                volume["configMap"]["name"] = names.get(volume["configMap"]["name"], volume["configMap"]["name"])
    return manifests


def pod_of(manifest: Manifest) -> Manifest | None:
    """The specification of the pods that a manifest creates; None if it creates none."""
    if manifest["kind"] == "CronJob":
        return manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return manifest["spec"]["template"]["spec"] if manifest["kind"] in {"Deployment", "Job"} else None


def containers(manifest: Manifest) -> list[Manifest]:
    """All containers of a manifest's pods, including init containers."""
    pod = pod_of(manifest) or {}
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def _gathered(folder: Path) -> list[Manifest]:
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    _refuse(settings, KNOWN, folder)
    manifests = [each for name in settings.get("resources", []) for each in _resource(folder / name)]
    for wanted in settings.get("configMapGenerator", []):
        _refuse(wanted, KNOWN_OF_A_MAP, folder)
        manifests.append(_config_map(folder, wanted))
    for patch in settings.get("patches", []):
        _refuse(patch, KNOWN_OF_A_PATCH, folder)
        _refuse(patch["target"], KNOWN_OF_A_TARGET, folder)
        _apply(patch, manifests, folder)
    for manifest in manifests:
        if "namespace" in settings:
            _put_into(manifest, settings["namespace"])
        for image in settings.get("images", []):
            _refuse(image, KNOWN_OF_AN_IMAGE, folder)
            _take_image(manifest, image)
    return manifests


def _refuse(settings: Manifest, known: set[str], folder: Path) -> None:
    if unknown := sorted(set(settings) - known):
        raise UnknownFeatureError(f"{folder.name}/kustomization.yaml: {', '.join(unknown)}")


def _resource(path: Path) -> Iterator[Manifest]:
    if path.is_dir():
        yield from _gathered(path)
    else:
        # through JSON, so that YAML anchors no longer share objects
        yield from json.loads(json.dumps(list(yaml.safe_load_all(path.read_text(encoding="utf-8")))))


def _config_map(folder: Path, wanted: Manifest) -> Manifest:
    data = {Path(name).name: (folder / name).read_text(encoding="utf-8") for name in wanted["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": wanted["name"]}, "data": data, "made": True}


def _apply(patch: Manifest, manifests: list[Manifest], folder: Path) -> None:
    """JSON Patch (RFC 6902): only `add` at the end of a list."""
    kind, name = patch["target"]["kind"], patch["target"]["name"]
    (manifest,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    for operation in yaml.safe_load(patch["patch"]):
        *parents, last = operation["path"].removeprefix("/").split("/")
        at: Any = manifest
        for parent in parents:
            at = at[int(parent) if isinstance(at, list) else parent]
        if (operation["op"], last) != ("add", "-"):
            raise UnknownFeatureError(f"{folder.name}/kustomization.yaml: {operation['op']} {operation['path']}")
        at.append(operation["value"])


def _hashed(config_map: Manifest) -> str:
    content = {"data": config_map["data"], "kind": "ConfigMap", "name": ""}  # the name is not part of it
    encoded = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for character in "<>&":  # as Go's encoder escapes them
        encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    digest = hashlib.sha256(encoded.encode()).hexdigest()[:10].translate(HASH_DIGITS)
    return f"{config_map['metadata']['name']}-{digest}"


def _put_into(manifest: Manifest, namespace: str) -> None:
    where = "name" if manifest["kind"] in CLUSTER_WIDE else "namespace"
    manifest["metadata"][where] = namespace


def _take_image(manifest: Manifest, image: Manifest) -> None:
    name = image.get("newName", image["name"])
    version = f"@{image['digest']}" if "digest" in image else f":{image['newTag']}"
    for container in containers(manifest):
        if container["image"] == image["name"]:
            container["image"] = name + version
