"""How many statements a report, a page and a probe need: as many for several targets as for one."""

from datetime import timedelta
from functools import partial

import pytest
from database.history import HistoryBuilder
from sqlalchemy import event, insert, update
from support.samples import NOW, incident

from monitor.config import load_config
from monitor.config.slos import objectives_of
from monitor.database.engine import reading, writing
from monitor.database.tables import canaries, silences, waits
from monitor.incidents import store as incidents
from monitor.model import Cause, Evidence, LearnedLimits, RunStatus, Snapshot
from monitor.model.items import FirstCompletion
from monitor.reports.build import build_report
from monitor.reports.changes import ReportCursor, save_cursor
from monitor.reports.gate import gate_views
from monitor.reports.incident_page import incident_page
from monitor.reports.incident_views import IncidentFilter, open_first_view
from monitor.reports.item_queries import ItemFilter
from monitor.reports.items_page import items_page
from monitor.reports.overview_page import overview_page
from monitor.reports.slos import read_all_slos
from monitor.reports.target_page import target_page
from monitor.rollups.indexing import Watch
from monitor.rollups.indexing_store import count_completions
from monitor.runs import throttle_store
from monitor.web import database_probe

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
NAMES = tuple(f"t{number}" for number in range(6))
SLOS = '[[slos]]\nname = "in time"\nobjective = 0.95\nwithin = "15m"\nwindow = "3d"\n'
TARGET = """
[[targets]]
name = "{0}"
provider = "gloo"
base_url = "http://127.0.0.1:9"
publisher_id = "11111111-1111-4111-8111-111111111111"
auth = {{ api_key = "key-of-{0}" }}
[targets.sync_log]
url = "sqlite:///log.db"
"""


@pytest.fixture
def configure(tmp_path):
    """A configuration of these targets."""

    def configure(*names):
        path = tmp_path / "monitor.toml"
        path.write_text(SLOS + "".join(TARGET.format(name) for name in names))
        return load_config(path, {})

    return configure


def live(engine, name, *, reported):
    """A target with something of everything that a report shows, a week and an hour old."""
    history = HistoryBuilder(engine)
    for age in (8 * DAY, 3 * DAY, HOUR, MINUTE):
        last = history.run(NOW - age, target=name, snapshot=Snapshot(completed=1, unknown=2, failed=1))
    history.run(NOW - MINUTE / 2, RunStatus.FAILED, target=name, error="it is gone")
    for state in ("pending", "failed", "unknown", "completed"):
        history.item(f"i-{state}", state, target=name, pending_since=NOW - 9 * DAY, submitted_at=NOW - HOUR)
    history.event("i-failed", last, old="pending", new="failed", at=NOW, target=name)
    with writing(engine) as conn:
        found = FirstCompletion(
            item_id="a", group=None, uploaded_at=NOW - HOUR, upload_known=True, not_completed_at=NOW - 30 * MINUTE,
            at=NOW - 29 * MINUTE,
        )  # fmt: skip
        count_completions(conn, target=name, completions=[found], watch=Watch())
        number = incidents.open_incident(conn, incident(target=name), evidence_id=None)
        incidents.add_event(conn, incident_id=number, run_id=None, at=NOW - HOUR, kind="opened", reason="because")
        throttle_store.write(conn, key=name, origin="http://127.0.0.1:9", limits=LearnedLimits(at=NOW))
        wait = {"target": name, "environment": "e", "holder": "h", "alive_until": NOW, "timeout_s": 1, "asked": 1}
        conn.execute(insert(waits).values(wait | {"started_at": NOW - HOUR, "result": "completed", "completed": 1}))
        canary = {"target": name, "environment": "e", "epoch": 1, "name": name, "marker": "m", "slow_after_s": 9.0}
        ended = {"status": "failed", "clean_up": "pending", "started_at": NOW, "finished_at": NOW - HOUR}
        conn.execute(insert(canaries).values(canary | ended))
        conn.execute(update(canaries).values(failed_step="upload", code="c", reason="r"))
        if reported:
            cursor = ReportCursor(generated_at=NOW - DAY, last_run_id=last - 1, last_incident_event_id=0)
            save_cursor(conn, target=name, cursor=cursor)


def statements(engine, work):
    """The statements of some work, in a transaction of its own."""
    found = []

    def note(_conn, _cursor, sql, *_):
        if not sql.startswith(("BEGIN", "SELECT set_config")):
            found.append(sql)

    event.listen(engine, "before_cursor_execute", note)
    with reading(engine) as conn:
        work(conn)
    event.remove(engine, "before_cursor_execute", note)
    return found


@pytest.mark.parametrize("since", [HOUR, 30 * DAY], ids=["an hour", "a month"])
@pytest.mark.parametrize("reported", [True, False], ids=["reported before", "first report"])
def test_a_report_needs_as_many_statements_for_six_targets_as_for_one(engine, configure, since, reported):
    def report(*names):
        for name in names:
            live(engine, name, reported=reported)
        config = configure(*dict.fromkeys((NAMES[0], *names)))
        return statements(engine, lambda conn: build_report(conn, config, target=None, since=since, now=NOW))

    one, six = report(NAMES[0]), report(*NAMES[1:])
    assert len(six) == len(one) <= 55


def test_a_probe_and_the_objectives_need_as_many_statements_for_six_targets_as_for_one(engine, configure):
    for name in NAMES:
        live(engine, name, reported=False)

    def probe(*names):
        promised = {name: objectives_of(configure(*names).slos, name) for name in names}
        objectives = database_probe.Objectives(promised=promised)
        keys = {name: name for name in names}

        def work(conn):
            database_probe.read(
                conn, targets=names, throttle_keys=keys, timeout_s=5, objectives=objectives, canaries=names
            )
            read_all_slos(conn, objectives=promised)

        return statements(engine, work)

    assert len(probe(*NAMES)) == len(probe(NAMES[0])) <= 30


def troubled(engine, names):
    """Targets with a run and an open incident of one failed item each."""
    history = HistoryBuilder(engine)
    for name in names:
        run_id = history.run(NOW - MINUTE, target=name, snapshot=Snapshot(completed=1, failed=1))
        with writing(engine) as conn:
            piece = Evidence(cause=Cause.ITEMS_FAILED, count=1, sample_ids=("i",))
            ids = incidents.add_evidence(conn, target=name, run_id=run_id, at=NOW, pieces=[piece])
            opened = incident(target=name, cause=piece.cause, member_count=1)
            number = incidents.open_incident(conn, opened, evidence_id=ids[piece.key])
        history.item("i", "failed", target=name, incident_id=number)


def test_a_page_needs_as_many_statements_for_20_targets_as_for_5(engine, configure):
    names = [f"t{number:02}" for number in range(20)]
    week, newest = timedelta(days=7), ItemFilter(stuck_after={})
    pages = {
        "/": lambda conn, config: overview_page(conn, config, since=week, now=NOW),
        "/targets/NAME": lambda conn, config: target_page(conn, config, name="t00", since=week, now=NOW),
        "/incidents": lambda conn, **_: open_first_view(conn, IncidentFilter(), limit=50, now=NOW),
        "/incidents/ID": lambda conn, config: incident_page(conn, config, 1, now=NOW),
        "/items": lambda conn, **_: items_page(conn, newest, now=NOW),
        "/api/v1/targets": lambda conn, config: gate_views(
            conn,
            due_times={each.name: config.schedule_for(each).due_times(each.name) for each in config.targets},
            now=NOW,
        ),
        "/api/v1/report": lambda conn, config: build_report(conn, config, target=None, since=week, now=NOW),
    }

    def count(found):
        config = configure(*found)
        return {path: len(statements(engine, partial(work, config=config))) for path, work in pages.items()}

    troubled(engine, names[:5])
    five = count(names[:5])
    troubled(engine, names[5:])
    assert count(names) == five
    assert max(five.values()) <= 60


def test_lists_of_incidents_do_not_read_their_items(engine, configure):
    troubled(engine, NAMES[:2])
    config, week = configure(*NAMES[:2]), timedelta(days=7)
    pages = (
        lambda conn: overview_page(conn, config, since=week, now=NOW),
        lambda conn: target_page(conn, config, name="t0", since=week, now=NOW),
        lambda conn: open_first_view(conn, IncidentFilter(), limit=50, now=NOW),
    )
    for page in pages:
        assert not [sql for sql in statements(engine, page) if "items.incident_id" in sql]
    with writing(engine) as conn:
        hour = {"starts_at": NOW - HOUR, "ends_at": NOW + HOUR, "created_at": NOW, "comment": "", "author": "x"}
        conn.execute(insert(silences).values(matchers={"group": ["faq"]}, **hour))
    for page in pages:
        assert [sql for sql in statements(engine, page) if "items.incident_id" in sql], "a silence is about a group"
