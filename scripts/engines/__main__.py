"""`make engines`: the product beside real engines, each installed in a folder of its own and run on loopback.

It prints a table of what each engine says of an item and what the product says, and writes it into the document that
is named, between two marks. The exit code is 1 if a verdict differs without an explanation. Models are stood in for.
"""

import argparse
import importlib
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path

from engines.models import model_server
from engines.places import LeftOutError, Place, install

ENGINES = ("lightrag", "prefect", "open_webui", "llama_stack", "litellm", "chroma", "airflow")
BEGIN, END = "<!-- engines -->", "<!-- /engines -->"
HEAD = ("engine", "version", "item", "the engine says", "the product says")


def main():
    """Tries the engines; returns 1 if a verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", default=ENGINES, help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--document", type=Path, help="where the table goes; rows of other engines stay")
    parser.add_argument(
        "--folder", type=Path, help="where engines are installed and kept; left out: a temporary folder"
    )
    parser.add_argument("--record", type=Path, help="a folder in which the exchanges are kept, for the tests")
    asked = parser.parse_args()
    rows, wrong = {}, False
    with model_server() as models, tempfile.TemporaryDirectory(prefix="engines-") as temporary:
        for name in asked.engines:
            folder = (asked.folder or Path(temporary)).resolve() / name
            rows[name], held = _try(name, Place(folder=folder, models=models, recordings=asked.record))
            wrong |= not held
    if asked.document:
        _write(asked.document, rows)
    return int(wrong)


def _try(name, place):
    """The rows of one engine, and whether all of them hold."""
    engine, began_s = importlib.import_module(f"engines.{name}"), time.monotonic()
    title, rows, held = [engine.NAME, engine.VERSION], [], True
    try:
        if not place.python.exists():
            place.folder.mkdir(parents=True, exist_ok=True)
            install(place.folder, engine.REQUIREMENTS, python=getattr(engine, "PYTHON", (3, 11)))
        for trial in engine.trials(place):
            held &= trial.holds
            found = trial.found if trial.is_right or not trial.why else f"{trial.found}: {trial.why}"
            rows.append([*title, trial.item, trial.says, found])
            print(f"{'ok      ' if trial.holds else 'DIFFERS '} {' | '.join(rows[-1])}", flush=True)
    except LeftOutError as reason:
        print(f"left out {engine.NAME} {engine.VERSION}: {reason}", flush=True)
        return [], True
    except Exception:  # noqa: BLE001  # the others are still tried
        print(f"BROKE    {engine.NAME} {engine.VERSION}: {traceback.format_exc()}", flush=True)
        return rows, False
    print(f"         {engine.NAME} took {time.monotonic() - began_s:.0f} s", flush=True)
    return rows, held


def _write(document, rows):
    """Replaces the rows of the engines that were tried, and keeps the others."""
    text = document.read_text(encoding="utf-8")
    before, kept, after = re.split(f"{BEGIN}|{END}", text)
    old = [line for line in kept.splitlines() if line.startswith("| ") and not line.startswith(f"| {HEAD[0]} ")]
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for name in ENGINES:
        title = importlib.import_module(f"engines.{name}").NAME
        new = [f"| {' | '.join(map(_cell, row))} |" for row in rows.get(name) or ()]
        lines += new or [line for line in old if line.startswith(f"| {title} |")]
    table = "\n".join(lines)
    document.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
