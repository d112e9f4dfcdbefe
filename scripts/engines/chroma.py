"""Chroma, by a description in the target: collections by their names, and its API of the version that it retired."""

import json

from engines.places import ask, free_port
from engines.trials import Upload, compare, refused

NAME, VERSION = "Chroma", "1.5.9"
REQUIREMENTS = (f"chromadb=={VERSION}",)
DATABASE = "/api/v2/tenants/default_tenant/databases/default_database"
NAMES = ("manuals", "letters", "with.dots-1")

COLLECTIONS = """
import json, sys, chromadb
client = chromadb.HttpClient(host="127.0.0.1", port=int(sys.argv[1]))
for name in sys.argv[2:]:
    collection = client.create_collection(name, embedding_function=None)
    collection.add(ids=["1"], embeddings=[[1.0, 2.0]], documents=["Water boils at 100 degrees."])
print(json.dumps([each.name for each in client.list_collections()]))
"""
TARGET = 'provider = "generic"\nbase_url = "{url}%s"\nstatuses = { completed = ["default_database"] }\n'
ITEM = 'item = { path = "/collections/{item_id}", status = "database", id = "name" }'


def trials(place):
    """Makes collections by its own client, and compares: by name, and by the retired API."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    command = (place.python.with_name("chroma"), "run", "--path", place.folder / "data", "--port", port)
    with place.serve(*command, "--host", "127.0.0.1", ready=f"{origin}/api/v2/heartbeat"):
        names = sorted(json.loads(place.run(place.python, "-c", COLLECTIONS, port, *NAMES).splitlines()[-1]))
        uploads = [_upload(f"{origin}{DATABASE}", each) for each in (*names, "none")]
        yield from compare(place, origin, TARGET % DATABASE + ITEM, uploads)
        answer = ask("GET", f"{origin}/api/v1/collections/{names[0]}")
        yield refused(
            place,
            origin,
            TARGET % "/api/v1" + ITEM,
            names,
            item="every collection, by the retired API",
            says=f"{answer.status} {answer.body['message']}",
            means="wrong_scope",
        )


def _upload(database, name):
    answer = ask("GET", f"{database}/collections/{name}")
    word = f"database {answer.body['database']}" if answer.status == 200 else answer.body["message"]
    means = "completed" if answer.status == 200 else "not_found"
    item = f"the collection {name}" if answer.status == 200 else "no such collection"
    return Upload(item=item, id=name, says=f"{answer.status} {word}", means=means)
