"""`make sync-logs`: real tools write sync logs, which become the fixtures of tests/synclog.

`python scripts/sync_logs/fixtures.py [--keep FOLDER] [TOOL…]` installs each tool of tools.toml, in its pinned version
and in a folder of its own, lets its writer record the documents of writers/documents.json, saves the tables as SQL
beside what the tool was given, reads them with the monitor's own reader, and prints what is equal.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from uuid import uuid4

import psycopg
from dump import dump_postgres, dump_sqlite
from sqlalchemy import make_url
from support.postgres import private_server
from support.synclog_fixtures import FOLDER, Fixture, load_fixture, read_fixture, wrong_ids, wrong_times

HERE = Path(__file__).resolve().parent
WRITERS = HERE / "writers"
TOOLS = tomllib.loads((HERE / "tools.toml").read_text(encoding="utf-8"))
INSTALL_S, WRITE_S = 1800, 600
BUILT_HERE = ("better-sqlite3", "sqlite3")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", nargs="*", metavar="TOOL", help="of tools.toml; all if none is named")
    parser.add_argument("--keep", type=Path, help="install into this folder, and use again what is there")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.tools) - set(TOOLS))
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not in tools.toml, which has {', '.join(TOOLS)}")
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary, private_server() as server:
        folder = (chosen.keep or Path(temporary)).resolve()
        print(f"{'fixture':32} {'version':10} {'ids':12} {'times':12} what is stored", flush=True)
        for name in chosen.tools or TOOLS:
            tool = TOOLS[name]
            with reported(name) as failed:
                home = install(name, tool, folder)
            wrong += len(failed)
            for case, settings in tool["cases"].items() if not failed else ():
                with reported(f"{name}-{case}") as failed:
                    wrong += not make(name, tool, case, settings, home, server)
                wrong += len(failed)
    sys.exit(wrong > 0)


@contextlib.contextmanager
def reported(what):
    """Prints the end of what a command said if it fails; yields a list that then is not empty."""
    failed = []
    try:
        yield failed
    except subprocess.SubprocessError as error:
        failed.append(error)
        said = [line for line in str(getattr(error, "stderr", None) or error).splitlines() if line.strip()]
        print(f"{what:32} {type(error).__name__}", *said[-12:], sep="\n    ", flush=True)


def install(name, tool, folder):
    """Installs a tool, if it is not there yet; returns its folder. All tools in JavaScript share one."""
    language, packages, alone = tool.get("language"), tool["packages"], tool.get("without_dependencies", [])
    home = folder / (language or name)
    if language:
        packages = sorted({each for other in TOOLS.values() if other.get("language") for each in other["packages"]})
    done = home / ".installed"
    if not (done.is_file() and done.read_text() == repr([*alone, *packages])):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        if language:
            (home / "package.json").write_text('{"private": true}')
            # without scripts, which would download binaries: those two are built against the headers beside node
            run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages], home, INSTALL_S)
            node = Path(shutil.which("node")).resolve().parents[1]
            settings = {"npm_config_nodedir": str(node), "npm_config_build_from_source": "true"}
            run(["npm", "rebuild", *BUILT_HERE], home, INSTALL_S, **settings)
        else:
            uv = Path(sys.executable).with_name("uv")
            run([uv, "venv", "--quiet", "--python", interpreter(tool.get("python")), home / "venv"], home, INSTALL_S)
            run([uv, "pip", "install", "--quiet", "--python", home / "venv", *packages], home, INSTALL_S)
            if alone:
                pip = [uv, "pip", "install", "--quiet", "--no-deps", "--python", home / "venv"]
                run([*pip, *alone], home, INSTALL_S)
        done.write_text(repr([*alone, *packages]))
    return home


def interpreter(version):
    """This Python, or that of another version: from the PATH, or from pyenv."""
    if version is None:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*sorted(pyenv.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
    if found[0] is None:
        raise subprocess.SubprocessError(f"no Python {version} was found")
    return found[0]


def run(command, cwd, limit_s, **environ):
    """Runs a command at low priority, without the caller's own settings of the monitor."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "GLOO_", "PYTHON"))}
    subprocess.run(
        ["nice", *map(str, command)],
        cwd=cwd,
        env={**kept, "DO_NOT_TRACK": "1", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=True,
    )


def make(name, tool, case, settings, home, server):
    """Lets the tool write one case, saves it, and compares what the monitor reads; returns whether it is equal."""
    kind, writer = settings["database"], tool.get("writer", name)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=home)))
        if kind == "postgresql":
            url = stack.enter_context(database(server, settings.get("server_timezone", "UTC")))
        else:
            url = f"sqlite:///{work / 'tool.db'}"
        if tool.get("language"):
            (work / "package.json").symlink_to(home / "package.json")
            (work / "node_modules").symlink_to(home / "node_modules")
            command = ["node", WRITERS / f"write_{writer}.cjs"]
        else:
            command = [home / "venv/bin/python", "-W", "ignore", WRITERS / f"write_{writer}.py"]
        run([*command, url, case], work, WRITE_S, HOME=str(work))
        dumped = {"tables": settings["tables"], "blank": settings.get("blank", {})}
        sql = dump_postgres(url, **dumped) if kind == "postgresql" else dump_sqlite(work / "tool.db", **dumped)
        given = work / "given.json"
        rows = json.loads(given.read_text()) if given.exists() else documents()
    fixture = save(f"{name}-{case}", tool, settings, sql, rows)
    ids, times = verdict(fixture, server)
    print(f"{fixture.name:32} {fixture.version:10} {ids:12} {times:12} {fixture.stores}", flush=True)
    return ids in {"equal", "refused"} and times in {"equal", "none", "-"}


def documents():
    rows = json.loads((WRITERS / "documents.json").read_text(encoding="utf-8"))["documents"]
    return [{"id": row["id"], "times": [row["uploaded_at"]], "group": row["collection"]} for row in rows]


def save(name, tool, settings, sql, rows):
    sql = re.sub(r"[ \t]+$", "", sql, flags=re.MULTILINE)
    (FOLDER / f"{name}.sql").write_text(sql, encoding="utf-8")
    first = [*tool.get("without_dependencies", []), *tool["packages"]][0]
    facts = {
        "tool": tool["title"],
        "version": re.search(r"(?:==|.@)([\d.]+)", first)[1],
        "database": settings["database"],
        "server_timezone": settings.get("server_timezone", "UTC"),
        "stores": settings["stores"],
        "sync_log": settings["sync_log"],
        "refused": settings.get("refused"),
        "given": rows,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Fixture.read(name)


def verdict(fixture, server):
    """How many ids and times are as the tool was given them, as two words."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if fixture.database == "postgresql":
            url = stack.enter_context(database(server, fixture.server_timezone))
        else:
            url = f"sqlite:///{folder / 'tool.db'}"
        load_fixture(fixture, url)
        found = read_fixture(fixture, url, folder)
    if fixture.refused:
        return ("refused", "-") if fixture.refused in (found.report.unusable_kind or "") else ("not refused", "-")
    ids, times = wrong_ids(fixture, found), wrong_times(fixture, found)
    timed = any(fixture.times.values())
    return f"{len(ids)} wrong" if ids else "equal", f"{len(times)} wrong" if times else "equal" if timed else "none"


@contextlib.contextmanager
def database(server, zone):
    """A database of its own, whose server time zone is `zone`."""
    name = f"sync_log_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
        conn.execute(f"ALTER DATABASE {name} SET timezone = '{zone}'")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    main()
