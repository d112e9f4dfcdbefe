"""Airflow: runs of one DAG, one of them with an id that has `+` and `:`, and one that fails."""

import textwrap
from urllib.parse import quote

from engines.places import ask, free_port, until
from engines.trials import Upload, compare, refused

NAME, VERSION = "Airflow", "3.3.2"
REQUIREMENTS = (f"apache-airflow=={VERSION}",)
MEANS = {"success": "completed", "failed": "failed", "queued": "pending", "running": "pending"}
RUNS = {
    "a run": ("plain", {}),
    "a run whose id has + and :": ("manual__2026-03-01T03:00:00+00:00", {}),
    "a run whose task raised": ("broken", {"broken": True}),
    "a run of a paused DAG": ("waits", {}),
}
DAG = """
from airflow.sdk import dag, task

@dag(schedule=None, catchup=False, is_paused_upon_creation=False)
def ingest():
    @task
    def index(**context):
        if context["dag_run"].conf.get("broken"):
            raise ValueError("no text could be extracted")
    index()

ingest()
"""


def trials(place):
    """Triggers runs, waits until they ended, and compares: by the item question and by the list."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    dags = place.folder / "dags"
    dags.mkdir(exist_ok=True)
    (dags / "ingest.py").write_text(textwrap.dedent(DAG), encoding="utf-8")
    settings = {
        "AIRFLOW_HOME": str(place.folder / "home"), "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__API__PORT": str(port), "AIRFLOW__API__BASE_URL": origin,
        "AIRFLOW__API__WORKERS": "1", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{origin}/execution/",
    }  # fmt: skip
    command = (place.python.with_name("airflow"), "standalone")
    with place.serve(*command, ready=f"{origin}/api/v2/version", **settings):
        token = ask("GET", f"{origin}/auth/token").body["access_token"]
        uploads = _uploads(f"{origin}/api/v2/dags/ingest", {"Authorization": f"Bearer {token}"})
        target = (
            'provider = "airflow"\nbase_url = "{url}"\nparams = { dag_id = "ingest" }\nauth = { api_key = "%s" }\n'
            "list = { page = { size = 2 } }"
        )
        yield from compare(place, origin, target % token, uploads, strategies=("items", "list"))
        answer = ask("GET", f"{origin}/api/v2/dags/ingest/dagRuns/plain", headers={"Authorization": "Bearer wrong"})
        yield refused(
            place,
            origin,
            target % "another-key",
            [each.id for each in uploads],
            item="a wrong token",
            says=f"{answer.status} {answer.body['detail']}",
            means="unauthorized",
        )


def _uploads(dag, headers):
    until(lambda: ask("GET", dag, headers=headers).status == 200, seconds=120)
    for run_id, conf in RUNS.values():
        if run_id == "waits":
            continue
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        ask("POST", f"{dag}/dagRuns", body, headers=headers)

    def about(run_id):
        return ask("GET", f"{dag}/dagRuns/{quote(run_id, safe='')}", headers=headers)

    ended = [run_id for run_id, _ in RUNS.values() if run_id != "waits"]
    until(lambda: all(about(each).body["state"] in {"success", "failed"} for each in ended), seconds=180, every_s=2)
    # paused, so that the next run stays queued
    ask("PATCH", dag, {"is_paused": True}, headers=headers)
    ask("POST", f"{dag}/dagRuns", {"dag_run_id": "waits", "logical_date": None}, headers=headers)
    asked = {**{item: run_id for item, (run_id, _) in RUNS.items()}, "no such run": "none"}
    return [_upload(item, run_id, about(run_id)) for item, run_id in asked.items()]


def _upload(item, run_id, answer):
    word = answer.body.get("state") or answer.body["detail"]
    means = "not_found" if answer.status == 404 else MEANS[word]
    return Upload(item=item, id=run_id, says=f"{answer.status} {word}", means=means)
