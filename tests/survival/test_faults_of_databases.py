"""Real faults of databases that take only seconds (`make survive` plays all), and the document about them."""

from pathlib import Path

import pytest
from survival import postgres_faults, sqlite_faults
from survival.faults import ON_POSTGRES, ON_SQLITE, kept, written
from survival.server import own_server

pytestmark = pytest.mark.process

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults-of-databases.md"


@pytest.fixture(scope="module")
def server():
    with own_server() as started:
        yield started


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [each for each in ON_POSTGRES if each.short], ids=lambda each: each.name)
def test_no_fault_of_postgresql_leaves_a_run_half_written(server, tmp_path, case):
    row = getattr(postgres_faults, case.name)(server, tmp_path)
    assert kept(case, row) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [each for each in ON_SQLITE if each.short], ids=lambda each: each.name)
def test_no_fault_of_a_sqlite_file_leaves_a_run_half_written(tmp_path, case):
    row = getattr(sqlite_faults, case.name)(tmp_path)
    assert kept(case, row) == []


@pytest.mark.smoke
def test_every_promise_has_a_function_that_tests_it():
    assert [each.name for each in ON_POSTGRES if not callable(getattr(postgres_faults, each.name, None))] == []
    assert [each.name for each in ON_SQLITE if not callable(getattr(sqlite_faults, each.name, None))] == []


@pytest.mark.smoke
def test_the_table_in_the_document_is_current():
    document = DOCUMENT.read_text(encoding="utf-8")
    assert written(document) == document
