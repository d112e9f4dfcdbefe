"""How processes divide the limits of one credential: by weight, and never much more than all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.parts import Claimed, leads, lost_part, next_part

CASES = {
    "alone": (3, 0.0, [], 1.0),
    "alone again, the others have ended": (1, 0.25, [], 1.0),
    "it joins one that has all: a little, until that gives back": (1, 0.0, [(1, 1.0)], 1 / 8),
    "it joins one that has given back": (1, 1 / 32, [(1, 0.5)], 0.5),
    "it gives back for one that joined": (1, 1.0, [(1, 0.125)], 0.5),
    "by weight": (3, 0.5, [(1, 0.2)], 0.75),
    "by weight, as far as it is free": (3, 0.5, [(1, 0.5)], 0.5),
    "one that has ended counts for nothing": (2, 0.5, [(0, 0.0), (2, 0.5)], 0.5),
    "rounding changes nothing": (1, 0.1, [(1, 0.1000000000001)] * 9, 0.1),
}


@pytest.mark.parametrize(("weight", "part", "others", "expected"), CASES.values(), ids=CASES)
def test_the_part_of_a_process(weight, part, others, expected):
    claimed = [Claimed(weight=each, part=taken) for each, taken in others]
    assert next_part(weight=weight, part=part, others=claimed) == expected


def test_a_process_that_was_lost_goes_on_with_next_to_nothing():
    assert 0 < lost_part(0.5) < 0.05


STEPS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["join", "end", "exchange", "exchange"])), max_size=60)


def exchange(processes, name):
    weight, part = processes[name]
    others = [Claimed(weight=each, part=taken) for other, (each, taken) in processes.items() if other != name]
    processes[name] = weight, next_part(weight=weight, part=part, others=others)


@given(STEPS)
def test_all_parts_together_stay_near_one_whoever_joins_and_ends(steps):
    processes = {}
    for name, what in steps:
        weight, part = processes.get(name, (0, 0.0))
        if what == "join":
            processes[name] = weight + 1, part
            exchange(processes, name)
        elif what == "end":
            processes.pop(name, None)
        elif weight:
            exchange(processes, name)
        assert sum(taken for _, taken in processes.values()) <= 1.5


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_after_two_exchanges_each_has_what_its_weight_entitles_it_to(weights):
    processes = {}
    for name, weight in enumerate(weights):
        processes[name] = weight, 0.0
        exchange(processes, name)
    for _ in range(2):
        for name in processes:
            exchange(processes, name)
    for weight, part in processes.values():
        assert part == pytest.approx(weight / sum(weights), rel=1e-5)


def test_of_the_live_processes_the_first_by_name_judges_for_all():
    assert leads("a:1", [])
    assert leads("a:1", ["b:2", "c:3"])
    assert not leads("b:2", ["a:1", "c:3"])
