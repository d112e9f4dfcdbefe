from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import event, func, insert, select, update
from support.samples import NOW

from monitor.database.engine import reading, writing
from monitor.database.tables import items, notifications
from monitor.incidents import members
from monitor.incidents import store as incidents
from monitor.incidents.decide import Action, DecisionReason
from monitor.incidents.evaluate import EvaluationResult, IncidentEvaluator
from monitor.incidents.members import AgeLimits
from monitor.incidents.rulebook import DEFAULT_RULES, GroupBy
from monitor.model import Cause, Evidence, IncidentState, RunStatus, Severity, Snapshot, SyncReport, Team
from monitor.model.schedule import DueTimes
from monitor.notifications.messages import Message, RunFacts
from monitor.runs import store as runs

MINUTE = timedelta(minutes=1)
AGE_LIMITS = AgeLimits(stuck_after=30 * MINUTE, missing_after=15 * MINUTE)
FAILED, MISSING, OUTAGE, SCOPE = Cause.ITEMS_FAILED, Cause.ITEMS_MISSING, Cause.OUTAGE, Cause.WRONG_SCOPE
STUCK, UNREADABLE = Cause.ITEMS_STUCK, Cause.SYNC_LOG_UNREADABLE


class Site:
    """A target's evaluator, with runs a minute apart."""

    def __init__(self, engine):
        self.engine, self.now = engine, NOW
        self.channels = ("oncall",)
        self.asked_to_route = []
        self.evaluator = IncidentEvaluator(
            target="gloo", environment="test", rules=DEFAULT_RULES, age_limits=AGE_LIMITS, route=self._route
        )

    def _route(self, attributes):
        self.asked_to_route.append(attributes)
        return self.channels

    def run(self, *seen, status=RunStatus.COMPLETE, sync_log_empty=False, answered=30, snapshot=None):
        """One run with the given evidence; returns its evaluation."""
        with writing(self.engine) as conn:
            facts = self._finished(conn, status=status, due=30, answered=answered, snapshot=snapshot)
            return self.evaluator.evaluate(
                conn, facts=facts, evidence=seen, now=self.now, sync_log_empty=sync_log_empty
            )

    def monitor_run(self, *, unread=False, status=RunStatus.COMPLETE, tracked=30, answered=30, error=None):
        """One run, evaluated for monitor causes."""
        status = RunStatus.FAILED if unread else status
        read = None if unread else SyncReport(read=tracked, tracked=tracked)
        with writing(self.engine) as conn:
            facts = self._finished(
                conn, status=status, due=0 if unread else tracked, answered=0 if unread else answered
            )
            return self.evaluator.evaluate_monitor(
                conn, facts=replace(facts, error=error), read=read, started_at=self.now, now=self.now
            )

    def _finished(self, conn, *, status, due, answered, snapshot=None):
        self.now += MINUTE
        run_id = runs.start(conn, target="gloo", environment="test", run_key=None, epoch=1, started_at=self.now)
        runs.finish(
            conn, run_id=run_id, status=status, abort_reason=None, owner_cause=None, due=due, answered=answered,
            error=None, finished_at=self.now, snapshot=snapshot,
        )  # fmt: skip
        stored = conn.scalar(select(func.count()).where(items.c.target == "gloo", items.c.state == "unknown"))
        return RunFacts(run_id=run_id, status=status, total=30, unknown=max(30 - answered, stored), answered=answered)

    def put(self, *item_ids, state="failed", **fields):
        """Stores items as a run would."""
        row = {"target": "gloo", "state": state, "first_seen_at": NOW - 60 * MINUTE, **fields}
        with writing(self.engine) as conn:
            conn.execute(insert(items), [{"item_id": item_id, **row} for item_id in item_ids])

    def change(self, *item_ids, **fields):
        with writing(self.engine) as conn:
            conn.execute(update(items).where(items.c.item_id.in_(item_ids)).values(fields))

    @property
    def incidents(self):
        with reading(self.engine) as conn:
            return incidents.list_incidents(conn)

    @property
    def incident(self):
        (only,) = self.incidents
        return only

    @property
    def life(self):
        with reading(self.engine) as conn:
            return [each.kind for each in incidents.events(conn, self.incident.id)]

    @property
    def messages(self):
        with reading(self.engine) as conn:
            rows = conn.execute(select(notifications.c.message, notifications.c.channel).order_by(notifications.c.id))
            return [(msgspec.convert(row.message, Message), row.channel) for row in rows]

    @property
    def kinds(self):
        return [message.kind.value for message, _ in self.messages]

    def members(self, incident_id):
        with reading(self.engine) as conn:
            return [each.item_id for each in members.listing(conn, incident_id=incident_id)]


@pytest.fixture
def site(engine):
    return Site(engine)


def outage(count=3, **fields):
    return Evidence(cause=OUTAGE, count=count, breakdown={"502": count}, **fields)


@contextmanager
def recorded(engine, texts):
    """Keeps the text of each statement."""

    def keep(_conn, _cursor, statement, *_):
        texts.append(statement)

    event.listen(engine, "before_cursor_execute", keep)
    yield
    event.remove(engine, "before_cursor_execute", keep)


def actions(verdict):
    return [(change.decision.cause, change.decision.action) for change in verdict.changes]


def test_a_quiet_run_changes_nothing(site):
    verdict = site.run()
    assert (verdict.evidence, verdict.changes) == ((), ())
    assert site.incidents == []


def test_an_item_incident_opens_at_once_with_its_members_and_one_message(site):
    site.put("b", "a")
    site.put("fine", state="completed")
    verdict = site.run()
    assert actions(verdict) == [(FAILED, Action.OPEN)]
    opened = site.incident
    assert verdict.changes[0].incident == opened
    assert (opened.member_count, opened.peak_count, opened.unnotified_count) == (2, 2, 0)
    assert opened.evidence == Evidence(cause=FAILED, count=2, sample_ids=("a", "b"))
    assert site.members(opened.id) == ["a", "b"]
    assert site.life == ["joined", "opened"]
    ((message, channel),) = site.messages
    assert (message.incident_id, message.cause, channel) == (opened.id, FAILED, "oncall")
    assert "2 " in message.title


def test_a_message_has_the_trend_of_its_cause_up_to_this_run(site):
    for failed in (0, 0, 1):
        site.run(snapshot=Snapshot(completed=30 - failed, failed=failed))
    site.put("a", "b")
    site.put("gone", state="not_found", known_state="completed")
    texts = []
    with recorded(site.engine, texts):
        site.run(snapshot=Snapshot(completed=27, failed=2, not_found=1))
    trends = {message.cause: dict(message.facts).get("trend") for message, _ in site.messages}
    assert trends == {FAILED: "failed 0 ▁▁▅█ 2 over 3 min", MISSING: "not found 0 ▁▁▁█ 1 over 3 min"}
    assert len([text for text in texts if "JOIN snapshots" in text]) == 1, "one statement for all messages of a run"


def test_the_incident_of_one_group_has_no_trend_of_all(site):
    by_group = {**DEFAULT_RULES, FAILED: replace(DEFAULT_RULES[FAILED], by=GroupBy.GROUP)}
    site.evaluator = replace(site.evaluator, rules=by_group)
    site.run(snapshot=Snapshot(completed=30))
    site.put("a", group_name="faq")
    site.run(snapshot=Snapshot(completed=29, failed=1))
    ((message, _),) = site.messages
    assert (message.group, "trend" in dict(message.facts)) == ("faq", False)


def test_evaluating_again_without_changes_sends_nothing(site):
    site.put("a")
    site.run()
    before = (site.messages, site.life, site.members(site.incident.id))
    verdict = site.run()
    assert actions(verdict) == [(FAILED, Action.CONTINUE)]
    assert verdict.evidence == ()
    assert (site.messages, site.life, site.members(site.incident.id)) == before


def test_new_members_are_notified_in_one_update_after_half_an_hour(site):
    site.put("a")
    site.run()
    site.put("b")
    site.run()
    assert (site.incident.unnotified_count, site.incident.member_count) == (1, 2)
    site.put("c")
    site.now += 28 * MINUTE
    assert actions(site.run()) == [(FAILED, Action.UPDATE)]
    assert (site.incident.unnotified_count, site.incident.peak_count) == (0, 3)
    assert site.life == ["joined", "opened", "joined", "joined", "updated"]
    assert site.kinds == ["opened", "updated"]


def test_a_reminder_is_sent_after_a_day(site):
    site.put("a")
    site.run()
    site.now += timedelta(hours=23, minutes=58)
    assert actions(site.run()) == [(FAILED, Action.CONTINUE)]
    assert actions(site.run()) == [(FAILED, Action.REMIND)]
    assert site.life == ["joined", "opened", "reminded"]
    assert site.kinds == ["opened", "reminder"]
    assert site.incident.last_message_at == site.now


def test_it_resolves_when_the_last_member_recovered(site):
    site.put("a", "b")
    site.run()
    site.change("a", state="completed")
    site.run()
    assert (site.incident.state, site.incident.member_count) == (IncidentState.OPEN, 1)
    site.change("b", state="pending")
    assert actions(site.run()) == [(FAILED, Action.RESOLVE)]
    resolved = site.incident
    assert (resolved.state, resolved.resolved_at, resolved.member_count) == (IncidentState.RESOLVED, site.now, 0)
    assert resolved.peak_count == 2
    assert site.life == ["joined", "opened", "left", "left", "resolved"]
    assert site.kinds == ["opened", "resolved"]


@pytest.mark.parametrize("status", [RunStatus.PARTIAL, RunStatus.ABORTED])
def test_a_run_that_was_cut_short_resolves_an_incident_if_it_answered_for_all_members(site, status):
    site.put("a", "b", "c")
    site.run()
    site.change("a", state="completed")
    site.change("b", removed_at=NOW)
    site.change("c", state="unknown", reason="deadline")
    site.run(status=status)
    assert (site.incident.state, site.members(site.incident.id)) == (IncidentState.OPEN, ["c"])
    site.change("c", state="completed")
    site.run(status=status)
    assert site.incident.state is IncidentState.RESOLVED


def test_an_empty_sync_log_resolves_no_item_incident(site):
    site.put("a", "b")
    site.run()
    site.change("a", state="completed")
    site.change("b", removed_at=NOW)
    site.run(sync_log_empty=True)
    assert site.incident.state is IncidentState.OPEN
    assert site.members(site.incident.id) == ["b"]
    site.run()
    assert site.incident.state is IncidentState.RESOLVED


def test_evidence_soon_after_the_resolution_reopens_the_incident_with_members(site):
    site.put("a")
    site.run()
    site.change("a", state="completed")
    site.run()
    site.change("a", state="failed")
    site.put("b")
    site.now += 10 * MINUTE
    assert actions(site.run()) == [(FAILED, Action.REOPEN)]
    reopened = site.incident
    assert (reopened.state, reopened.resolved_at, reopened.member_count) == (IncidentState.OPEN, None, 2)
    assert site.members(reopened.id) == ["a", "b"]
    assert site.life == ["joined", "opened", "left", "resolved", "joined", "reopened"]
    assert site.kinds == ["opened", "resolved", "opened"]
    assert site.messages[-1][0].title.endswith(": reopened")


def test_evidence_long_after_the_resolution_opens_another_incident(site):
    site.put("a")
    site.run()
    site.change("a", state="completed")
    site.run()
    site.change("a", state="failed")
    site.now += 20 * MINUTE
    assert actions(site.run()) == [(FAILED, Action.OPEN)]
    assert [each.state for each in site.incidents] == [IncidentState.OPEN, IncidentState.RESOLVED]
    assert site.members(site.incidents[0].id) == ["a"]


def test_an_item_in_another_bad_state_moves_to_the_other_incident(site):
    site.put("a")
    site.put("lost", state="not_found")
    site.run()
    site.change("a", state="not_found", seen_at=NOW)
    verdict = site.run()
    assert actions(verdict) == [(FAILED, Action.RESOLVE), (MISSING, Action.CONTINUE)]
    missing = site.incidents[0] if site.incidents[0].cause is MISSING else site.incidents[1]
    assert site.members(missing.id) == ["a", "lost"]
    assert missing.unnotified_count == 1


def test_a_wrong_scope_inhibits_missing_items_from_its_first_evidence_on(site):
    site.put("a", "b", state="not_found")
    wrong_scope = Evidence(cause=SCOPE, count=5)
    verdict = site.run(wrong_scope)
    assert [(piece.cause, piece.inhibited_by) for piece in verdict.evidence] == [(SCOPE, None), (MISSING, SCOPE)]
    assert actions(verdict) == [(SCOPE, Action.OPEN)], "a lone run in the window counts"
    site.run(wrong_scope)
    assert [each.cause for each in site.incidents] == [SCOPE]
    assert site.members(site.incident.id) == []
    verdict = site.run()
    assert actions(verdict) == [(SCOPE, Action.CONTINUE), (MISSING, Action.OPEN)]


def test_items_missing_by_a_wrong_scope_don_t_join_an_open_incident(site):
    site.put("lost", state="not_found")
    site.run()
    site.put("a", "b", state="not_found")
    site.run(Evidence(cause=SCOPE, count=5))
    missing = next(each for each in site.incidents if each.cause is MISSING)
    assert site.members(missing.id) == ["lost"]
    assert missing.evidence == Evidence(cause=MISSING, count=1, sample_ids=("lost",))


def test_inhibited_evidence_is_not_shown_as_the_incident_s_own(site):
    for _ in range(3):
        site.run(Evidence(cause=Cause.FORBIDDEN, count=2, breakdown={"403": 2}))
    verdict = site.run(Evidence(cause=Cause.UNAUTHORIZED, count=9), Evidence(cause=Cause.FORBIDDEN, count=1))
    forbidden = next(each for each in site.incidents if each.cause is Cause.FORBIDDEN)
    assert forbidden.evidence.breakdown == {"403": 2}
    assert forbidden in [change.incident for change in verdict.changes]


def test_a_request_cause_opens_after_its_rule_and_resolves_after_two_clean_runs(site):
    site.run()
    verdicts = [site.run(outage(count)) for count in (3, 50, 4, 5)]
    assert [actions(verdict) for verdict in verdicts] == [[], [], [], [(OUTAGE, Action.OPEN)]]
    opened = site.incident
    assert opened.first_evidence_at == opened.opened_at - 3 * MINUTE
    assert (opened.member_count, opened.peak_count) == (0, 5)
    site.run(outage(80))
    assert (site.incident.peak_count, site.incident.evidence.count) == (80, 80)
    site.run()
    (change,) = site.run().changes
    assert (change.decision.action, change.decision.reason) == (Action.RESOLVE, DecisionReason.CLEAN_RUNS)
    assert site.life == ["opened", "resolved"]


def test_runs_with_too_few_answers_resolve_nothing(site):
    site.put("x", state="completed")
    for _ in range(5):
        site.run(outage())
    for _ in range(4):
        site.run(answered=19)
    assert site.incident.state is IncidentState.OPEN
    site.run(answered=20)
    site.run(answered=20, status=RunStatus.PARTIAL)
    assert site.incident.state is IncidentState.RESOLVED


def test_several_causes_open_several_incidents_highest_ranked_first(site):
    site.put("a")
    verdict = site.run(Evidence(cause=Cause.SPENDING_LIMIT, count=1), Evidence(cause=Cause.RATE_LIMITED, count=2))
    assert [piece.cause for piece in verdict.evidence] == [Cause.SPENDING_LIMIT, Cause.RATE_LIMITED, FAILED]
    assert actions(verdict) == [(Cause.SPENDING_LIMIT, Action.OPEN), (FAILED, Action.OPEN)]


def test_a_sync_log_that_can_t_be_read_is_an_incident_of_the_monitor(site):
    site.monitor_run(unread=False)
    assert site.monitor_run(unread=True).changes == ()
    verdict = site.monitor_run(unread=True)
    assert actions(verdict) == [(UNREADABLE, Action.OPEN)]
    assert verdict.evidence == (Evidence(cause=UNREADABLE, count=1),)
    assert site.incident.team.value == "monitor"
    site.monitor_run(unread=False)
    assert actions(site.monitor_run(unread=False)) == [(UNREADABLE, Action.RESOLVE)]


def test_a_readable_log_resolves_its_incident_while_the_api_is_down(site):
    site.monitor_run(unread=True)
    site.monitor_run(unread=False, answered=0)
    site.monitor_run(unread=False, answered=0)
    assert site.incident.state is IncidentState.RESOLVED


def test_routes_are_asked_once_and_the_resolution_goes_where_the_opening_went(site):
    site.channels = ("oncall", "audit")
    site.put("a")
    site.run()
    assert site.asked_to_route == [
        {
            "team": "pipeline",
            "cause": "items_failed",
            "target": "gloo",
            "group": (),
            "severity": "warning",
            "environment": "test",
        }
    ]
    site.channels = ("elsewhere",)
    site.change("a", state="completed")
    site.run()
    assert [channel for _, channel in site.messages] == ["oncall", "audit", "oncall", "audit"]
    assert len(site.asked_to_route) == 1


def test_an_incident_without_channels_is_recorded_and_sends_nothing(site):
    site.channels = ()
    site.put("a")
    site.run()
    assert site.incident.channels == ()
    assert site.messages == []
    assert site.life == ["joined", "opened"]


def test_an_acknowledged_incident_neither_reopens_nor_reminds(site):
    site.put("a")
    site.run()
    acknowledged = replace(site.incident, state=IncidentState.ACKNOWLEDGED)
    with writing(site.engine) as conn:
        incidents.save(conn, acknowledged)
    site.now += timedelta(days=2)
    assert actions(site.run()) == [(FAILED, Action.CONTINUE)]
    assert site.incident.state is IncidentState.ACKNOWLEDGED
    site.change("a", state="completed")
    site.run()
    assert site.incident.state is IncidentState.RESOLVED


def test_an_item_in_two_bad_states_opens_one_incident(site):
    site.put("a", state="pending", regressed_at=NOW, recognised=False, pending_since=NOW - 60 * MINUTE, stage="NEW")
    site.put("b", state="pending", recognised=False, pending_since=NOW, stage="NEW")
    verdict = site.run()
    assert actions(verdict) == [(Cause.ITEMS_REGRESSED, Action.OPEN), (Cause.UNRECOGNISED_STATUS, Action.OPEN)]
    assert {each.cause: site.members(each.id) for each in site.incidents} == {
        Cause.ITEMS_REGRESSED: ["a"], Cause.UNRECOGNISED_STATUS: ["b"],
    }  # fmt: skip
    assert actions(site.run()) == [(cause, Action.CONTINUE) for cause, _ in actions(verdict)]


def test_an_item_stays_in_the_incident_that_it_joined_until_it_recovers_there(site):
    site.put("a", state="pending", recognised=False, pending_since=NOW, stage="NEW")
    site.run()
    site.now += 60 * MINUTE
    assert actions(site.run()) == [(Cause.UNRECOGNISED_STATUS, Action.CONTINUE)], "it is stuck as well by now"
    site.change("a", recognised=True)
    assert actions(site.run()) == [(STUCK, Action.OPEN), (Cause.UNRECOGNISED_STATUS, Action.RESOLVE)]


def test_a_message_counts_the_statuses_of_all_members(site):
    site.put("a", "b", state="pending", recognised=False, stage="NEW")
    site.run()
    site.put("c", state="pending", recognised=False, stage="NEWER")
    site.now += 40 * MINUTE
    (change,) = site.run().changes
    assert change.decision.action is Action.UPDATE
    assert change.incident.evidence.breakdown == site.incident.evidence.breakdown == {"NEW": 2, "NEWER": 1}
    assert ("statuses", "2 × NEW, 1 × NEWER") in site.messages[-1][0].facts


def deadline(site, *item_ids):
    site.change(*item_ids, state="unknown", reason="deadline")


def test_too_many_unknown_opens_after_two_runs_and_resolves_after_two_clean_ones(site):
    site.put(*(f"i{n:02}" for n in range(30)), state="completed")
    site.monitor_run()
    deadline(site, *(f"i{n:02}" for n in range(7)))
    assert site.monitor_run(status=RunStatus.PARTIAL).changes == ()
    verdict = site.monitor_run(status=RunStatus.PARTIAL)
    assert actions(verdict) == [(Cause.TOO_MANY_UNKNOWN, Action.OPEN)]
    assert site.incident.evidence == Evidence(cause=Cause.TOO_MANY_UNKNOWN, count=7, breakdown={"deadline": 7})
    assert ("evidence", "7 × deadline") in site.messages[0][0].facts
    site.change("i00", state="completed")
    assert actions(site.monitor_run(status=RunStatus.PARTIAL)) == [(Cause.TOO_MANY_UNKNOWN, Action.CONTINUE)]
    site.monitor_run(status=RunStatus.ABORTED)
    assert site.incident.state is IncidentState.OPEN, "an aborted run says nothing about it"
    assert actions(site.monitor_run()) == [(Cause.TOO_MANY_UNKNOWN, Action.RESOLVE)]


def test_items_that_an_outage_left_unknown_are_not_too_many_unknown(site):
    site.put("a", "b", state="unknown", reason="not_asked")
    for _ in range(3):
        assert site.monitor_run(status=RunStatus.ABORTED, answered=0) == EvaluationResult()


def test_an_emptied_sync_log_opens_at_once_and_resolves_when_it_has_ids_again(site):
    site.put("a", state="completed", removed_at=NOW)
    verdict = site.monitor_run(tracked=0, answered=0)
    assert actions(verdict) == [(Cause.SYNC_LOG_EMPTY, Action.OPEN)]
    assert actions(site.monitor_run(tracked=0, answered=0)) == [(Cause.SYNC_LOG_EMPTY, Action.CONTINUE)]
    site.monitor_run(unread=True)
    site.monitor_run(answered=0, status=RunStatus.ABORTED)
    assert site.incidents[-1].state is IncidentState.OPEN
    assert (Cause.SYNC_LOG_EMPTY, Action.RESOLVE) in actions(site.monitor_run(answered=0, status=RunStatus.ABORTED))
    assert site.kinds.count("resolved") == 1


def test_a_sync_log_that_was_never_filled_opens_no_incident(site):
    assert site.monitor_run(tracked=0, answered=0) == EvaluationResult()


def test_an_empty_log_does_not_resolve_an_unreadable_one(site):
    site.monitor_run(unread=True)
    for _ in range(3):
        site.monitor_run(tracked=0, answered=0)
    assert site.incident.cause is UNREADABLE
    assert site.incident.state is IncidentState.OPEN


def test_missed_runs_open_at_once_and_resolve_after_two_runs_on_time(site):
    site.evaluator = replace(site.evaluator, due_times=DueTimes(every=MINUTE))
    assert site.monitor_run() == EvaluationResult()
    site.now += 9 * MINUTE
    verdict = site.monitor_run(unread=True)
    assert (Cause.RUN_MISSED, Action.OPEN) in actions(verdict)
    assert verdict.evidence[-1] == Evidence(cause=Cause.RUN_MISSED, count=9, breakdown={"missed": 9})
    site.now += 2 * MINUTE
    assert (Cause.RUN_MISSED, Action.CONTINUE) in actions(site.monitor_run())
    site.monitor_run()
    assert (Cause.RUN_MISSED, Action.RESOLVE) in actions(site.monitor_run())


def test_runs_are_missed_only_since_the_schedule_is_known(site):
    site.monitor_run()
    site.now += 9 * MINUTE
    site.evaluator = replace(site.evaluator, due_times=DueTimes(every=MINUTE, name="every 1m", daemon_managed=True))
    assert site.monitor_run() == EvaluationResult(), "the first start of a daemon has missed nothing"
    site.now += 9 * MINUTE
    assert (Cause.RUN_MISSED, Action.OPEN) in actions(site.monitor_run())


def test_under_a_changed_schedule_counting_begins_anew(site):
    for every in (timedelta(hours=1), MINUTE):
        site.evaluator = replace(site.evaluator, due_times=DueTimes(every=every, name=f"every {every}"))
        assert site.monitor_run() == EvaluationResult()
        site.now += 30 * MINUTE
    assert (Cause.RUN_MISSED, Action.OPEN) in actions(site.monitor_run())


def test_a_run_by_hand_does_not_reopen_the_incident_for_a_gap_that_is_over(site):
    due = DueTimes(every=MINUTE, name="every 1m", daemon_managed=True)
    site.evaluator = replace(site.evaluator, due_times=due)
    site.monitor_run()
    site.now += 9 * MINUTE
    for _ in range(3):
        site.monitor_run()
    assert site.incident.state is IncidentState.RESOLVED
    site.now += 5 * MINUTE
    site.evaluator = replace(site.evaluator, due_times=replace(due, daemon_managed=False))
    site.monitor_run()
    assert site.incident.state is IncidentState.RESOLVED
    site.now += 5 * MINUTE
    site.evaluator = replace(site.evaluator, due_times=due)
    site.monitor_run()
    assert site.incident.state is IncidentState.OPEN, "the daemon is back after a gap"


def test_without_a_schedule_no_run_is_missed(site):
    site.monitor_run()
    site.now += timedelta(days=400)
    assert site.monitor_run() == EvaluationResult()


def test_a_message_about_an_unreadable_log_has_its_last_error(site):
    site.monitor_run(unread=True, error="sync log pipeline.db does not exist")
    ((message, _),) = site.messages
    assert ("last error", "sync log pipeline.db does not exist") in message.facts
    with reading(site.engine) as conn:
        (opened,) = incidents.events(conn, site.incident.id)
    assert opened.reason.endswith(": sync log pipeline.db does not exist")
    assert opened.data["error"] == "sync log pipeline.db does not exist"


@pytest.mark.parametrize("cause", [Cause.TOO_MANY_UNKNOWN, Cause.SYNC_LOG_EMPTY, Cause.RUN_MISSED])
def test_rules_apply_to_monitor_causes_too(site, cause):
    rule = replace(DEFAULT_RULES[cause], runs=2, of=2, severity=Severity.INFO, team=Team.OPERATIONS)
    due_times = DueTimes(every=MINUTE)
    site.evaluator = replace(site.evaluator, rules={**DEFAULT_RULES, cause: rule}, due_times=due_times)
    site.monitor_run()
    site.put(*"abcdefgh", state="unknown", reason="deadline")
    tracked = 0 if cause is Cause.SYNC_LOG_EMPTY else 1
    for opened in (False, True):
        site.now += 4 * MINUTE
        site.monitor_run(tracked=tracked, status=RunStatus.PARTIAL)
        about = [each for each in site.incidents if each.cause is cause]
        assert bool(about) is opened
    assert (about[0].severity, about[0].team) == (Severity.INFO, Team.OPERATIONS)


def test_the_opening_of_an_outage_sums_the_breakdowns_of_the_runs_that_led_to_it(site):
    site.run()
    site.run(Evidence(cause=OUTAGE, count=5, breakdown={"502": 2, "timeout": 3}), answered=0)
    site.now += 5 * MINUTE
    site.run(Evidence(cause=OUTAGE, count=5, breakdown={"502": 2, "not sent": 4}), answered=0)
    ((message, _),) = site.messages
    assert ("evidence", "4 × 502, 3 × timeout, 4 × not sent") in message.facts
