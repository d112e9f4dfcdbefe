"""The entry point of the command.

It handles signals before it imports anything slow: a container runs it as process 1, for which the kernel drops a
signal without a handler. It takes the package `monitor` that lies beside it, not one that PYTHONPATH names first: the
folders of other tools (Airflow's, for example) often hold a module of that name.
"""

import os
import signal
import sys

TYPE_CHECKING = False  # the module `typing` is slow
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def command() -> "NoReturn":
    """Runs the command line of this process."""
    for signum, usual in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(signum) is usual:
            signal.signal(signum, end)
    _load_package()
    from monitor.cli import command as run

    run(first_handler=end)


def end(signum: int, _frame: "FrameType | None") -> None:
    """Ends the process now: nothing has begun."""
    os._exit(128 + signum)


def _load_package() -> None:
    import importlib.util
    from pathlib import Path

    folder = Path(__file__).resolve().parent / "monitor"
    where = [str(folder)]
    spec = importlib.util.spec_from_file_location("monitor", folder / "__init__.py", submodule_search_locations=where)
    if spec is None or spec.loader is None:
        raise ImportError(f"the package of ingestion-monitor is not in {folder}: install it again")
    sys.modules["monitor"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
