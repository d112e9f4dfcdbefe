"""llama-stack's vector stores, as OpenAI's: files that are attached, refused, detached, or were never uploaded."""

from engines.models import DIMENSIONS, REFUSED
from engines.places import ask, free_port
from engines.trials import Upload, compare

NAME, VERSION, PYTHON = "llama-stack", "0.7.3", (3, 12)
REQUIREMENTS = (f"llama-stack=={VERSION}", "mcp<2", "faiss-cpu", "aiosqlite", "pypdf", "tiktoken", "chardet", "numpy")
MEANS = {"completed": "completed", "in_progress": "pending", "failed": "failed", "cancelled": "failed"}

# the tokenizer's tables are downloaded at run time: one byte is one token here
SERVER = """
import sys, tiktoken
def bytes_as_tokens(*_):
    ranks = {bytes([n]): n for n in range(256)}
    return tiktoken.Encoding(name="bytes", pat_str=r"(?s:.)", mergeable_ranks=ranks, special_tokens={})
tiktoken.get_encoding = tiktoken.encoding_for_model = bytes_as_tokens
from llama_stack.cli.llama import main
sys.argv = ["llama", "stack", "run", *sys.argv[1:]]
main()
"""

CONFIG = """
version: 2
distro_name: trial
apis: [files, inference, vector_io, file_processors]
providers:
  inference:
  - {provider_id: openai, provider_type: "remote::openai", config: {api_key: none, base_url: MODELS}}
  vector_io:
  - provider_id: faiss
    provider_type: inline::faiss
    config: {persistence: {namespace: vector_io, backend: kv}}
  files:
  - provider_id: files
    provider_type: inline::localfs
    config: {storage_dir: HOME/files, metadata_store: {table_name: files, backend: sql}}
  file_processors:
  - {provider_id: pypdf, provider_type: "inline::pypdf"}
storage:
  backends:
    kv: {type: kv_sqlite, db_path: HOME/kv.db}
    sql: {type: sql_sqlite, db_path: HOME/sql.db}
  stores:
    metadata: {namespace: registry, backend: kv}
    inference: {table_name: inference_store, backend: sql, max_write_queue_size: 100, num_writers: 1}
    conversations: {table_name: conversations, backend: sql}
    prompts: {namespace: prompts, backend: kv}
    connectors: {namespace: connectors, backend: kv}
registered_resources:
  models:
  - model_id: stand-in
    provider_id: openai
    provider_model_id: stand-in
    model_type: embedding
    metadata: {embedding_dimension: DIMENSIONS}
server: {port: 8321}
vector_stores:
  default_provider_id: faiss
  default_embedding_model: {provider_id: openai, model_id: stand-in}
"""


def trials(place):
    """Uploads, attaches, and compares: by the item question and by the list."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    config = place.folder / "config.yaml"
    filled = (
        CONFIG.replace("MODELS", place.models).replace("HOME", str(place.folder)).replace("DIMENSIONS", str(DIMENSIONS))
    )
    config.write_text(filled, encoding="utf-8")
    with place.serve(place.python, "-c", SERVER, config, "--port", port, ready=f"{origin}/v1/health"):
        store = ask("POST", f"{origin}/v1/vector_stores", {"name": "docs"}).body["id"]
        uploads = _uploads(f"{origin}/v1", store)
        target = (
            f'provider = "openai"\nbase_url = "{{url}}/v1"\nparams = {{ vector_store_id = "{store}" }}\n'
            "list = { page = { size = 2 } }"
        )
        # after a question about a missing file this server leaves the next one unanswered for half a minute
        yield from compare(place, origin, target, uploads, strategies=("items", "list"), concurrency=1)


def _uploads(api, store):
    files = f"{api}/vector_stores/{store}/files"
    ids = {}
    for item, text in (
        ("a file", "Water boils at 100 degrees."),
        ("a file whose embedding is refused", f"This text is {REFUSED}."),
        ("the same text under another name", "Water boils at 100 degrees."),
        ("a file that was detached", "Steam is hot."),
    ):
        upload = ask("POST", f"{api}/files", {"purpose": "assistants"}, files=(f"{len(ids)}.txt", text.encode()))
        ids[item] = upload.body["id"]
        ask("POST", files, {"file_id": ids[item]})
    ask("DELETE", f"{files}/{ids['a file that was detached']}")
    ids["a file that was attached, but never uploaded"] = "file-0123456789abcdef"
    ask("POST", files, {"file_id": "file-0123456789abcdef"})
    ids["no such file"] = "file-fedcba9876543210"
    return [_upload(item, file_id, ask("GET", f"{files}/{file_id}")) for item, file_id in ids.items()]


def _upload(item, file_id, answer):
    if answer.status == 200:
        word = answer.body["status"]
        return Upload(item=item, id=file_id, says=f"200 {word}", means=MEANS[word])
    says = f"{answer.status} {answer.body['error']['message'].partition(' in vector store')[0]}"
    return Upload(item=item, id=file_id, says=says.replace(file_id, "file-…"), means="not_found")
