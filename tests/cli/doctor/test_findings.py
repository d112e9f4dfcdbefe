import pytest

from monitor.cli.doctor.findings import Finding, Level, doctor_json, exit_code, finding_lines, summary


def finding(level=Level.OK, **fields):
    return Finding(**{"part": "database", "level": level, "message": "it is well.", **fields})


def test_a_finding_is_one_line_with_its_mark():
    assert finding_lines(finding(), previous=None, ascii_only=False) == ["✓ database       it is well."]


def test_remedy_and_location_are_printed_below_the_message():
    example = finding(
        Level.PROBLEM, message="no.", remedy="fix it", setting="database", location="monitor.toml, line 1"
    )
    assert finding_lines(example, previous=None, ascii_only=False) == [
        "✗ database       no.",
        "                 → fix it",
        "                 → database (monitor.toml, line 1)",
    ]


def test_a_long_command_stays_on_one_line():
    command = "chmod 600 /" + "long/" * 30
    assert finding_lines(finding(command=command), previous=None, ascii_only=False)[-1].endswith(f"→ {command}")


def test_a_location_is_printed_only_for_problems_and_warnings():
    example = finding(setting="database", location="monitor.toml, line 1")
    assert len(finding_lines(example, previous=None, ascii_only=False)) == 1


MARKS = {Level.OK: "+", Level.WARNING: "!", Level.PROBLEM: "x", Level.NOT_TRIED: "-"}


@pytest.mark.parametrize(("level", "mark"), MARKS.items(), ids=[level.value for level in MARKS])
def test_an_ascii_terminal_gets_ascii_marks(level, mark):
    lines = finding_lines(finding(level, remedy="fix it"), previous=None, ascii_only=True)
    assert lines == [f"{mark} database       it is well.", "                 -> fix it"]
    assert all(line.isascii() for line in lines)


def test_a_new_group_gets_a_heading_once():
    first, second = finding(about="target gloo"), finding(about="target gloo", part="item")
    assert finding_lines(first, previous=finding(), ascii_only=False)[:2] == ["", "target gloo"]
    assert len(finding_lines(second, previous=first, ascii_only=False)) == 1


def test_lines_end_before_column_80_and_paths_stay_whole():
    path = "/" + "long/" * 30
    lines = finding_lines(finding(message="word " * 60 + path), previous=None, ascii_only=False)
    assert path in [line.strip() for line in lines]
    assert all(len(line) < 80 for line in lines if path not in line)


SUMMARIES = {
    "well": ([Level.OK, Level.NOT_TRIED], "No problem found. Next:\n  ingestion-monitor check -c x"),
    "warned": ([Level.WARNING], "1 warning, no problem. Next:\n  ingestion-monitor check -c x"),
    "broken": (
        [Level.PROBLEM, Level.PROBLEM, Level.WARNING],
        "2 problems and 1 warning. Fix what is marked, then run again:\n  ingestion-monitor doctor -c x",
    ),
}


@pytest.mark.parametrize(("levels", "said"), SUMMARIES.values(), ids=SUMMARIES)
def test_the_summary_counts_and_names_the_next_command(levels, said):
    assert summary([finding(level) for level in levels], option=" -c x") == said


CODES = {
    "well": ([finding(), finding(Level.WARNING)], 0),
    "a part failed": ([finding(Level.PROBLEM)], 3),
    "the configuration is wrong": ([finding(Level.PROBLEM), finding(Level.PROBLEM, exit_code=2)], 2),
    "warnings have no code": ([finding(Level.WARNING, exit_code=2)], 0),
}


@pytest.mark.parametrize(("findings", "code"), CODES.values(), ids=CODES)
def test_configuration_problems_have_their_own_exit_code(findings, code):
    assert exit_code(findings) == code
    assert (doctor_json(findings)["exit_code"], doctor_json(findings)["ok"]) == (code, code == 0)


def test_json_has_every_field_of_a_finding():
    example = finding(Level.WARNING, about="target gloo", remedy="fix", setting="database", location="monitor.toml")
    assert doctor_json([example])["findings"] == [
        {
            "about": "target gloo", "part": "database", "level": "warning", "message": "it is well.", "remedy": "fix",
            "command": None, "setting": "database", "location": "monitor.toml",
        }
    ]  # fmt: skip
