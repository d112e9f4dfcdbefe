"""LightRAG: texts that can be embedded, a text that can't, batches of both, and a text that is there already."""

from engines.models import DIMENSIONS, REFUSED
from engines.places import ask, free_port, until
from engines.trials import Upload, canary, compare, refused

NAME, VERSION = "LightRAG", "1.5.7"
REQUIREMENTS = (f"lightrag-hku[api]=={VERSION}",)
KEY = "key-of-this-trial"

# the tokenizer's tables are downloaded at run time: one byte is one token here
SERVER = """
import tiktoken
def bytes_as_tokens(*_):
    ranks = {bytes([n]): n for n in range(256)}
    return tiktoken.Encoding(name="bytes", pat_str=r"(?s:.)", mergeable_ranks=ranks, special_tokens={})
tiktoken.get_encoding = tiktoken.encoding_for_model = bytes_as_tokens
from lightrag.api.lightrag_server import main
main()
"""


def trials(place):
    """Uploads, waits until all is settled, and compares."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    models = {
        f"{kind}_{name}": value
        for kind in ("LLM", "EMBEDDING")
        for name, value in (
            ("BINDING", "openai"), ("BINDING_HOST", place.models), ("BINDING_API_KEY", "none"), ("MODEL", "stand-in"),
        )
    }  # fmt: skip
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "EMBEDDING_DIM": str(DIMENSIONS), "LIGHTRAG_API_KEY": KEY}
    with place.serve(place.python, "-c", SERVER, ready=f"{url}/health", **models, **settings):
        client = _Client(url)
        uploads = list(_uploads(client))
        target = 'provider = "lightrag"\nbase_url = "{url}"\nauth = { api_key = "%s" }'
        yield from compare(place, url, target % KEY, uploads)
        answer = ask("GET", f"{url}/documents/track_status/{uploads[0].id}", headers={"X-API-Key": "wrong"})
        yield refused(
            place,
            url,
            target % "another-key",
            [each.id for each in uploads],
            item="a wrong key",
            says=f"{answer.status} {answer.body['detail']}",
            means="unauthorized",
        )
        yield canary(place, url, (target % KEY), left=client.count)


class _Client:
    def __init__(self, url):
        self.url = f"{url}/documents"

    def send(self, method, path, body=None):
        return ask(method, f"{self.url}/{path}", body, headers={"X-API-Key": KEY}).body

    def upload(self, **texts):
        """The tracking id of one upload: `a_txt="…"` is a text under the name a.txt."""
        names, values = [name.replace("_", ".") for name in texts], list(texts.values())
        if len(values) == 1:
            return self.send("POST", "text", {"text": values[0], "file_source": names[0]})["track_id"]
        return self.send("POST", "texts", {"texts": values, "file_sources": names})["track_id"]

    def documents(self, track_id):
        return self.send("GET", f"track_status/{track_id}")["documents"]

    def count(self, name):
        """How many documents have this name as a file's."""
        found = self.send("POST", "paginated", {"page": 1, "page_size": 200})["documents"]
        return sum(each["file_path"] == f"{name}.txt" for each in found)

    def settled(self, track_id, count):
        """The documents of an upload, once none of them changes any more."""
        return until(lambda: self._settled(track_id, count))

    def _settled(self, track_id, count):
        documents = self.documents(track_id)
        return documents if len(documents) == count and _words(documents) <= {"processed", "failed"} else None


def _uploads(client):
    """One after the other: what one text breaks in the texts beside it is a trial of its own."""
    for item, means, texts in (
        ("a text", "completed", {"a_txt": "Water boils at 100 degrees."}),
        ("two texts", "completed", {"b_txt": "Ice melts at 0 degrees.", "c_txt": "Steam is hot."}),
        ("a text whose embedding is refused", "failed", {"d_txt": f"This text is {REFUSED}."}),
        (
            "three texts, one of them refused",
            "failed",
            {"e_txt": "One.", "f_txt": f"Two, {REFUSED}.", "g_txt": "Three."},
        ),
        ("a text that is there already, under another name", "completed", {"h_txt": "Water boils at 100 degrees."}),
    ):
        track_id = client.upload(**texts)
        documents = client.settled(track_id, len(texts))
        yield Upload(item=item, id=track_id, says=_says(documents), means=means)
    yield Upload(
        item="no such upload", id="insert_none", says=_says(client.documents("insert_none")), means="not_found"
    )


def _says(documents):
    words = [f"{each['status']}, is_duplicate" if _duplicate(each) else each["status"] for each in documents]
    return f"200, documents: [{'; '.join(words)}]"


def _words(documents):
    return {each["status"] for each in documents}


def _duplicate(document):
    return bool(document["metadata"].get("is_duplicate"))
