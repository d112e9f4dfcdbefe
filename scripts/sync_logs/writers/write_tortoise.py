"""Tortoise ORM: a model with a UUIDField as its key."""

from documents import DOCUMENTS, POSTGRES, SQLITE_PATH, URL
from tortoise import Tortoise, fields, run_async
from tortoise.models import Model


class Upload(Model):
    id = fields.UUIDField(primary_key=True)
    uploaded_at = fields.DatetimeField()
    collection = fields.CharField(max_length=40)


async def write():
    url = URL.replace("postgresql://", "asyncpg://") if POSTGRES else f"sqlite://{SQLITE_PATH}"
    await Tortoise.init(db_url=url, modules={"models": ["__main__"]}, use_tz=True)
    await Tortoise.generate_schemas()
    for each in DOCUMENTS:
        await Upload.create(id=each.uuid, uploaded_at=each.uploaded_at, collection=each.collection)


run_async(write())
