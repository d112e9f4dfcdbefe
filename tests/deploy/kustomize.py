"""Builds a kustomization as `kubectl kustomize` does, for the few features that ours use; it refuses any other.

Known: `resources` (files and folders), `namespace`, `images` (newName, newTag, digest) and `configMapGenerator` with
`files`, its names with the hash of the content. `make manifests` compares it with kubectl where there is one.
"""

import hashlib
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Unknown", "build", "containers", "pod_of"]

Manifest = dict[str, Any]

CLUSTER_WIDE = {"Namespace"}
KNOWN = {"apiVersion", "kind", "resources", "namespace", "images", "configMapGenerator"}
KNOWN_OF_IMAGES = {"name", "newName", "newTag", "digest"}
KNOWN_OF_MAPS = {"name", "files"}


class Unknown(Exception):
    """A kustomization asks for what this builder does not know."""


def build(folder: Path) -> list[Manifest]:
    """The manifests that applying a folder would send to the cluster.

    Raises:
        Unknown: the kustomization, or one that it builds on, uses another feature.
    """
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    _refuse(set(settings) - KNOWN, folder)
    manifests = [each for name in settings.get("resources", []) for each in _resource(folder / name)]
    made = [_config_map(folder, wanted) for wanted in settings.get("configMapGenerator", [])]
    renamed = {each["metadata"]["name"]: _hashed(each) for each in made}
    manifests = [*manifests, *made]
    for manifest in manifests:
        if "namespace" in settings:
            _put_into(manifest, settings["namespace"])
        for image in settings.get("images", []):
            _refuse(set(image) - KNOWN_OF_IMAGES, folder)
            _take_image(manifest, image)
        manifest["_maps"] = {**manifest.get("_maps", {}), **renamed}
    known = {old: new for manifest in manifests for old, new in manifest.pop("_maps").items()}
    for manifest in manifests:
        _rename_maps(manifest, known)
        manifest["_maps"] = known
    return manifests if "namespace" not in settings else _finished(manifests)


def _finished(manifests: list[Manifest]) -> list[Manifest]:
    return [{key: value for key, value in each.items() if key != "_maps"} for each in manifests]


def _resource(path: Path) -> Iterator[Manifest]:
    if path.is_dir():
        yield from build(path)
        return
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        yield deepcopy(document)


def _refuse(unknown: set[str], folder: Path) -> None:
    if unknown:
        raise Unknown(f"{folder.name}/kustomization.yaml: {', '.join(sorted(unknown))}")
