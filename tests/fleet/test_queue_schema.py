"""The queue's tables on a real PostgreSQL: Procrastinate's own files, our lock, and a note of the version."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import make_url

from monitor.database.schema import SchemaFit
from monitor.errors import SchemaError, StoreError
from monitor.fleet import queue_schema


def fit(engine):
    with engine.connect() as conn:
        return queue_schema.current(conn).fit


def shape(url):
    """Tables, columns, indexes, functions and triggers of the queue."""
    with psycopg.connect(url) as conn:
        columns = conn.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'procrastinate' ORDER BY 1, 2"
        ).fetchall()
        others = conn.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'procrastinate' UNION ALL"
            " SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'procrastinate'::regnamespace UNION ALL"
            " SELECT DISTINCT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'procr%'"
        ).fetchall()
    return columns, sorted(others)


def install_older(url, version):
    """What an older Procrastinate left, by its own files, with a job that waits."""
    with psycopg.connect(url) as conn:
        conn.execute("CREATE SCHEMA procrastinate")
        conn.execute("SET LOCAL search_path TO procrastinate")
    for each in queue_schema._versions():
        if each <= version:
            with psycopg.connect(url) as conn:
                conn.execute("SET LOCAL search_path TO procrastinate")
                conn.execute(queue_schema._file(each).read_text())
    with psycopg.connect(url) as conn:
        conn.execute("SET LOCAL search_path TO procrastinate")
        conn.execute(queue_schema._OWN_TABLES)
        conn.execute("INSERT INTO monitor_version VALUES (%s)", [version])
        conn.execute("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 'plan')")


def test_an_upgrade_installs_the_queue_and_then_does_nothing(new_postgres, connected):
    url = new_postgres()
    engine = connected(url)
    assert fit(engine) is SchemaFit.MISSING
    with pytest.raises(SchemaError, match=r"no queue for workers.*db upgrade") as refused:
        queue_schema.verify(engine)
    assert refused.value.needs_upgrade
    assert queue_schema.upgrade(url) == [queue_schema._versions()[-1]]
    assert queue_schema.upgrade(url) == []
    queue_schema.verify(engine)


def test_an_older_queue_is_upgraded_step_by_step_and_keeps_its_jobs(new_postgres, connected):
    older, fresh = new_postgres(), new_postgres()
    install_older(older, "03.01.00_50_post_add_heartbeat")
    engine = connected(older)
    assert fit(engine) is SchemaFit.OLDER
    with pytest.raises(SchemaError, match=r"older queue 03\.01\.00.*db upgrade"):
        queue_schema.verify(engine)
    steps = queue_schema.upgrade(older)
    assert steps == [each for each in queue_schema._versions() if each > "03.01.00_50_post_add_heartbeat"]
    queue_schema.upgrade(fresh)
    assert shape(older) == shape(fresh)
    with psycopg.connect(older) as conn:
        assert conn.execute("SELECT task_name, status FROM procrastinate.procrastinate_jobs").fetchall() == [
            ("plan", "todo")
        ]


def test_upgrades_at_once_apply_each_step_once(new_postgres):
    url = new_postgres()
    install_older(url, "03.02.00_50_post_batch_defer_jobs")
    with ThreadPoolExecutor(4) as pool:
        applied = [step for steps in pool.map(queue_schema.upgrade, [url] * 4) for step in steps]
    assert sorted(applied) == [each for each in queue_schema._versions() if each > "03.02.00_50_post_batch_defer_jobs"]


@pytest.mark.parametrize(
    ("statement", "expected", "sentence"),
    [
        (
            "UPDATE procrastinate.monitor_version SET version = '99.00.00_01'",
            SchemaFit.NEWER,
            "newer ingestion-monitor",
        ),
        ("DROP TABLE procrastinate.monitor_version", SchemaFit.FOREIGN, "another program.*rename that schema"),
    ],
    ids=["newer", "of another program"],
)
def test_a_queue_that_is_not_ours_to_change_is_left_alone(queue_url, connected, statement, expected, sentence):
    with psycopg.connect(queue_url) as conn:
        conn.execute(statement)
    before, engine = shape(queue_url), connected(queue_url)
    assert fit(engine) is expected
    for refuse in (lambda: queue_schema.verify(engine), lambda: queue_schema.upgrade(queue_url)):
        with pytest.raises(SchemaError, match=sentence) as refused:
            refuse()
        assert not refused.value.needs_upgrade
    assert shape(queue_url) == before


def test_a_user_without_the_privilege_is_told_what_to_grant(new_postgres):
    owners = new_postgres()
    url = make_url(owners)
    role = f"plain_{url.database}"
    plain = url.set(username=role, password="x").render_as_string(hide_password=False)
    with psycopg.connect(owners, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            with pytest.raises(
                StoreError, match=f"refuses the schema procrastinate.*grant create on database {url.database}"
            ):
                queue_schema.upgrade(plain)
            conn.execute(f"CREATE SCHEMA procrastinate; GRANT USAGE ON SCHEMA procrastinate TO {role}")
            with pytest.raises(StoreError, match="grant create on schema procrastinate"):
                queue_schema.upgrade(plain)
            conn.execute(f"GRANT CREATE ON SCHEMA procrastinate TO {role}")
            assert len(queue_schema.upgrade(plain)) == 1, "the schema is enough"
        finally:
            conn.execute(f"DROP OWNED BY {role}")
            conn.execute(f"DROP ROLE {role}")
