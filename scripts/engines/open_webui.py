"""Open WebUI: files that are read, a file whose embedding is refused, one that nobody asked to process, a large one."""

from engines.models import REFUSED
from engines.places import ask, free_port, until
from engines.trials import Upload, compare, refused

NAME, VERSION = "Open WebUI", "0.12.4"
REQUIREMENTS = (f"open-webui=={VERSION}",)
NO_FILE = "00000000-0000-4000-8000-000000000000"
MEANS = {"completed": "completed", "failed": "failed", "pending": "pending", "processing": "pending"}
FILES = {
    "a file": ("good.txt", b"Water boils at 100 degrees.", ""),
    "a file whose embedding is refused": ("refused.txt", f"This text is {REFUSED}.".encode(), ""),
    "the same text under another name": ("same.txt", b"Water boils at 100 degrees.", ""),
    "a file of 1.6 MB": ("large.txt", b"A long text of many words. " * 60_000, ""),
    "a file that nobody asked to process": ("raw.txt", b"Ice melts at 0 degrees.", "?process=false"),
}


def trials(place):
    """Uploads, waits until all is settled, and compares: by the item question and by the list."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    settings = {
        "DATA_DIR": str(place.folder / "data"), "WEBUI_SECRET_KEY": "of-this-trial", "ENABLE_API_KEYS": "true",
        "RAG_EMBEDDING_ENGINE": "openai", "RAG_OPENAI_API_BASE_URL": place.models, "RAG_OPENAI_API_KEY": "none",
        "RAG_EMBEDDING_BATCH_SIZE": "500", "OPENAI_API_BASE_URL": place.models, "ENABLE_OLLAMA_API": "false",
        "OFFLINE_MODE": "true", "CORS_ALLOW_ORIGIN": origin, "SCARF_NO_ANALYTICS": "true",
    }  # fmt: skip
    command = (place.python.with_name("open-webui"), "serve", "--host", "127.0.0.1", "--port", port)
    with place.serve(*command, ready=f"{origin}/health", **settings):
        account = {"name": "trial", "email": "trial@example.com", "password": "of-this-trial"}
        sign = "signin" if (place.folder / "monitor-items").exists() else "signup"
        token = ask("POST", f"{origin}/api/v1/auths/{sign}", account).body["token"]
        key = ask("POST", f"{origin}/api/v1/auths/api_key", headers=_bearer(token)).body["api_key"]
        uploads = _uploads(f"{origin}/api/v1/files/", _bearer(key))
        target = 'provider = "open_webui"\nbase_url = "{url}"\nauth = { api_key = "%s" }'
        yield from compare(place, origin, target % key, uploads, strategies=("items", "list"))
        answer = ask("GET", f"{origin}/api/v1/files/{NO_FILE}/process/status", headers=_bearer("wrong"))
        yield refused(
            place,
            origin,
            target % "another-key",
            [each.id for each in uploads],
            item="a wrong key",
            says=f"{answer.status} {answer.body['detail']}",
            means="unauthorized",
        )


def _uploads(files, headers):
    ids = {}
    for item, (name, content, query) in FILES.items():
        ids[item] = ask("POST", files + query, {}, files=(name, content), headers=headers).body["id"]
    ids["no such file"] = NO_FILE

    def settled():
        answers = {
            item: ask("GET", f"{files}{file_id}/process/status", headers=headers) for item, file_id in ids.items()
        }
        waiting = [
            item
            for item, answer in answers.items()
            if answer.body.get("status") in {"pending", "processing"} and FILES[item][2] == ""
        ]
        return None if waiting else answers

    answers = until(settled, seconds=180, every_s=2)
    return [
        Upload(item=item, id=ids[item], says=f"{answer.status} {_word(answer)}", means=_means(answer))
        for item, answer in answers.items()
    ]


def _word(answer):
    return answer.body.get("status") or answer.body["detail"]


def _means(answer):
    return "not_found" if answer.status == 404 else MEANS[_word(answer)]


def _bearer(token):
    return {"Authorization": f"Bearer {token}"}
