"""The cause `indexing_slow`: when uploads are late, and what a run at its end says about them."""

from dataclasses import replace
from datetime import timedelta

import pytest
from incidents.test_evaluate import Site, actions
from sqlalchemy import insert

from monitor.database.engine import writing
from monitor.database.tables import items
from monitor.incidents.decide import Action
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.incidents.slow_indexing import SlowIndexing, are_late
from monitor.model import Cause, Evidence, RunStatus
from monitor.model.items import FirstCompletion
from monitor.rollups.indexing import Watch
from monitor.rollups.indexing_store import count_completions

SLOW = Cause.INDEXING_SLOW
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("late", "due", "said"),
    [(0, 0, False), (1, 1, False), (2, 2, True), (2, 39, True), (2, 40, False), (50, 1000, False), (51, 1000, True)],
)
def test_uploads_are_late_if_their_p95_is_over_the_threshold_and_they_are_at_least_two(late, due, said):
    assert are_late(late, due) is said


class UploadSite(Site):
    """A target with a threshold of 15 minutes."""

    def __init__(self, engine, slow_after=15 * MINUTE):
        super().__init__(engine)
        self.evaluator = replace(self.evaluator, sources=(SlowIndexing(slow_after=slow_after),))

    def upload(self, count, *, took):
        """Uploads that are completed by now."""
        found = [
            FirstCompletion(item_id=f"{self.now}{n}", group=None, uploaded_at=self.now - took * MINUTE,
                            upload_known=True, not_completed_at=self.now - MINUTE, at=self.now)
            for n in range(count)
        ]  # fmt: skip
        with writing(self.engine) as conn:
            count_completions(conn, target="gloo", completions=found, watch=Watch())

    def wait_for(self, count, *, known, for_):
        """Uploads that are not completed."""
        values = {"target": "gloo", "state": known or "unknown", "known_state": known}
        at = self.now - for_ * MINUTE
        with writing(self.engine) as conn:
            rows = [{**values, "item_id": f"{known}-{n}", "first_seen_at": at} for n in range(count)]
            conn.execute(insert(items), rows)

    def look(self, *, status=RunStatus.COMPLETE, inhibitors=()):
        with writing(self.engine) as conn:
            facts = self._finished(conn, status=status, due=30, answered=30)
            return self.evaluator.evaluate_observations(conn, facts=facts, now=self.now, inhibitors=inhibitors)


@pytest.fixture
def site(engine):
    return UploadSite(engine)


def test_it_opens_at_once_and_resolves_after_two_clean_runs(site):
    site.upload(8, took=5)
    assert actions(site.look()) == []
    site.upload(2, took=16)
    verdict = site.look()
    assert actions(verdict) == [(SLOW, Action.OPEN)]
    assert (verdict.evidence[0].count, verdict.evidence[0].breakdown) == (2, {"over 15m": 2, "within 15m": 8})
    site.upload(40, took=1)
    assert actions(site.look()) == [(SLOW, Action.CONTINUE)]
    assert actions(site.look()) == [(SLOW, Action.RESOLVE)]


@pytest.mark.parametrize(
    ("known", "for_", "opens"),
    [("pending", 20, True), (None, 20, True), ("not_found", 20, True), ("pending", 9, False), ("failed", 20, False)],
)
def test_what_is_not_completed_yet_is_late_once_it_is_old_enough(site, known, for_, opens):
    site.wait_for(3, known=known, for_=for_)
    assert actions(site.look()) == [(SLOW, Action.OPEN)] * opens


def test_only_the_uploads_of_the_window_count(site):
    site.wait_for(9, known="pending", for_=200)
    assert actions(site.look()) == []


def test_a_rule_may_need_several_runs(site):
    rules = {**DEFAULT_RULES, SLOW: replace(DEFAULT_RULES[SLOW], runs=2, of=3)}
    site.evaluator = replace(site.evaluator, rules=rules)
    site.upload(2, took=16)
    assert actions(site.look()) == []
    assert actions(site.look()) == [(SLOW, Action.OPEN)]


def test_an_outage_explains_it(site):
    site.upload(2, took=16)
    assert actions(site.look(inhibitors=[Evidence(cause=Cause.OUTAGE, count=9)])) == []


def test_a_run_that_could_not_read_its_log_says_nothing(site):
    site.upload(2, took=16)
    assert actions(site.look()) == [(SLOW, Action.OPEN)]
    assert actions(site.look(status=RunStatus.FAILED)) == [(SLOW, Action.CONTINUE)]


def test_without_the_setting_nothing_is_slow(engine):
    site = UploadSite(engine, slow_after=None)
    site.upload(9, took=600)
    assert actions(site.look()) == []
