import pytest
from config.mistakes import HOOK

from monitor.config import Config

BEHIND = HOOK + '[[routes]]\nchannels = ["hook"]\n[[routes]]\nchannels = ["log"]\n'
NEVER = (
    "routes[1] is never reached: routes[0] takes all that it matches; put it before that one, or say "
    "continue = true there"
)


def test_other_mistakes_hide_no_route_that_is_never_reached(config_dir, valid):
    text = valid.replace("#schedule", 'every = "x"').replace("#check", "concurrency = 0").replace("#end", BEHIND)
    assert config_dir.problems(config_dir.write(text)) == [
        NEVER,
        'schedule.every must be a duration such as "30s", "5m" or "1h30m"',
        "targets.gloo-prod.check.concurrency must be 1 or more",
    ]


@pytest.mark.parametrize(
    "wrong",
    ['[[rules]]\ncause = "outag"\n', '[[channels]]\ntype = "log"\n', '[[targets]]\nprovider = "gloo"\n',
     '[[routes]]\nmatch = { teem = "x" }\nchannels = ["log"]\n'],
    ids=["rules", "channels", "targets", "routes"],
)  # fmt: skip
def test_no_route_is_accused_while_that_is_wrong_which_it_depends_on(config_dir, valid, wrong):
    problems = config_dir.problems(config_dir.write(valid.replace("#end", BEHIND + wrong)))
    assert problems
    assert NEVER not in problems


@pytest.mark.parametrize("table", ["targets", "channels", "rules", "routes"])
def test_what_is_no_list_of_tables_is_told_once(config_dir, valid, table):
    text = f"{table} = 5\n" + (valid.partition("[[targets]]")[0] if table == "targets" else valid)
    assert [problem.split()[0] for problem in config_dir.problems(config_dir.write(text))] == [table]


def test_one_file_serves_several_environments_and_targets(config_dir, valid):
    more = valid[valid.index("[[targets]]") : valid.index("#end")].replace("gloo-prod", "docs")
    text = valid.replace("#end", more.replace("#", "##") + HOOK) + (
        '[[rules]]\ncause = "outage"\ntarget = "docs"\nseverity = "info"\n'
        '[[routes]]\nmatch = { environment = "staging" }\nchannels = ["log"]\n'
        '[[routes]]\nmatch = { team = ["credentials", "account"], target = "gloo-*" }\nchannels = ["hook"]\n'
        '[[routes]]\nmatch = { severity = "info" }\nchannels = ["log"]\n'
        '[[routes]]\nchannels = ["hook"]\n'
    )
    assert len(Config.load(config_dir.write(text), {}).routes) == 4


def test_groups_are_possible_where_the_sync_log_says_them(config_dir, valid):
    route = HOOK + '[[routes]]\nmatch = { group = "faq" }\nchannels = ["hook"]\n'
    named = valid.replace("#sync_log", 'group_column = "collection"').replace("#end", route)
    assert Config.load(config_dir.write(named), {}).routes[0].match == {"group": ("faq",)}
    built_in = valid.replace('[targets.sync_log]\nurl = "sqlite:///pipeline.db"', "").replace("#end", route)
    assert Config.load(config_dir.write(built_in), {}).targets[0].sync_log is None
    (problem,) = config_dir.problems(config_dir.write(valid.replace("#end", route)))
    assert problem.startswith("routes[0].match.group matches nothing: ")
