"""polars: write_database of a frame with UTC times, by SQLAlchemy or ADBC."""

import polars as pl
from documents import CASE, DOCUMENTS, URL, driver_url

frame = pl.DataFrame(
    {
        "item_id": [each.id for each in DOCUMENTS],
        "uploaded_at": [each.uploaded_at for each in DOCUMENTS],
        "collection": [each.collection for each in DOCUMENTS],
    }
)
if CASE.endswith("adbc"):
    frame.write_database("uploads", URL, engine="adbc")
else:
    frame.write_database("uploads", driver_url("postgresql+psycopg"), engine="sqlalchemy")
