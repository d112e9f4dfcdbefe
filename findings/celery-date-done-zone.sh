#!/usr/bin/env bash
# Celery 5.7.0, database result backend, enable_utc = True (the default), app.conf.timezone = "Asia/Kolkata":
# AsyncResult.date_done is documented as "UTC date and time", but is the wall clock of Kolkata, without a zone, so it lies
# 5 h 30 min in the future; nothing in the row or the result says so. With timezone left out it is UTC.
# Seen: 2026-11-30 10:17:29 UTC is stored and returned as 2026-11-30 15:47:29.
# Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile celery==5.7.0 sqlalchemy==2.1.9 2>/dev/null
cat >seen.py <<'PY'
from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.result import AsyncResult


def ahead(zone):
    app = Celery(backend=f"db+sqlite:///{zone or 'none'}.db".replace("/K", "_K"))
    if zone:
        app.conf.timezone = zone
    assert app.conf.enable_utc is True
    app.backend.store_result("task", {"item_id": "doc-1"}, "SUCCESS")
    done = AsyncResult("task", app=app).date_done
    assert done.tzinfo is None
    seen = round((done.replace(tzinfo=UTC) - datetime.now(UTC)) / timedelta(minutes=1))
    print(f"timezone {zone}: date_done {done}, read as UTC {seen} min ahead of now")
    return seen


assert "UTC date and time" in AsyncResult.date_done.__doc__
assert -2 <= ahead(None) <= 0, "changed: not UTC without timezone"
assert 328 <= ahead("Asia/Kolkata") <= 330, "changed: no longer the zone's wall clock"
PY
venv/bin/python seen.py
