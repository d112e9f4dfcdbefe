"""dramatiq-pg: one message per document, whose task returns its id, done by a worker; one task that failed."""

import time
from contextlib import closing

import dramatiq
import psycopg2
from documents import DELETED, DOCUMENTS, URL, record
from dramatiq_pg import PostgresBroker
from dramatiq_pg.schema import generate_init_sql

REFUSED = {each.id for each in DELETED}

with closing(psycopg2.connect(URL)) as conn, conn, conn.cursor() as cursor:
    cursor.execute(generate_init_sql())


class NeverAgain(dramatiq.Middleware):
    """Rejects what failed at once; dramatiq's own `Retries` would store the traceback, with its paths."""

    def after_process_message(self, _broker, message, **outcome):
        if outcome["exception"] is not None:
            message.fail()


broker = PostgresBroker(url=URL, middleware=[NeverAgain()])


@dramatiq.actor(broker=broker, store_results=True)
def upload(path):
    item_id = path.removeprefix("/documents/")
    if item_id in REFUSED:
        raise ValueError
    return {"item_id": item_id}


for each in (*DOCUMENTS, *DELETED):
    upload.send(f"/documents/{each.id}")
worker = dramatiq.Worker(broker, worker_threads=1)
worker.start()
left = 1
while left:
    time.sleep(0.2)
    with closing(psycopg2.connect(URL)) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM dramatiq.queue WHERE state IN ('queued', 'consumed')")
        (left,) = cursor.fetchone()
worker.stop()
broker.close()
record([(each.id,) for each in DOCUMENTS])
