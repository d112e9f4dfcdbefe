"""The page of workers, rendered from a view."""

from dataclasses import replace

from reports.html.documents import page
from reports.test_fleet import BUSY, DEAD, IDLE, NOW, RUN, SECONDS, view

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
    assert "The oldest job waits for 5 s." in found.text
    assert "/targets/gloo" in found.links()


def test_without_workers_and_runs_it_says_how_to_start_one():
    found = workers_html(view(workers=(), runs=())).text
    assert "ingestion-monitor worker starts one" in found
    assert "No run is in shares now." in found


def test_no_name_becomes_markup():
    shown = view(workers=[replace(BUSY, name=HOSTILE), IDLE, DEAD], runs=[replace(RUN, target=HOSTILE)])
    found = workers_html(shown)
    assert found.tags.count("script") == 1  # our own
    assert "<script>alert('x')</script>\\u202e busy" in found.text
