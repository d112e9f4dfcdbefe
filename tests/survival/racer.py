"""One of many processes that try every run key: `python tests/survival/racer.py CONFIG RUN_KEYS [POINT]`.

It starts when a line arrives on stdin and prints one JSON object: the run keys it executed, how often it was refused or
lost its lease, and its errors.  At POINT (see `fault_injection.py`) it stops itself once, by SIGSTOP.
"""

import asyncio
import json
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import structlog
from survival.fault_injection import Injection, inject, send_signal

from monitor.app import App, open_database
from monitor.config import load_config
from monitor.errors import LeaseHeldError, LeaseLostError, RunAlreadyExecutedError, StoreError
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run

MAX_DELAY_S = 0.02


async def race(app: App, run_keys: int) -> dict:
    """Executes each run key unless another process does."""
    ran, met, errors = [], Counter(), []
    job = app.job(app.config.targets[0])
    for run_key in range(run_keys):
        while True:
            try:
                await Run(job, interrupt=asyncio.Event(), progress=NoProgress(), run_key=f"key-{run_key}")()
            except RunAlreadyExecutedError:
                met["already_executed"] += 1
                break
            except LeaseHeldError:
                met["held"] += 1
                await asyncio.sleep(random.uniform(0, MAX_DELAY_S))
            except LeaseLostError:
                met["lost"] += 1
            except StoreError as error:
                errors.append(str(error))
            else:
                ran.append(run_key)
                break
    return {"ran": ran, **met, "errors": errors}


if __name__ == "__main__":
    path, count, *point = sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if point:
        inject([Injection(point[0], 1, lambda: send_signal(signal.SIGSTOP))])
    config = load_config(Path(path), environ={})
    engine = open_database(config)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(race(App(config=config, engine=engine), int(count)))), flush=True)
    engine.dispose()
