"""LightRAG's document status in PostgreSQL."""

import asyncio
import os
from urllib.parse import urlsplit

from documents import DOCUMENTS, URL

parts = urlsplit(URL)
os.environ |= {
    "POSTGRES_HOST": parts.hostname,
    "POSTGRES_PORT": str(parts.port),
    "POSTGRES_USER": parts.username,
    "POSTGRES_PASSWORD": parts.password,
    "POSTGRES_DATABASE": parts.path[1:],
    "POSTGRES_ENABLE_VECTOR": "false",
}


async def write():
    from lightrag.kg.postgres_impl import PGDocStatusStorage  # reads the environment
    from lightrag.kg.shared_storage import initialize_share_data

    initialize_share_data()
    store = PGDocStatusStorage(
        namespace="doc_status", workspace="library", global_config={"vector_storage": ""}, embedding_func=None
    )
    await store.initialize()
    await store.upsert(
        {
            each.id: {
                "content_summary": "text",
                "content_length": 4,
                "status": "processed",
                "file_path": "text.txt",
                "chunks_count": 1,
                "chunks_list": ["chunk-1"],
                "created_at": each.uploaded_at.isoformat(),
                "updated_at": each.uploaded_at.isoformat(),
                "track_id": "upload-1",
                "metadata": {},
            }
            for each in DOCUMENTS
        }
    )
    await store.finalize()


asyncio.run(write())
