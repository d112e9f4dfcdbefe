"""Many ids in one request, and a second question where the first settles nothing."""

import asyncio
import json
import time
from dataclasses import dataclass, field

import pytest
from support.fakes import FakeProvider, refused
from support.samples import NOW

from monitor.model import BadBody, Cause, ItemState, ItemStatus
from monitor.model.http import DEADLINE_EXCEEDED, ApiError, CallResult, Meaning, NetworkFault, Reply, Request
from monitor.model.items import TrackedItem
from monitor.providers import FollowUp
from monitor.runs.item_check import ItemCheck
from monitor.runs.progress import NoProgress

COMPLETED = ItemStatus(state=ItemState.COMPLETED, stage="done")


@dataclass
class BatchProvider(FakeProvider):
    batch_size: int = 3

    def batch_request(self, item_ids):
        return Request(method="POST", path="/status", template="/status", body=json.dumps(item_ids).encode())

    def item_request(self, item_id):
        return self.batch_request([item_id])

    def read_batch(self, body, item_ids):
        found = json.loads(body)
        statuses = {"done": COMPLETED, "gone": Meaning.NOT_FOUND, "odd": BadBody(reason="odd")}
        return {item_id: statuses[found.get(item_id, "gone")] for item_id in item_ids}


@dataclass
class BatchClient:
    """Answers with the status of each id; `refuses`: the whole request, if one of these ids is in it."""

    statuses: dict
    refuses: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    repeats: list = field(default_factory=list)
    attempts_allowed: list = field(default_factory=list)
    tripped: bool = False

    async def send(self, request, *, deadline_s, is_repeat=False, max_attempts=None, is_sample=True):
        ids = json.loads(request.body)
        (self.repeats if is_repeat else self.asked).append(ids)
        self.attempts_allowed.append(max_attempts)
        await asyncio.sleep(0)
        for item_id in ids:
            if item_id in self.refuses and not (is_repeat and self.refuses[item_id].error.status == 503):
                return self.refuses[item_id]
        body = json.dumps({item_id: self.statuses[item_id] for item_id in ids if item_id in self.statuses})
        return CallResult(reply=Reply(status=200, headers={}, body=body.encode()), latency_ms=1.0)


def tracked(*ids, **more):
    return [TrackedItem(item_id=item_id, first_seen_at=NOW, **more) for item_id in ids]


async def check(provider, client, *pages, concurrency=1):
    stored = {}
    one = ItemCheck(
        provider=provider,
        client=client,
        record=lambda changes: stored.update((change.item_id, dict(change.changed)) for change in changes),
        concurrency=concurrency,
        deadline_s=time.monotonic() + 60,
        interrupt=asyncio.Event(),
        progress=NoProgress(),
        utcnow=lambda: NOW,
    )
    async with asyncio.timeout(30):
        return await one.run(iter(pages)), stored


def states(stored):
    return {item_id: row["state"].value for item_id, row in sorted(stored.items())}


async def test_ids_are_asked_about_together_and_each_gets_its_own_outcome():
    client = BatchClient({"a": "done", "b": "odd", "d": "done"})
    report, stored = await check(BatchProvider(), client, tracked("a", "b", "c", "d"))
    assert client.asked == [["a", "b", "c"], ["d"]]
    assert states(stored) == {"a": "completed", "b": "unknown", "c": "not_found", "d": "completed"}
    assert (report.asked, report.requests, report.tally.answered) == (4, 2, 3)


@dataclass
class ByQuery(BatchProvider):
    batch_size: int = 4

    def batch_request(self, item_ids):
        path = f"/status?ids={'.'.join(each * 2500 for each in item_ids)}"
        return Request(method="GET", path=path, template="/status", body=json.dumps(item_ids).encode())


async def test_ids_that_are_too_long_for_one_url_are_asked_about_in_smaller_batches():
    client = BatchClient(dict.fromkeys("abcd", "done"))
    _, stored = await check(ByQuery(), client, tracked("a", "b", "c", "d"))
    assert client.asked == [["a", "b"], ["c", "d"]]
    assert set(states(stored).values()) == {"completed"}


async def test_malformed_ids_are_not_sent_with_others():
    client = BatchClient({"a": "done", "b": "done"})
    _, stored = await check(BatchProvider(), client, tracked("a", "bad", "b"))
    assert client.asked == [["a", "b"]]
    assert states(stored) == {"a": "completed", "b": "completed", "bad": "invalid"}


@pytest.mark.parametrize(("status", "state"), [(400, "invalid"), (422, "invalid"), (404, "not_found")])
async def test_a_refusal_of_several_ids_is_settled_one_by_one(status, state):
    client = BatchClient({"a": "done", "c": "done"}, {"b": refused(status)})
    _, stored = await check(BatchProvider(), client, tracked("a", "b", "c"))
    assert client.asked == [["a", "b", "c"], ["a"], ["b"], ["c"]]
    assert states(stored) == {"a": "completed", "b": state, "c": "completed"}


async def test_a_failure_of_the_service_is_every_ids_and_each_is_asked_again_by_itself():
    client = BatchClient({"a": "done", "b": "done"}, {"b": refused(503)})
    _, stored = await check(BatchProvider(), client, tracked("a", "b"))
    assert (client.asked, client.repeats) == ([["a", "b"]], [["a"], ["b"]])
    assert states(stored) == {"a": "completed", "b": "completed"}


async def test_an_item_with_a_trouble_of_its_own_is_asked_about_alone_with_fewer_attempts():
    client = BatchClient({"a": "done", "b": "done"}, {"own": refused(500)})
    page = [*tracked("a", "b"), *tracked("own", unverified_runs=2), *tracked("other", unverified_runs=1)]
    _, stored = await check(BatchProvider(), client, page)
    assert client.asked == [["a", "b"], ["own"], ["other"]]
    assert client.attempts_allowed == [None, 1, 2]
    assert stored["own"]["state"] is ItemState.UNKNOWN


async def test_the_deadline_leaves_a_whole_batch_unasked():
    client = BatchClient({}, {"a": refused(None, code=DEADLINE_EXCEEDED)})
    report, stored = await check(BatchProvider(), client, tracked("a", "b"), tracked("c"))
    assert (stored, report.asked, report.cut_short_by.value) == ({}, 0, "deadline")


@dataclass
class TwoQuestions(FakeProvider):
    def read_item(self, body, item_id):
        if body != b"success":
            return super().read_item(body, item_id)
        return FollowUp(request=Request(method="GET", path=f"/result/{item_id}", template="/result/{item_id}"))

    def read_follow_up(self, body, item_id):
        return super().read_item(body, item_id)


class TwoAnswers:
    def __init__(self, first, second):
        self.answers, self.asked, self.tripped = {"items": first, "result": second}, [], False

    async def send(self, request, **_):
        self.asked.append(request.path)
        return self.answers[request.path.split("/")[1]]


def said(body):
    return CallResult(reply=Reply(status=200, headers={}, body=body), latency_ms=1.0)


SECOND = {
    "failed": (said(b"failed"), "failed", None),
    "completed": (said(b"completed"), "completed", None),
    "unreadable": (said(b"garbage"), "unknown", Cause.BAD_RESPONSE),
    "gone, though the first question knew it": (refused(404), "unknown", Cause.BAD_RESPONSE),
    "down": (refused(503), "unknown", Cause.OUTAGE),
    "no answer": (CallResult(error=ApiError(status=None, network=NetworkFault.TIMEOUT)), "unknown", Cause.OUTAGE),
}


@pytest.mark.parametrize(("second", "state", "reason"), SECOND.values(), ids=SECOND)
async def test_the_second_answer_decides(second, state, reason):
    client = TwoAnswers(said(b"success"), second)
    report, stored = await check(TwoQuestions(), client, tracked("a"))
    assert client.asked[:2] == ["/items/a", "/result/a"]
    assert (stored["a"]["state"].value, stored["a"].get("reason")) == (state, reason)
    assert report.requests == len(client.asked)


async def test_there_is_no_second_question_where_the_first_settles_the_state():
    client = TwoAnswers(said(b"pending"), said(b"failed"))
    _, stored = await check(TwoQuestions(), client, tracked("a"))
    assert (client.asked, stored["a"]["state"]) == (["/items/a"], ItemState.PENDING)
