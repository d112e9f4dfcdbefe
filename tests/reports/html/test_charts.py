"""Charts say the same in their sentence, figure, table and drawing."""

from dataclasses import replace
from datetime import timedelta

import pytest
from incidents.test_slo import DAY, MINUTE, objective
from reports.html.documents import drawings
from reports.html.objectives import slo
from reports.overviews import BOUNDS, NOW, SAMPLE, facts, indexing, row, times

from monitor.model import ItemState, RunStatus
from monitor.reports.html import charts
from monitor.reports.indexing import GroupTimes
from monitor.reports.overview import target_overview
from monitor.reports.slos import SloRow
from monitor.reports.trends import ReasonCount, StageCount

SPANS = len(BOUNDS) - 1


def samples(*rows):
    """The last spans have these rows; the ones before are gaps."""
    return (None,) * (SPANS - len(rows)) + tuple(
        each and replace(each, started_at=BOUNDS[SPANS - len(rows) + n]) for n, each in enumerate(rows)
    )


def overview_of(**fields):
    return target_overview(facts(**fields), now=NOW)


def clock(sample):
    return f"{sample.started_at:%Y-%m-%d %H:%M:%S} UTC"


def test_a_target_without_any_run_has_no_charts():
    assert charts.target_charts(overview_of(last_run=None, snapshot=None), BOUNDS, now=NOW) == []


def test_each_chart_has_a_title_a_sentence_and_a_table_with_full_rows():
    found = charts.target_charts(SAMPLE.targets[0], BOUNDS, now=NOW)
    assert [chart.name for chart in found] == ["completed", "states", "indexing", "stages", "requests", "latency"]
    for chart in found:
        assert chart.title
        assert chart.sentence.endswith(".")
        assert {len(cells) for cells in chart.table.rows} == {len(chart.table.heading)}
        assert drawings(chart.svg)


def test_the_values_of_the_completed_share_are_those_of_the_trend():
    target = SAMPLE.targets[0]
    chart = charts.completed_chart(target.facts.samples, BOUNDS)
    (line,) = [line for line in target.trend if line.metric.value == "completed_share"]
    (trace,) = chart.figure["data"]
    assert tuple(trace["y"]) == line.values
    counted = [each for each in target.facts.samples if each is not None]
    assert [cells[1:3] for cells in chart.table.rows] == [
        (each.snapshot.total, each.snapshot.completed) for each in counted
    ]


HEALTHY = row()


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        pytest.param((HEALTHY, HEALTHY), "Completed is steady at 100%.", id="steady"),
        pytest.param(
            (row(failed=20), row(failed=290)), "Completed fell from 98% to 71% since {1}; 290 items failed.", id="falls"
        ),
        pytest.param((row(pending=500), row(pending=10)), "Completed rose from 50% to 99% since {0}.", id="rises"),
        pytest.param(
            (HEALTHY, row(unknown=900), HEALTHY), "Completed was down to 10% at {1} and is back at 100%.", id="recovers"
        ),
        pytest.param(
            (HEALTHY, row(failed=1), row(failed=1)), "Completed is steady at 99.9%; 1 item failed.", id="hardly moves"
        ),
    ],
)
def test_the_sentence_says_how_the_completed_share_moved(rows, sentence):
    found = samples(*rows)
    shown = [clock(each) for each in found[-len(rows) :]]
    assert charts.completed_chart(found, BOUNDS).sentence.striptags() == sentence.format(*shown)


def test_a_target_without_items_has_no_completed_share():
    assert charts.completed_chart(samples(row(total=0)), BOUNDS) is None
    assert charts.states_chart(samples(row(total=0)), BOUNDS).sentence == "No item is tracked."


def test_the_layers_are_the_items_that_are_not_completed_with_stuck_ones_apart():
    found = samples(None, row(pending=12, stuck=5, failed=2, unknown=1))
    chart = charts.states_chart(found, BOUNDS)
    layers = {trace["role"]: trace["y"][-1] for trace in chart.figure["data"]}
    assert layers == {"failed": 2, "stuck": 5, "pending": 7, "unknown": 1}
    assert [entry.role for entry in chart.legend] == list(layers)
    assert chart.sentence == ("15 of 1000 items are not completed: 12 pending, 2 failed, 1 unknown, 5 of them stuck.")
    cells = dict(zip(chart.table.heading, chart.table.rows[0], strict=True))
    assert {state: cells[state.label.capitalize()] for state in ItemState} == found[-1].snapshot.states
    assert (cells["Items"], cells["Stuck, of the pending"], cells["Last run"]) == (1000, 5, "complete")


def test_a_peak_that_has_passed_is_named():
    found = samples(row(unknown=600), HEALTHY)
    sentence = charts.states_chart(found, BOUNDS).sentence.striptags()
    assert sentence == f"All 1000 items are completed. At most 600 were not, at {clock(found[-2])}."


def test_spans_whose_runs_were_cut_short_are_marked():
    cut = replace(row(unknown=400), status=RunStatus.PARTIAL)
    chart = charts.states_chart(samples(HEALTHY, cut, HEALTHY), BOUNDS)
    marks = chart.figure["data"][-1]
    assert (marks["role"], len(marks["x"])) == ("cut-short", 1)
    assert marks["x"][0] < BOUNDS[-1].isoformat()
    assert "fill-cut-short" in chart.svg
    assert chart.legend[-1].name == "run cut short"


@pytest.mark.parametrize(("failed", "step"), [(1, 1), (4, 1), (5, None)])
def test_a_low_scale_counts_whole_items(failed, step):
    found = charts.states_chart(samples(row(completed=10, failed=failed)), BOUNDS)
    assert found.figure["layout"]["yaxis"].get("dtick") == step


def test_runs_that_stored_nothing_are_counted_and_marked():
    endings = ({},) * (SPANS - 2) + ({RunStatus.FAILED: 2, RunStatus.CRASHED: 1}, {})
    chart = charts.states_chart(samples(None, None), BOUNDS, endings)
    assert chart.sentence == "No run stored results in this period. 3 runs did not complete."
    assert len(chart.figure["data"][-1]["x"]) == 1


def test_the_times_to_indexed_are_those_of_the_spans():
    spans = (times({}),) * (SPANS - 1) + (times({2: 90, 20: 10}),)
    target = overview_of(
        indexing=indexing([GroupTimes(name=None, times=times({2: 90, 20: 10}, waiting=3))], spans=spans)
    )
    chart = charts.indexing_chart(target, BOUNDS)
    half, most = spans[-1].quantile_s(0.5), spans[-1].quantile_s(0.95)
    assert chart.table.rows[-1][2:] == (100, round(half, 1), round(most, 1))
    lines = {trace["role"]: trace["y"][-1] for trace in chart.figure["data"]}
    assert lines == {"p50": round(half / 60, 3), "p95": round(most / 60, 3)}
    assert chart.sentence == "Half of 100 uploads were indexed within 2 min, 95% within 21 min; 3 not indexed yet."
    assert charts.indexing_chart(overview_of(), BOUNDS) is None


def test_the_band_between_two_lines_ends_where_they_have_gaps():
    known = row(latency_p50_ms=10.0, latency_p95_ms=20.0)
    chart = charts.latency_chart(overview_of(samples=samples(known, known, None, known, known, known)), BOUNDS)
    bands = [trace for trace in chart.figure["data"] if trace["role"] == "band"]
    assert [len(band["x"]) for band in bands] == [4, 6]
    assert chart.sentence == "95% of the requests take at most 20 ms, as in the whole period."


def test_stages_have_the_age_of_their_oldest_pending_item():
    stages = (
        StageCount(state=ItemState.COMPLETED, stage="DONE", items=90),
        StageCount(state=ItemState.PENDING, stage="CHUNKING", items=9),
        StageCount(state=ItemState.PENDING, stage=None, items=1),
    )
    since = NOW - timedelta(hours=5)
    chart = charts.stages_chart(overview_of(stages=stages, stage_count=5, stage_ages={"CHUNKING": since}), now=NOW)
    assert chart.sentence == ("10 items are in process: 9 of them in the stage CHUNKING. 2 rarer stages are not shown.")
    assert chart.table.rows[1] == ("CHUNKING", "pending", 9, since)
    assert "9 items, the oldest pending for 5 h" in chart.svg
    assert (chart.figure, chart.is_image) == (None, False)


@pytest.mark.parametrize(("items", "sentence"), [
    ([("CHUNKING", 1)], "1 item is in process, in the stage CHUNKING."),
    ([("<b>", 3)], "3 items are in process, all in the stage &lt;b&gt;."),
    ([("CHUNKING", 1), (None, 2)], "3 items are in process: 2 of them without a status."),
])  # fmt: skip
def test_stages_name_the_most_frequent_one(items, sentence):
    stages = tuple(StageCount(state=ItemState.PENDING, stage=stage, items=count) for stage, count in items)
    assert charts.stages_chart(overview_of(stages=stages, stage_count=len(stages)), now=NOW).sentence == sentence


def test_stages_say_if_nothing_is_in_process():
    stages = (StageCount(state=ItemState.COMPLETED, stage="DONE", items=90),)
    assert charts.stages_chart(overview_of(stages=stages, stage_count=1), now=NOW).sentence == "No item is in process."


@pytest.mark.parametrize(
    ("reasons", "count", "sentence"),
    [
        ((("parser_error", 6), (None, 2)), 2, "6 of 8 items failed with the reason parser_error."),
        (((None, 3),), 2, "3 of 3 items failed without a reason from the API. 1 rarer reason is not shown."),
    ],
)
def test_reasons_are_named_with_their_items(reasons, count, sentence):
    known = tuple(ReasonCount(reason=reason, items=items) for reason, items in reasons)
    chart = charts.reasons_chart(overview_of(reasons=known, reason_count=count))
    assert chart.sentence == sentence
    assert chart.table.rows == tuple((reason or "no reason given", items) for reason, items in reasons)


def test_retries_are_a_line_of_their_own():
    found = samples(row(requests=200), row(requests=260, retries=60))
    chart = charts.requests_chart(overview_of(samples=found), BOUNDS)
    assert {trace["role"]: trace["y"][-1] for trace in chart.figure["data"]} == {"plain": 260, "retries": 60}
    assert chart.sentence == "A run sends 260 requests; in this period 200 to 260."
    assert charts.requests_chart(overview_of(samples=samples(row(requests=0))), BOUNDS) is None


def test_the_error_budget_is_that_of_the_objective():
    kept = slo((20 * DAY, 1000, 10))
    target = overview_of(slos=(kept, SloRow(target="gloo", objective=objective(), status=None)))
    chart = charts.budget_chart(target)
    assert chart.sentence.startswith("Objective in 15 minutes: 80% left: 10 uploads late, 50 allowed; spent never")
    assert chart.table.rows[0][3:6] == ("80%", 10, 50)
    assert 'width="80%"' in chart.svg
    burn = charts.burn_chart(target)
    assert burn.sentence.startswith("No objective burns too fast; in 15 minutes burns")
    assert [cells[1] for cells in burn.table.rows] == ["5m", "30m", "1h", "6h", "3d"]


def test_a_budget_that_burns_is_marked_in_every_form():
    target = overview_of(slos=(slo((20 * DAY, 900, 0), (2 * MINUTE, 100, 100)),))
    burn, budget = charts.burn_chart(target), charts.budget_chart(target)
    assert burn.sentence.startswith("Objective in 15 minutes burns too fast: 20×")
    assert "pattern-failed" in burn.svg
    assert "pattern-failed" in budget.svg
    assert (charts.burn_chart(overview_of()), charts.budget_chart(overview_of())) == (None, None)


def test_no_figure_names_a_colour():
    for chart in charts.target_charts(SAMPLE.targets[0], BOUNDS, now=NOW):
        for trace in (chart.figure or {"data": []})["data"]:
            assert trace["role"]
            assert not {"marker", "line", "fillcolor"} & trace.keys()
