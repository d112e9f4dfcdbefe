#!/usr/bin/env bash
# grafana-foundation-sdk on PyPI, 2026-11-30: `pip install --upgrade grafana-foundation-sdk` installs the SDK for Grafana
# 10.1, the oldest Grafana that a release serves, although the same release has one for 11.6. The Grafana version is the
# release part of the version, and the epoch before it is the time of its upload in seconds; a release is uploaded from
# the newest Grafana down, so 1769699998!10.1.0 is "newer" than 1769699379!11.6.0, and every >= or ~= resolves to 10.1.
# The upload times of the two are ten minutes apart.
# Seen: newest 1769699998!10.1.0; highest Grafana among all versions 11.6.0, last as 1769699379!11.6.0; a requirement
# >=1758039791!11.6.0 resolves to 1769699998!10.1.0.
# Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile packaging==26.2 2>/dev/null
venv/bin/python -m pip index versions grafana-foundation-sdk 2>/dev/null >versions
venv/bin/python -m pip install --dry-run --ignore-installed --no-deps --quiet --report resolved.json \
  'grafana-foundation-sdk>=1758039791!11.6.0' 2>/dev/null
cat >seen.py <<'PY'
import json
from pathlib import Path

from packaging.version import Version

line = next(each for each in Path("versions").read_text().splitlines() if each.startswith("Available versions:"))
found = [Version(each.strip()) for each in line.partition(":")[2].split(",")]
for_grafana = [each for each in found if each.epoch]  # others name no Grafana
newest, highest = max(found), max(for_grafana, key=lambda each: (each.release, each.epoch))
resolved = Version(json.loads(Path("resolved.json").read_text())["install"][0]["metadata"]["version"])
print(f"newest {newest}; highest Grafana {highest}; >=1758039791!11.6.0 resolves to {resolved}")
assert (str(newest), str(highest)) == ("1769699998!10.1.0", "1769699379!11.6.0"), "changed: another release"
assert newest.release < highest.release and newest.epoch - highest.epoch < 3600, "changed: the order of a release"
assert resolved == newest, "changed: what a lower bound resolves to"
PY
venv/bin/python seen.py
