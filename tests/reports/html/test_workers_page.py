"""The page of workers, rendered from a view."""

from dataclasses import replace

from reports.html.documents import page
from reports.test_fleet import BUSY, DEAD, IDLE, NOW, RUN, SECONDS, view, wait

from monitor.fleet.waiting import WaitReason
from monitor.reports.fleet import fleet_verdict

HOSTILE = "<script>alert('x')</script>\u202e"


def workers_html(shown):
    return page("workers.html", NOW, view=shown, verdict=fleet_verdict(shown))


def test_the_page_says_who_does_what():
    found = workers_html(view(waits=5 * SECONDS, waiting=7))
    order = [
        found.text.index(part) for part in ("2 workers, of which 1 is busy", "Who does what", "Runs in shares", "Queue")
    ]
    assert order == sorted(order)
    for said in ("a:7 busy 4 s ago share 3 of run 17 of gloo", "worker 2 idle 29 s ago –", "b:9 not seen 30 s ago"):
        assert said in found.text
    assert "gloo 17 1 waiting, 1 running, 2 done 45000 of 80000 (56.2%) 2 min" in found.text
    assert "share of a run71" in found.text
    assert "The oldest job has waited for 5 s." in found.text
    assert "/targets/gloo" in found.links()


def test_a_job_that_waits_has_its_reason():
    waits = (wait(WaitReason.SLOTS_USED), wait(WaitReason.LATER, due_at=NOW + 4 * SECONDS))
    found = workers_html(replace(view(waits=90 * SECONDS, waiting=7), waits=waits)).text
    assert "Jobs that wait (the next 2 of 7)" in found
    assert "share 3 of run 17 of gloo 1 min 30 s all workers are busy; shares in progress (3)" in found
    assert "share 3 of run 17 of gloo – an attempt could not do it" in found
    assert "Jobs that wait" not in workers_html(view()).text


def test_without_workers_and_runs_it_says_how_to_start_one():
    found = workers_html(view(workers=(), runs=())).text
    assert "ingestion-monitor worker starts one" in found
    assert "No run is in shares now." in found


def test_no_name_becomes_markup():
    shown = view(workers=[replace(BUSY, name=HOSTILE), IDLE, DEAD], runs=[replace(RUN, target=HOSTILE)])
    held = wait(WaitReason.LEASE_HELD, lease_holder=HOSTILE)
    found = workers_html(replace(shown, waits=(held,)))
    assert found.tags.count("script") == 1  # our own
    assert "<script>alert('x')</script>\\u202e busy" in found.text
