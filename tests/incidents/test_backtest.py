"""A stored history, replayed by the rules that made it, gives the incidents and messages that are stored: random nights
are evaluated by the product's own code, with people, silences and deliveries in between.
"""

from collections import Counter
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update
from support.samples import NOW
from support.scale import THOROUGH

from monitor.database.engine import reading, writing
from monitor.database.tables import items, metadata, notifications
from monitor.incidents import acknowledge as handling
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.backtest import backtest
from monitor.incidents.decide import EvidencePoint, OperatorAction
from monitor.incidents.evaluate import IncidentEvaluator
from monitor.incidents.members import AgeLimits
from monitor.incidents.observations import Observation
from monitor.incidents.past import Difference
from monitor.incidents.replay_state import ReplayPlan
from monitor.incidents.rulebook import Override, effective_rules
from monitor.incidents.silence_expiry import SilenceExpiry
from monitor.model import Cause, Evidence, RunStatus, Severity, SyncReport
from monitor.notifications.messages import RunFacts
from monitor.notifications.routing import Route, route
from monitor.runs import store as runs

MINUTE = timedelta(minutes=1)
TARGETS, DOCUMENTS = ("gloo", "docs"), ("a", "b", "c", "d")
GROUPS = dict(zip(DOCUMENTS, ("faq", "faq", "news", None), strict=True))
AGE_LIMITS = AgeLimits(stuck_after=30 * MINUTE, missing_after=15 * MINUTE)
CHANNELS = ("oncall", "audit")
ROUTES = (Route(match={"severity": ("critical",)}, channels=("oncall",), continue_=True), Route(channels=("audit",)))
COMPLETE, PARTIAL, ABORTED = RunStatus.COMPLETE, RunStatus.PARTIAL, RunStatus.ABORTED
FAILED, CRASHED = RunStatus.FAILED, RunStatus.CRASHED
RULE_SETS = {
    "built in": (),
    "quick reminders": tuple(
        Override(cause=cause, changes={"repeat_interval": 20 * MINUTE}, source="rules[0]")
        for cause in (Cause.UNAUTHORIZED, Cause.OUTAGE, Cause.ITEMS_FAILED, Cause.ITEMS_STUCK, Cause.SLO_BURN)
    ),
    "other counts": (
        Override(cause=Cause.OUTAGE, changes={"runs": 3, "of": 4, "window": 90 * MINUTE}, source="rules[0]"),
        Override(cause=Cause.UNAUTHORIZED, changes={"runs": 1, "of": 1, "resolve_after": 1}, source="rules[1]"),
        Override(cause=Cause.ITEMS_FAILED, changes={"runs": 2, "of": 3}, source="rules[2]"),
        Override(cause=Cause.RATE_LIMITED, changes={"window": 12 * MINUTE, "hold_for": 6 * MINUTE}, source="rules[3]"),
    ),
    "by group": (Override(cause=Cause.ITEMS_FAILED, changes={"by": "group"}, source="rules[0]"),),
}


def evidence(*causes):
    return tuple(Evidence(cause=cause, count=3, breakdown={"x": 3}) for cause in causes)


SEEN = (
    evidence(),
    evidence(),
    evidence(Cause.UNAUTHORIZED),
    evidence(Cause.OUTAGE),
    evidence(Cause.UNAUTHORIZED, Cause.FORBIDDEN),
    evidence(Cause.WRONG_SCOPE, Cause.OUTAGE),
    evidence(Cause.RATE_LIMITED),
)
STATES = ("completed", "failed", "failed", "not_found", "pending", "unknown")


class Objective:
    """A source that says what it is told: whether an objective burns its budget."""

    def __init__(self):
        self.burns = False

    def observe(self, conn, *, target, rules, now):
        point = EvidencePoint(run_id=0, at=now, evidence=self.burns)
        piece = Evidence(cause=Cause.SLO_BURN, group="fast", count=1) if self.burns else None
        severity = Severity.CRITICAL if self.burns else None
        return [Observation(cause=Cause.SLO_BURN, group="fast", points=(point,), evidence=piece, severity=severity)]


class Site:
    """Two targets in one database, their clock, people and deliveries."""

    def __init__(self, engine, rules="built in"):
        self.engine, self.now, self.objective = engine, NOW, Objective()
        self.rules = {name: {c: r.rule for c, r in effective_rules(RULE_SETS[rules], name).items()} for name in TARGETS}
        self.expiry = SilenceExpiry(environment="test", route=self.route, channel_router=lambda _: self.route)
        with writing(engine) as conn:
            for name in TARGETS:
                row = {"target": name, "state": "completed", "first_seen_at": NOW - 60 * MINUTE}
                rows = [{**row, "item_id": f"{name}-{each}", "group_name": GROUPS[each]} for each in DOCUMENTS]
                conn.execute(insert(items), rows)

    @staticmethod
    def route(attributes):
        return route(attributes, ROUTES, CHANNELS)

    def evaluator(self, target):
        return IncidentEvaluator(
            target=target, environment="test", rules=self.rules[target], age_limits=AGE_LIMITS, route=self.route,
            sources=[self.objective],
        )  # fmt: skip

    def run(self, target, *, status=COMPLETE, seen=(), states=(), answered=30, empty=False, due=30, burns=False):
        """One run; `states` are those of its documents."""
        evaluator = self.evaluator(target)
        crashed, read = status is CRASHED, SyncReport(read=30, tracked=0 if empty else 30)
        with writing(self.engine) as conn:
            run_id = runs.start(conn, target=target, environment="test", run_key=None, epoch=1, started_at=self.now)
            if not crashed and status is not FAILED:
                self._set(conn, target, states)
            runs.finish(
                conn, run_id=run_id, status=status, abort_reason="run_crashing" if crashed else None, owner_cause=None,
                due=due, answered=answered, accepted=answered, error=None, finished_at=self.now, snapshot=None,
            )  # fmt: skip
            facts = RunFacts(
                run_id=run_id, status=status, total=30, unknown=30 - answered, answered=answered, accepted=answered
            )
            if crashed:
                evaluator.evaluate_crash(conn, facts=facts, now=self.now)
                return
            if status is not FAILED:
                evaluator.evaluate(conn, facts=facts, evidence=seen, now=self.now, sync_log_empty=empty)
            self.objective.burns = burns
            evaluator.evaluate_observations(conn, facts=facts, now=self.now, inhibitors=seen)
            evaluator.evaluate_monitor(
                conn, facts=facts, read=None if status is FAILED else read, started_at=self.now, now=self.now,
                inhibitors=seen,
            )  # fmt: skip

    def _set(self, conn, target, states):
        for document, state in zip(DOCUMENTS, states, strict=False):
            mine = (items.c.target == target, items.c.item_id == f"{target}-{document}")
            values = {"state": state, "seen_at": NOW}
            values |= {"pending_since": self.now - 40 * MINUTE} if state == "pending" else {"pending_since": None}
            conn.execute(update(items).where(*mine).values(values))

    def deliver(self):
        with writing(self.engine) as conn:
            self.expiry.notify_expired(conn, now=self.now)

    def silence(self, cause, minutes):
        with writing(self.engine) as conn:
            silence_store.add(
                conn, matchers={"cause": (cause,)}, starts_at=self.now, ends_at=self.now + minutes * MINUTE, comment="",
                author="ana", now=self.now,
            )  # fmt: skip

    def act(self, number, action):
        """Somebody acknowledges or resolves one of the open incidents."""
        with writing(self.engine) as conn:
            found = incident_store.list_incidents(conn, open_only=True)
            if found:
                chosen = found[number % len(found)]
                action(conn, chosen.id, operator_action=OperatorAction(by="ana"), now=self.now)

    def replay(self, since=NOW - 60 * MINUTE, rules=None, routes=None):
        with reading(self.engine) as conn:
            silences = silence_store.list_silences(conn)
            plans = [
                ReplayPlan(
                    target=name, environment="test", rules=rules or self.rules[name], silences=silences,
                    route=self.route if routes is None else lambda found: route(found, routes, CHANNELS),
                )
                for name in TARGETS
            ]  # fmt: skip
            return backtest(conn, plans, since=since, until=self.now)

    def sent(self):
        with reading(self.engine) as conn:
            rows = conn.execute(select(notifications)).all()
        return Counter((row.incident_id, row.created_at, row.kind, row.channel) for row in rows)


RUN = st.fixed_dictionaries(
    {
        "target": st.sampled_from(TARGETS),
        "status": st.sampled_from([COMPLETE] * 5 + [PARTIAL, ABORTED, FAILED, CRASHED]),
        "seen": st.sampled_from(SEEN),
        "states": st.lists(st.sampled_from(STATES), max_size=4),
        "answered": st.sampled_from([30, 30, 3, 0]),
        "empty": st.sampled_from([False] * 9 + [True]),
        "due": st.sampled_from([30, 30, 0]),
        "burns": st.sampled_from([False, False, True]),
    }
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), RUN),
        st.tuples(st.just("run"), RUN),
        st.tuples(st.just("runs"), RUN),
        st.tuples(st.just("deliver"), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([1, 40, 300, 2000])),
        st.tuples(st.just("silence"), st.tuples(st.sampled_from(["*", "outage", "items_*"]), st.integers(5, 90))),
        st.tuples(st.just("ack"), st.integers(0, 5)),
        st.tuples(st.just("resolve"), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=40,
)


def play(site, steps):
    """Plays a night; the moments after each step."""
    for kind, value in steps:
        site.now += 10 * timedelta(seconds=1)
        match kind:
            case "run" | "runs":
                for _ in range(1 if kind == "run" else 5):
                    site.now += 5 * MINUTE
                    given_ = dict(value)
                    site.run(given_.pop("target"), **given_)
            case "deliver":
                site.deliver()
            case "wait":
                site.now += value * MINUTE
            case "silence":
                site.silence(*value)
            case "ack":
                site.act(value, handling.acknowledge)
            case "resolve":
                site.act(value, handling.resolve)
        yield site.now


def empty(engine):
    with writing(engine) as conn:
        for table in reversed(metadata.sorted_tables):
            conn.execute(table.delete())


def check_equal(site, since):
    result = site.replay(since)
    different = [each for each in result.incidents if each.difference is not Difference.SAME]
    assert not different
    assert result.unmatched == 0
    return result


def messages(result):
    """Of the replay, with the ids of the recorded incidents."""
    return Counter(
        (pair.actual.id, message.at, message.kind.value, channel)
        for pair in result.incidents
        for message in pair.replayed.messages
        for channel in message.channels
    )


def check_night(engine, rules, steps, part):
    empty(engine)
    site = Site(engine, rules)
    moments = list(play(site, steps))
    whole = check_equal(site, NOW - 60 * MINUTE)
    assert messages(whole) == site.sent(), "what would have been sent is what was put into the outbox"
    check_equal(site, moments[part % len(moments)])


LAW = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
NIGHT = {"rules": st.sampled_from(sorted(RULE_SETS)), "steps": STEPS, "part": st.integers(0, 50)}


@given(**NIGHT)
@settings(max_examples=250 if THOROUGH else 6, **LAW)
def test_the_same_rules_give_what_happened(engine, rules, steps, part):
    check_night(engine, rules, steps, part)


def incidents(result, side, causes=None):
    found = [getattr(pair, side) for pair in result.incidents if getattr(pair, side) is not None]
    return sorted(
        (each for each in found if causes is None or each.cause in causes),
        key=lambda each: (each.opened_at, each.target, each.cause, each.group),
    )


PLAIN = [name for name in sorted(RULE_SETS) if name != "by group"]
SURE = st.fixed_dictionaries(
    {
        "target": st.sampled_from(TARGETS),
        "status": st.sampled_from([COMPLETE] * 5 + [PARTIAL, ABORTED, FAILED, CRASHED]),
        "seen": st.sampled_from(SEEN),
        "states": st.lists(st.sampled_from([each for each in STATES if each != "unknown"]), max_size=4),
    }
)
"""Runs in which every item was seen."""


@given(
    then=st.sampled_from(PLAIN),
    candidate=st.sampled_from(PLAIN),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("run"), SURE),
            st.tuples(st.just("runs"), SURE),
            st.tuples(st.just("wait"), st.sampled_from([1, 40, 300])),
        ),
        min_size=1,
        max_size=30,
    ),
)
@settings(max_examples=120 if THOROUGH else 5, **LAW)
def test_other_rules_give_what_they_would_have_given(engine, then, candidate, steps):
    """The same night, once under each set of rules: the replay of the first by the second is the second."""
    empty(engine)
    site = Site(engine, candidate)
    list(play(site, steps))
    expected = incidents(site.replay(), "actual")
    rules = site.rules["gloo"]
    empty(engine)
    other = Site(engine, then)
    list(play(other, steps))
    assert incidents(other.replay(rules=rules), "replayed") == expected
