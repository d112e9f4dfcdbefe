"""LlamaIndex's PostgresDocumentStore: each document with its one node, as an ingestion pipeline stores them."""

from documents import DOCUMENTS, URL, record
from llama_index.core.schema import Document, NodeRelationship, RelatedNodeInfo, TextNode
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
for each in DOCUMENTS:
    document = Document(doc_id=each.id, text=f"text of {each.id}")
    node = TextNode(text="text", relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document.doc_id)})
    store.set_document_hash(document.doc_id, document.hash)
    store.add_documents([node])
record([(each.id,) for each in DOCUMENTS])
