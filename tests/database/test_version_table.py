"""Our version table beside other programs' `alembic_version`."""

from uuid import uuid4

import psycopg
import pytest
from database.older import bring_to, in_old_shape, revisions, stored
from sqlalchemy import inspect, make_url, text
from support.thinned import ends

from monitor.database import schema
from monitor.database.engine import connect_read_only, reading, writing
from monitor.errors import SchemaError, StoreError

pytestmark = pytest.mark.slow_twice

HEAD = revisions()[-1]


def alembic_table(engine, revision):
    """The table as Alembic itself creates it."""
    with writing(engine) as conn:
        conn.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                          "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"))  # fmt: skip
        conn.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})


def give_former_name(engine, revision):
    """As a version of this program left it that used the common table."""
    alembic_table(engine, revision)
    with writing(engine) as conn:
        conn.execute(text("DROP TABLE ingestion_monitor_version"))


def tables(engine):
    with reading(engine) as conn:
        return set(inspect(conn).get_table_names())


@pytest.mark.parametrize("revision", ends(revisions()))
def test_the_common_table_of_a_former_version_is_taken_over_from_every_revision(database_url, connected, revision):
    before, engine = bring_to(database_url, revision), connected(database_url)
    give_former_name(engine, revision)
    found = schema.current(engine)
    assert (found.current, found.fit is schema.SchemaFit.CURRENT) == (revision, revision == HEAD)

    applied = schema.upgrade(database_url)

    assert applied == revisions()[revisions().index(revision) + 1 :]
    assert in_old_shape(before, stored(database_url)) == before
    assert "ingestion_monitor_version" in tables(engine)
    assert "alembic_version" not in tables(engine)
    assert schema.current(engine).current == HEAD
    alembic_table(engine, "64b051264f32")  # another program that comes later has room
    assert schema.current(engine).fit is schema.SchemaFit.CURRENT
    assert schema.upgrade(database_url) == []


def test_a_database_with_the_former_table_is_used_as_it_is(store_url, engine, database_kind):
    give_former_name(engine, HEAD)
    opened = schema.ensure(store_url)
    schema.verify(opened)
    opened.dispose()
    former = "alembic_version" in tables(engine)
    assert former is (database_kind == "postgresql")  # which only `db upgrade` changes


@pytest.mark.parametrize("revision", ["64b051264f32", "0001", HEAD, "0137"])
def test_another_programs_database_is_named_and_not_written(database_url, connected, revision):
    engine = connected(database_url)
    alembic_table(engine, revision)
    with writing(engine) as conn:
        conn.execute(text("CREATE TABLE documents (id INTEGER PRIMARY KEY)"))

    assert schema.current(engine).fit is schema.SchemaFit.FOREIGN
    for use in (schema.upgrade, schema.ensure):
        with pytest.raises(SchemaError, match=r"belongs to another program.* a database of its own") as caught:
            use(database_url)
        assert not caught.value.needs_upgrade
    assert tables(engine) == {"alembic_version", "documents"}


def test_an_unknown_revision_in_the_common_table_is_another_programs_even_beside_our_tables(store_url, engine):
    give_former_name(engine, "64b051264f32")
    with pytest.raises(SchemaError, match="belongs to another program"):
        schema.verify(engine)


def test_tables_behind_our_own_schema_are_no_concern_of_ours(new_postgres, connected):
    url = new_postgres()
    public = connected(url)
    alembic_table(public, HEAD)
    with writing(public) as conn:
        conn.execute(text("CREATE TABLE items (id INTEGER PRIMARY KEY)"))
        conn.execute(text("CREATE SCHEMA mine"))
    own = f"{url}?options=-csearch_path%3Dmine,public"

    assert schema.upgrade(own) == revisions()
    engine = connected(own)
    schema.verify(engine)
    assert schema.upgrade(own) == []
    assert tables(public) == {"alembic_version", "items"}


def test_a_user_that_may_not_create_tables_is_told_what_to_grant(new_postgres, connected):
    url, role = new_postgres(), f"monitor_role_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            of_role = make_url(url).set(username=role, password="x").render_as_string(hide_password=False)
            with pytest.raises(StoreError, match=f"grant create on schema public to {role}"):
                schema.upgrade(of_role)
            with reading(connected(of_role, connect_read_only)) as conn:
                assert schema.missing_privilege(conn) is not None
            admin.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
            assert schema.upgrade(of_role) == revisions()
        finally:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")
