"""Prefect: flow runs that its own engine ran, and others that its client set to each kind of state."""

import json

from engines.places import ask, free_port
from engines.trials import Upload, compare

NAME, VERSION = "Prefect", "3.9.1"
REQUIREMENTS = (f"prefect=={VERSION}",)
MEANS = {
    "COMPLETED": "completed", "FAILED": "failed", "CRASHED": "failed", "CANCELLED": "failed", "RUNNING": "pending",
    "PENDING": "pending", "SCHEDULED": "pending", "PAUSED": "pending", "CANCELLING": "pending",
}  # fmt: skip
NO_RUN = "00000000-0000-4000-8000-000000000000"

FLOWS = """
import asyncio, json
from prefect import flow, get_client
from prefect.states import Cancelled, Cancelling, Crashed, Paused, Pending, Running, Scheduled

@flow
def ingest(broken=False):
    if broken:
        raise ValueError("no text could be extracted")
    return 1

ids = {}
for name, broken in (("a flow that returned", False), ("a flow that raised", True)):
    ids[name] = str(ingest(broken, return_state=True).state_details.flow_run_id)

async def set_states():
    async with get_client() as client:
        for state in (Scheduled(), Pending(), Running(), Paused(), Cancelling(), Cancelled(), Crashed(message="lost")):
            run = await client.create_flow_run(ingest, state=Pending())
            await client.set_flow_run_state(run.id, state, force=True)
            ids["a flow run set to " + state.name] = str(run.id)

asyncio.run(set_states())
print(json.dumps(ids))
"""


def trials(place):
    """Runs flows, sets states, and compares: by the item question and by the list."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    url = f"{origin}/api"
    settings = {
        "PREFECT_HOME": str(place.folder / "home"), "PREFECT_API_URL": url, "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }  # fmt: skip
    command = (place.python.with_name("prefect"), "server", "start", "--host", "127.0.0.1", "--port", port)
    with place.serve(*command, ready=f"{url}/health", **settings):
        ids = json.loads(place.run(place.python, "-c", FLOWS, **settings).splitlines()[-1])
        target = 'provider = "prefect"\nbase_url = "{url}/api"\nlist = { page = { size = 3 } }'
        yield from compare(place, origin, target, _uploads(url, ids), strategies=("items", "list"))


def _uploads(url, ids):
    uploads = []
    for item, run_id in (*ids.items(), ("no such flow run", NO_RUN)):
        answer = ask("GET", f"{url}/flow_runs/{run_id}")
        word = answer.body.get("state_type") or answer.body["detail"]
        means = "not_found" if answer.status == 404 else MEANS[word]
        uploads.append(Upload(item=item, id=run_id, says=f"{answer.status} {word}", means=means))
    return uploads
