"""The LiteLLM proxy without a database, before an API of vector stores: it passes questions on, and checks keys."""

from engines.models import FILES
from engines.places import ask, free_port
from engines.trials import Upload, compare, refused

NAME, VERSION = "LiteLLM proxy", "1.108.7"
REQUIREMENTS = (f"litellm[proxy]=={VERSION}",)
KEY = "sk-of-this-trial"
MEANS = {"completed": "completed", "in_progress": "pending", "failed": "failed"}
CONFIG = """
model_list:
- {model_name: stand-in, litellm_params: {model: openai/stand-in, api_base: "%s", api_key: none}}
general_settings: {master_key: %s}
"""


def trials(place):
    """Asks about the files of the API behind the proxy, and with a key that the proxy does not know."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    config = place.folder / "config.yaml"
    config.write_text(CONFIG % (place.models, KEY), encoding="utf-8")
    command = (place.python.with_name("litellm"), "--config", config, "--host", "127.0.0.1", "--port", port)
    with place.serve(*command, ready=f"{origin}/health/liveliness", LITELLM_LOCAL_MODEL_COST_MAP="True"):
        ids = [*FILES, "file-none"]
        target = (
            'provider = "openai"\nbase_url = "{url}/v1"\nparams = { vector_store_id = "vs_1" }\n'
            'auth = { api_key = "%s" }'
        )
        uploads = [_upload(each, _ask(origin, each, KEY)) for each in ids]
        yield from compare(place, origin, target % KEY, uploads, strategies=("items", "list"))
        answer = _ask(origin, ids[0], "sk-another")
        error = answer.body["error"]
        yield refused(
            place,
            origin,
            target % "sk-another",
            ids,
            item="a wrong key",
            says=f"{answer.status} {error['type']}: {error['message']}",
            means="unauthorized",
        )


def _ask(origin, file_id, key):
    return ask("GET", f"{origin}/v1/vector_stores/vs_1/files/{file_id}", headers={"Authorization": f"Bearer {key}"})


def _upload(file_id, answer):
    if answer.status == 200:
        word = answer.body["status"]
        return Upload(item=f"a file behind it, {word}", id=file_id, says=f"200 {word}", means=MEANS[word])
    says = f"{answer.status} {answer.body['error']['message']}"
    return Upload(item="no such file behind it", id=file_id, says=says, means="not_found")
