#!/usr/bin/env bash
# Sequelize 6.37.8 writes a Date as text with a blank before the offset: 2026-01-15 08:30:00.123 +00:00 (SQLite has no type
# for times). Python's datetime.fromisoformat (3.11 to 3.13) reads such text if the seconds have no fraction or six digits of
# it, but refuses it with three, which are what Sequelize always writes: a reader tried with other samples fails on each row.
# Seen: "…00 +00:00" and "…00.123456 +00:00" are read as UTC, "…00.123 +00:00" raises ValueError: Invalid isoformat string.
# Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private": true}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts sequelize@6.37.8
cat >write.cjs <<'JS'
const { DataTypes } = require("sequelize");
console.log(new DataTypes.sqlite.DATE().stringify(new Date("2026-01-15T08:30:00.123Z"), { timezone: "+00:00" }));
JS
node write.cjs | tee written
cat >read.py <<'PY'
import sys
from datetime import UTC, datetime

written = open("written").read().strip()
assert written == "2026-01-15 08:30:00.123 +00:00", f"changed: Sequelize writes {written}"
for text, readable in (
    (written.replace(".123", ""), True),
    (written.replace(".123", ".123456"), True),
    (written, False),
):
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        read = None
        print(f"{text}: {error}")
    else:
        assert read.astimezone(UTC).hour == 8
        print(f"{text}: {read!r}")
    assert (read is not None) is readable, f"changed in Python {sys.version.split()[0]}: {text}"
PY
python3 read.py
