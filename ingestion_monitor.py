"""The entry point of the command.

It takes the package `monitor` that lies beside it, not one that PYTHONPATH names first: the folders of other tools
(Airflow's, for example) often hold a module of that name.
"""

import importlib.util
import sys
from pathlib import Path
from typing import NoReturn


def command() -> NoReturn:
    """Runs the command line of this process."""
    _load_package()
    from monitor.cli import command as run

    run()


def _load_package() -> None:
    folder = Path(__file__).resolve().parent / "monitor"
    where = [str(folder)]
    spec = importlib.util.spec_from_file_location("monitor", folder / "__init__.py", submodule_search_locations=where)
    if spec is None or spec.loader is None:
        raise ImportError(f"the package of ingestion-monitor is not in {folder}: install it again")
    sys.modules["monitor"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
