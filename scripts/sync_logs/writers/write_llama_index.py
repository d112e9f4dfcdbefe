"""LlamaIndex's PostgresDocumentStore: each document with its one node; or what an IngestionPipeline stores.

One document of the pipeline fails when it is embedded, so it is only in the docstore's metadata.
"""

import contextlib

from documents import CASE, DELETED, DOCUMENTS, URL, record
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.schema import Document, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.storage.docstore.postgres import PostgresDocumentStore
from llama_index.storage.kvstore.postgres import PostgresKVStore

rest = URL.removeprefix("postgresql://")
store = PostgresDocumentStore(
    PostgresKVStore(
        "docstore",
        connection_string=f"postgresql+psycopg2://{rest}",
        async_connection_string=f"postgresql+asyncpg://{rest}",
    )
)
REFUSED = {f"text of {each.id}" for each in DELETED}


class Provider(MockEmbedding):
    """A model's provider, which refuses some texts."""

    def _get_text_embedding(self, text):
        if text in REFUSED:
            raise ConnectionError
        return super()._get_text_embedding(text)


def document(each):
    return Document(doc_id=each.id, text=f"text of {each.id}")


def by_hand():
    for each in map(document, DOCUMENTS):
        node = TextNode(text="text", relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=each.doc_id)})
        store.set_document_hash(each.doc_id, each.hash)
        store.add_documents([node])


def by_pipeline():
    pipeline = IngestionPipeline(
        transformations=[Provider(embed_dim=4)],
        docstore=store,
        docstore_strategy=DocstoreStrategy.DUPLICATES_ONLY,
        vector_store=SimpleVectorStore(),
        disable_cache=True,
    )
    pipeline.run(documents=[document(each) for each in DOCUMENTS])
    with contextlib.suppress(ConnectionError):
        pipeline.run(documents=[document(each) for each in DELETED])


if CASE.endswith("pipeline"):
    by_pipeline()
else:
    by_hand()
record([(each.id,) for each in DOCUMENTS])
