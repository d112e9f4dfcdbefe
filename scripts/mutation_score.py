"""Mutates the client's rules with mutmut, and counts how many mutants make a test fail.

It prints a score per module and each mutant that survived, and fails if a score is below `GOAL`. The modules and tests
are in `[tool.mutmut]` of pyproject.toml. Called by `make mutants`, in the root.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

GOAL = 85
"""Percentage of mutants of each module that tests must notice."""

_FOLDER = Path("mutants")
"""The working folder of mutmut."""

_RESULT = re.compile(r"\s*(\S+?)\.(\w+__mutmut_\d+): (.+)")
_NOTICED = frozenset({"killed", "timeout"})


def scores(results, expected):
    """Returns the number of mutants and the survivors, per module.

    Args:
        results: the output of `mutmut results --all true`.
        expected: the dotted names of the modules to mutate.

    Raises:
        SystemExit: one of them has no mutants, so it has no score.
    """
    changes, unnoticed = defaultdict(int), defaultdict(list)
    for module, name, status in (match.groups() for line in results.splitlines() if (match := _RESULT.fullmatch(line))):
        changes[module] += 1
        if status not in _NOTICED:
            unnoticed[module].append(f"{module}.{name}")
    if missing := sorted(set(expected) - set(changes)):
        raise SystemExit(f"mutmut changed nothing in {', '.join(missing)}")
    return {module: (changes[module], unnoticed[module]) for module in sorted(expected)}


def _mutmut(*arguments):
    command = [Path(sys.executable).with_name("mutmut"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mutmut {arguments[0]} failed:\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}")
    return done.stdout


def _measured():
    """Runs mutmut; returns the result of `scores` and the survivors as diffs."""
    settings = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    expected = [name.removesuffix(".py").replace("/", ".") for name in settings["only_mutate"]]
    shutil.rmtree(_FOLDER, ignore_errors=True)  # of an interrupted run
    try:
        _mutmut("run")
        found = scores(_mutmut("results", "--all", "true"), expected)
        return found, [_mutmut("show", name) for _, unnoticed in found.values() for name in unnoticed]
    finally:
        shutil.rmtree(_FOLDER, ignore_errors=True)


def main():
    found, diffs = _measured()
    sys.stdout.writelines(diffs)
    low = []
    for module, (total, unnoticed) in found.items():
        noticed = total - len(unnoticed)
        sys.stdout.write(f"{module:32} {noticed:4} of {total:4} noticed: {100 * noticed / total:.1f}%\n")
        if 100 * noticed < GOAL * total:
            low.append(module)
    if low:
        raise SystemExit(f"below {GOAL}%: {', '.join(low)}")


if __name__ == "__main__":
    main()
