import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.sandbox.faults import Fault, parse_fault
from monitor.sandbox.rate_limits import parse_rate
from monitor.sandbox.requests import ItemBatch, ItemSelection, StatusChange
from monitor.sandbox.scenario import ACTIONS, Scenario, ScenarioPlayer, ScenarioStep, read_scenario


def read(text):
    return read_scenario(text, name="night.toml")


def step(line, at="10s"):
    return f'[[steps]]\nat = "{at}"\n{line}\n'


DONE = {
    "a fault by name": ('fault = "503:count=2"', "fault", parse_fault("503:count=2"), "fault 503:count=2"),
    "a fault by fields": (
        "fault = { status = 500, body = { code = 'x' } }",
        "fault",
        Fault(status=500, body={"code": "x"}),
        "fault status 500, body {'code': 'x'}",
    ),
    "clear": ("clear = true", "clear", True, "clear"),
    "revoke": ('revoke = "key"', "revoke", "key", "revoke key"),
    "restore": ('restore = "client"', "restore", "client", "restore client"),
    "expire": ("expire_tokens = true", "expire_tokens", True, "expire tokens"),
    "make": ("make = { count = 3 }", "make", ItemBatch(count=3), "make count 3"),
    "set": (
        'set = { filename = "a", status = "FAILED" }',
        "set",
        StatusChange(filename="a", status="FAILED"),
        "set filename a, status FAILED",
    ),
    "let go": ("set = { }", "set", StatusChange(), "set"),
    "remove": ("remove = { count = 1 }", "remove", ItemSelection(count=1), "remove count 1"),
    "rate": ('rate = "5/s"', "rate", parse_rate("5/s"), "rate 5/s"),
    "no rate": ('rate = "none"', "rate", None, "rate none"),
    "stop": ("stop = true", "stop", True, "stop"),
    "start": ("start = true", "start", True, "start"),
}


@pytest.mark.parametrize(("line", "action", "argument", "text"), DONE.values(), ids=DONE)
def test_a_step_has_a_time_and_an_action(line, action, argument, text):
    assert read(step(line)).steps == [ScenarioStep(at_s=10.0, action=action, argument=argument, text=text)]


def test_every_action_is_tested():
    assert {action for _, action, _, _ in DONE.values()} == set(ACTIONS)


def test_a_step_may_name_its_own_target():
    scenario = read('about = "Night."\n' + step('stop = true\nsay = "the lights go out"', at="1m30s"))
    assert scenario.about == "Night."
    assert scenario.steps[0].line() == "  1m30s  the lights go out"


def test_a_step_is_repeated_the_given_number_of_times():
    scenario = read(step('stop = true\nevery = "5m"\ntimes = 3', at="1m"))
    assert [each.at_s for each in scenario.steps] == [60.0, 360.0, 660.0]


def test_steps_are_ordered_by_time_and_then_by_position():
    scenario = read(step("start = true", "20s") + step("stop = true", "0s") + step("clear = true", "20s"))
    assert [each.action for each in scenario.steps] == ["stop", "start", "clear"]


WRONG = {
    "no TOML": ("steps = [", r"^night\.toml: .*\(at "),
    "no steps": ("", r"^night\.toml: invalid scenario: Object missing required field `steps`"),
    "no step": ("steps = []", "length >= 1"),
    "an unknown table": (f"x = 1\n{step('stop = true')}", "unknown field `x`; the keys are steps, about"),
    "no time": ("[[steps]]\nstop = true", r"step 1 \(line 1\): invalid step: .*missing required field `at`"),
    "a bare number": (step("stop = true", at="10"), 'at = "10" is not a duration: write one such as "30s"'),
    "nothing happens": (step(""), "a step needs exactly one of fault, clear, .*; this one has none"),
    "two things happen": (step("stop = true\nstart = true"), "has stop and start"),
    "an unknown action": (step('fualt = "503"'), "unknown field `fualt`; the keys are at, say, every, times, fault"),
    "an unknown fault": (step('fault = "html50"'), r"unknown fault 'html50' \(did you mean html502\?\)"),
    "fields of no fault": (step("fault = { status = 9 }"), "invalid fault: Expected `int` >= 200"),
    "an unknown field of a batch": (step("make = { cuont = 9 }"), "invalid batch of items: .*`cuont`"),
    "an unknown field of a change": (step("set = { state = 'X' }"), "invalid change of items: .*`state`"),
    "an unknown field of a selection": (step("remove = { id = 'X' }"), "invalid selection of items: .*`id`"),
    "an unknown credential": (step('revoke = "me"'), '"me" is not a credential: write "client" or "key"'),
    "no rate": (step('rate = "5"'), "'5' is not a rate"),
    "an act that is not done": (step("stop = false"), r"`\$\.stop`"),
    "repeated without an interval": (step("stop = true\ntimes = 3"), "needs both every and times"),
    "repeated without an end": (step('stop = true\nevery = "1m"'), "needs both every and times"),
    "an interval that is none": (step('stop = true\nevery = "x"\ntimes = 3'), 'every = "x" is not a duration'),
}


@pytest.mark.parametrize(("text", "why"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_problem_in_one_sentence(text, why):
    with pytest.raises(ConfigError, match=why) as refused:
        read(text)
    assert len(refused.value.problems) == 1


def test_all_mistakes_are_listed_with_their_step_and_line():
    text = step('revoke = "me"') + "\n" + step("stop = true") + step('rate = "5"')
    with pytest.raises(ConfigError) as refused:
        read(text)
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "night.toml, step 1 (line 1)",
        "night.toml, step 3 (line 8)",
    ]


def test_steps_on_one_line_are_named_by_number():
    with pytest.raises(ConfigError, match=r"^night\.toml, step 1: "):
        read('steps = [{ at = "0s" }]')


TIMES = st.lists(st.floats(min_value=0, max_value=1000), max_size=20).map(sorted)


class NoSandbox:
    def clear_faults(self):
        pass


@given(times=TIMES, earlier=st.floats(min_value=0, max_value=1000), later=st.floats(min_value=0, max_value=1000))
def test_each_step_is_played_once_and_not_early(times, earlier, later):
    steps = [ScenarioStep(at_s=at_s, action="clear", argument=True, text="") for at_s in times]
    player = ScenarioPlayer(NoSandbox(), Scenario(about="", steps=steps))
    assert [each.at_s for each in player.advance(earlier)] == [at_s for at_s in times if at_s <= earlier]
    assert [each.at_s for each in player.advance(earlier + later)] == [
        at_s for at_s in times if earlier < at_s <= earlier + later
    ]
