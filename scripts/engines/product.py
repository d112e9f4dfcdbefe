"""The product beside an engine: its real command, with a preset, over ids that were recorded in a sync log."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("ingestion-monitor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One target, in a folder of its own. `target` is TOML: its lines between the name and the sync log."""

    folder: Path
    target: str
    strategy: str = "items"
    concurrency: int = 32

    def verdicts(self, ids, *, runs=1):
        """The state of each id, with the reason where it failed, after a number of runs."""
        self._record(ids)
        for _ in range(runs):
            self._command("check", "--json", "--quiet")
        items = self._command("items", "list", "--json", "--limit", "1000")["items"]
        return {each["item_id"]: _words(each) for each in items}

    def canary(self):
        """How one canary ended, as its JSON."""
        self._record([])
        return self._command("canary", "engine", "--json", "--timeout", "4m")

    def causes(self):
        """The causes of the open incidents."""
        return [each["cause"] for each in self._command("incidents", "list", "--json")["incidents"]]

    def _record(self, ids):
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.folder / "pipeline.db")) as log, log:
            log.execute("CREATE TABLE IF NOT EXISTS sync_log (item_id TEXT PRIMARY KEY, uploaded_at TEXT)")
            rows = [(each, "2026-01-01T00:00:00Z") for each in ids]
            log.executemany("INSERT OR IGNORE INTO sync_log VALUES (?, ?)", rows)
        config = self.folder / "monitor.toml"
        config.write_text(
            f'[[targets]]\nname = "engine"\n{self.target}\n[targets.sync_log]\nurl = "sqlite:///pipeline.db"\n'
            'table = "sync_log"\nid_column = "item_id"\nsubmitted_at_column = "uploaded_at"\n'
            f'[targets.check]\nstrategy = "{self.strategy}"\nattempt_timeout = "60s"\n'
            f"concurrency = {self.concurrency}\n",
            encoding="utf-8",
        )
        config.chmod(0o600)

    def _command(self, *arguments):
        environ = {"PATH": os.defpath, "HOME": str(self.folder), "LANG": "C.UTF-8"}
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"{arguments[0]} ended with {done.returncode}: {done.stderr or done.stdout}") from None


def _words(item):
    reason = item.get("failure_reason") if item["state"] == "failed" else None
    return f"{item['state']} ({reason})" if reason else item["state"]
