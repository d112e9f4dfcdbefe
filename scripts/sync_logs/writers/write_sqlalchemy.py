"""SQLAlchemy: Uuid and DateTime(timezone=True), saved by the ORM."""

from datetime import datetime
from uuid import UUID

from documents import DOCUMENTS, driver_url
from sqlalchemy import DateTime, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The registry."""


class Upload(Base):
    __tablename__ = "uploads"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    uploaded_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    collection: Mapped[str]


engine = create_engine(driver_url("postgresql+psycopg"))
Base.metadata.create_all(engine)
with Session(engine) as session, session.begin():
    session.add_all(
        Upload(id=each.uuid, uploaded_at=each.uploaded_at, collection=each.collection) for each in DOCUMENTS
    )
