"""Where the CPU time of one `check` goes: by thread, by the kernel's count, and by function of the main thread.

The functions are timed by the main thread's own CPU clock (`time.thread_time`), so that what other threads do
meanwhile is not blamed on whoever waits. cProfile itself costs about a microsecond per call: it overstates what has
many small calls. The threads are counted in a run without it.
"""

import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from builds import Build
from processes import CLIENT_CORE, ENVIRONMENT, Server, hold_to, measure
from targets import Folder

__all__ = ["show"]

_TOP = 30
_PROFILED = f"""
import cProfile, pstats, sys, time
from monitor.cli import main, tune_gc
tune_gc()
profile = cProfile.Profile(time.thread_time)
code = profile.runcall(main, sys.argv[1:])
pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats({_TOP})
sys.exit(code)
"""


def show(build: Build, server: Server, items: int, *, strategy: str, in_flight: int) -> None:
    """Prints both, of two runs over a new sync log each."""
    with tempfile.TemporaryDirectory(prefix="monitor-profile-") as folder:
        settings = {"strategy": strategy, "concurrency": in_flight, "deadline": "1h"}
        for name, run in {"threads": _by_thread, "functions": _by_function}.items():
            target = Folder(build=build, path=Path(folder, name), server=server, check_settings=settings)
            target.make(range(items))
            run(target, items)


def _by_thread(target: Folder, items: int) -> None:
    spent: dict[tuple[int, str], float] = {}
    command = [str(target.build.command), "check", "--quiet"]
    with subprocess.Popen(command, cwd=target.path, env=ENVIRONMENT) as process:
        hold_to(CLIENT_CORE, process.pid)
        while process.poll() is None:
            for task in Path(f"/proc/{process.pid}/task").glob("*"):
                _note(task, spent)
            time.sleep(0.02)
    totals: dict[str, float] = defaultdict(float)
    for (thread, name), nanoseconds in spent.items():
        totals["main thread" if thread == process.pid else f"threads {name}"] += nanoseconds
    print(f"CPU of one whole check of {items:,} items, start-up included, by thread:")
    for name, nanoseconds in sorted(totals.items(), key=lambda each: -each[1]):
        print(f"{nanoseconds / 1e9:8.2f} s  {nanoseconds / 1e3 / items:7.1f} µs per item  {name}")


def _note(task: Path, spent: dict[tuple[int, str], float]) -> None:
    """What a thread has used so far; a thread that ended keeps its last count."""
    try:
        name = (task / "comm").read_text().strip()
        spent[int(task.name), name] = float((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return  # it ended meanwhile


def _by_function(target: Folder, items: int) -> None:
    line = [target.build.python, "-c", _PROFILED, "check", "--quiet"]
    found = measure(line, target.path, core=CLIENT_CORE, codes=(0, -6))
    print(f"\nmain thread, by its own CPU clock, over {items:,} items (profiled: slower than it is):")
    print(found.errors)
