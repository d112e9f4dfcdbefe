"""pandas: to_sql of a frame with UTC times, by SQLAlchemy, or the same times as integers."""

import pandas as pd
from documents import CASE, DOCUMENTS, driver_url
from sqlalchemy import create_engine

frame = pd.DataFrame(
    {
        "item_id": [each.id for each in DOCUMENTS],
        "uploaded_at": pd.to_datetime([each.uploaded_at for each in DOCUMENTS], utc=True),
        "collection": [each.collection for each in DOCUMENTS],
    }
)
if CASE.endswith("integers"):
    frame["uploaded_at"] = frame["uploaded_at"].astype("datetime64[ns, UTC]").astype("int64")
if CASE.endswith("paris"):
    frame["uploaded_at"] = frame["uploaded_at"].dt.tz_convert("Europe/Paris")
frame.to_sql("uploads", create_engine(driver_url("postgresql+psycopg")), index=False)
