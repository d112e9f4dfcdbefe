"""SQLModel: a table model with a UUID as its key."""

from datetime import datetime
from uuid import UUID

from documents import DOCUMENTS, driver_url
from sqlalchemy import DateTime
from sqlmodel import Field, Session, SQLModel, create_engine


class Upload(SQLModel, table=True):
    id: UUID = Field(primary_key=True)
    uploaded_at: datetime = Field(sa_type=DateTime(timezone=True))
    collection: str


engine = create_engine(driver_url("postgresql+psycopg"))
SQLModel.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(
        Upload(id=each.uuid, uploaded_at=each.uploaded_at, collection=each.collection) for each in DOCUMENTS
    )
    session.commit()
