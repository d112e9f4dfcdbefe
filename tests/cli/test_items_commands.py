"""`items …`: the built-in sync log from import to removal, and queries about single items."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from monitor.synclog import builtin as tracked

SECOND = """
[[targets]]
name = "second"
provider = "gloo"
base_url = "{url}"
publisher_id = "p"
auth = {{ api_key = "k" }}
"""


@pytest.fixture
def built_in(small_world):
    """A World whose target uses the built-in sync log."""
    small_world.clock.now = datetime.now(UTC) - timedelta(minutes=5)
    small_world.configure(built_in_log=True)
    return small_world


@pytest.fixture
def file(tmp_path):
    def file(content, name="uploads.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return file


@pytest.fixture
def piped(monkeypatch):
    """Sets the standard input of the next command."""
    return lambda content: monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content.encode())))


def log(world, target="gloo"):
    return [entry for batch in tracked.read(world.app.engine, target=target) for entry in batch]


def ids(world):
    return [entry.item_id for entry in log(world)]


# --- import ----------------------------------------------------------------------------------------------------------


def test_imported_items_are_checked_and_removed_ones_are_not(here, built_in, file):
    items = [*built_in.sandbox.create_items(2, status="COMPLETED"), *built_in.sandbox.create_items(1, status="FAILED")]
    uploads = file("item_id,at\n" + "".join(f"{item_id},2026-01-01\n" for item_id in items))
    done = here(built_in, "items", "import", uploads, "--submitted-at-column", "at")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "gloo: 3 new, 0 known, 0 updated\n  3 items in the built-in log\n"
    again = here(built_in, "items", "import", uploads, "--submitted-at-column", "at")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "gloo: 0 new, 3 known, 0 updated")
    first = built_in.run()
    assert (first.snapshot.completed, first.snapshot.failed) == (2, 1)
    removed = here(built_in, "items", "remove", items[2], "never-there")
    assert removed.stdout == "gloo: 1 item removed; the next run takes them off the work list\n"
    assert removed.stderr == "not in the built-in log of gloo: never-there\n"
    second = built_in.run()
    assert (second.snapshot.total, second.sync.removed, second.open_incidents) == (2, 1, ())
    assert here(built_in, "items", "list", "--state", "removed").stdout.splitlines()[1].split()[:2] == [
        items[2],
        "removed",
    ]


def test_a_dry_run_reads_the_built_in_log_and_leaves_no_trace(here, built_in, file):
    (item_id,) = built_in.sandbox.create_items(1, status="COMPLETED")
    here(built_in, "items", "import", file(f"{item_id}\n"))
    done = here(built_in, "check", "--dry-run")
    assert (done.returncode, done.stdout.splitlines()[1]) == (
        0,
        "Health: 1 completed, 0 pending, 0 failed, 0 not found",
    )
    assert built_in.rows("SELECT * FROM items") == built_in.rows("SELECT * FROM runs") == []


def test_bad_lines_are_listed_by_number_and_the_rest_imported(here, built_in, file):
    done = here(built_in, "items", "import", file("item_id,x\na,1\n,2\nb\na,3\nc,4\n"))
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "gloo: 2 new, 0 known, 0 updated",
        "  1 line with a duplicate id: the first one counts",
        "  2 lines could not be used: listed on stderr",
        "  2 items in the built-in log",
    ]
    where = file("")
    assert [line.removeprefix(where) for line in done.stderr.splitlines()] == [
        ", line 3: the id is blank",
        ", line 4: its number of fields is 1 instead of 2",
    ]
    assert ids(built_in) == ["a", "c"]


def test_the_first_bad_lines_are_listed_and_the_rest_counted(here, built_in, file):
    done = here(built_in, "items", "import", file("item_id,x\na,1\n" + ",\n" * 30))
    assert len(done.stderr.splitlines()) == 21
    assert done.stderr.endswith("uploads.csv: 10 more lines can't be used\n")
    assert "  30 lines could not be used" in done.stdout


NOT_IMPORTED = [
    ("item_id,x\na,1\n,2\n", ["--strict"], "uploads.csv: 1 line can't be used; with --strict nothing was changed"),
    ("item_id,x\n,1\n,2\n", [], "uploads.csv: none of its lines can be used; nothing was changed"),
    ("name,x\na,1\n", [], 'the header has "name", "x": set --id-column'),
    (b"item_id,x\na,1\n\xff,1\n", [], "line 3 is not UTF-8; save the file as UTF-8 and try again"),
    ("", ["--format", "xml"], "--format: 'xml' is none of csv, jsonl"),
    ("", ["--timezone", "Mars"], "--timezone: there is no zone 'Mars'; name one like Europe/Paris"),
    ("", ["--timezone", "../x"], "--timezone: there is no zone '../x'; name one like Europe/Paris"),
    ("", ["--timezone", "Europe"], "--timezone: there is no zone 'Europe'; name one like Europe/Paris"),
    ("", ["--target", "glo"], "--target: there is no target 'glo'; choose from gloo"),
]


def test_an_invalid_import_is_code_2_and_changes_nothing(here, built_in, file):
    for content, options, ending in NOT_IMPORTED:
        done = here(built_in, "items", "import", file(content), *options)
        assert (done.returncode, done.stdout) == (2, ""), ending
        assert done.stderr.rstrip().endswith(ending)
        assert ids(built_in) == []


@pytest.mark.parametrize("name", ["nothing.csv", ".", "nul\0.csv"], ids=["missing", "a folder", "impossible"])
def test_a_file_that_cannot_be_opened_is_code_2(here, built_in, tmp_path, name):
    done = here(built_in, "items", "import", f"{tmp_path}/{name}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "can't be opened (" in done.stderr


def test_an_empty_file_imports_nothing_without_an_error(here, built_in, file):
    done = here(built_in, "items", "import", file(""))
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "gloo: 0 new, 0 known, 0 updated")


def test_many_ids_are_imported_in_batches(here, built_in, file):
    many = [f"{n:05}" for n in range(2500)]
    done = here(built_in, "items", "import", file("\n".join(many)))
    assert done.stdout.splitlines()[0] == "gloo: 2500 new, 0 known, 0 updated"
    assert ids(built_in) == many
    assert here(built_in, "items", "remove", "--from", file("\n".join(many))).stdout.startswith(
        "gloo: 2500 items removed"
    )


def test_standard_input_is_read_and_assumptions_are_printed(here, built_in, piped):
    piped("a\nb\n")
    done = here(built_in, "items", "import", "-")
    assert done.stderr == "note: standard input: there is no header line; every line is read as an id, also the first\n"
    piped('{"id": "c", "at": 1772366400, "set": "books"}\n')
    columns = ["--id-column", "id", "--submitted-at-column", "at", "--group-column", "set"]
    assert here(built_in, "items", "import", "-", *columns).stderr == ""
    assert ids(built_in) == ["a", "b", "c"]
    assert log(built_in)[2].submitted_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert log(built_in)[2].group == "books"


def test_times_without_an_offset_are_in_the_given_zone(here, built_in, file):
    uploads = file("item_id,at\na,2026-03-01 13:00\n")
    here(built_in, "items", "import", uploads, "--submitted-at-column", "at", "--timezone", "Europe/Paris")
    assert log(built_in)[0].submitted_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    done = here(built_in, "items", "import", uploads, "--submitted-at-column", "at")
    assert done.stdout.splitlines()[0] == "gloo: 0 new, 0 known, 1 updated"


def test_an_import_as_json_is_one_value_on_stdout(here, built_in, file):
    done = here(built_in, "items", "import", file("item_id,x\na,1\n,2\n"), "--json")
    assert json.loads(done.stdout) == {
        "target": "gloo", "read": 1, "new": 1, "known": 0, "updated": 0, "duplicate": 0, "bad": 1, "tracked": 1,
        "bad_lines": [{"first": 3, "last": 3, "reason": "the id is blank"}],
        "future": 0, "future_times": [], "unreadable": 0, "unreadable_times": [],
    }  # fmt: skip


TIMES = "item_id,at\na,2999-01-01T00:00:00Z\nb,yesterday\nc,2461374.2\nd,\ne,2026-01-01\n"


def test_upload_times_that_are_not_used_are_counted_and_quoted_by_an_import(here, built_in, file):
    path = file(TIMES)
    done = here(built_in, "items", "import", path, "--submitted-at-column", "at")
    assert done.stdout.splitlines()[1:] == [
        "  1 line with an upload time in the future (not used): 2999-01-01T00:00:00Z",
        "  2 lines with an upload time that can't be read (not used): yesterday, 2461374.2",
        "  5 items in the built-in log",
    ]
    told = json.loads(here(built_in, "items", "import", path, "--submitted-at-column", "at", "--json").stdout)
    assert (told["future"], told["unreadable"], told["unreadable_times"]) == (1, 2, ["yesterday", "2461374.2"])
    done = here(built_in, "items", "import", path, "--submitted-at-column", "at", "--strict")
    assert (done.returncode, done.stdout) == (2, "")
    assert "2 lines with an upload time that can't be read: yesterday, 2461374.2; with --strict nothing" in done.stderr


def test_a_time_format_of_an_import_is_used_or_refused(here, built_in, file):
    options = ["--submitted-at-column", "at", "--time-format"]
    path = file("item_id,at\na,20.11.2026\n")
    told = json.loads(here(built_in, "items", "import", path, *options, "%d.%m.%Y", "--json").stdout)
    assert (told["new"], told["unreadable"]) == (1, 0)
    done = here(built_in, "items", "import", path, *options, "days")
    assert (done.returncode, "--time-format must be" in done.stderr) == (2, True)


def test_uuids_in_another_form_are_imported_and_removed_as_the_api_knows_them(here, built_in, file):
    uuid = "6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11"
    here(built_in, "items", "import", file(f"item_id\n{uuid.upper()}\n{uuid.replace('-', '')}\n"))
    assert ids(built_in) == [uuid]
    done = here(built_in, "items", "remove", uuid.upper(), "--json")
    assert (json.loads(done.stdout)["removed"], ids(built_in)) == (1, [])


def test_a_target_with_its_own_sync_log_is_refused(here, small_world, file):
    done = here(small_world, "items", "import", file("a\n"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: gloo: the ids come from its own table ([targets.sync_log]), not from the built-in sync log; "
        "record new ones there\n"
    )
    done = here(small_world, "items", "remove", "a")
    assert done.stderr.endswith("; remove them there, or use `items ignore`\n")


def test_with_two_built_in_logs_the_target_is_required(here, built_in, file):
    built_in.configure(built_in_log=True, more=SECOND.format(url=built_in.sandbox.url))
    done = here(built_in, "items", "import", file("a\n"))
    assert (done.returncode, done.stderr) == (2, "error: --target: name the target of the log: gloo, second\n")
    assert here(built_in, "items", "import", file("a\n"), "--target", "second").returncode == 0
    assert (ids(built_in), [entry.item_id for entry in log(built_in, "second")]) == ([], ["a"])
    assert here(built_in, "items", "ignore", "a", "--reason", "x").stderr == (
        "error: --target: name the target of these items: gloo, second\n"
    )


def test_with_one_built_in_log_the_target_is_optional(here, small_world, file):
    small_world.configure(more=SECOND.format(url=small_world.sandbox.url))
    assert here(small_world, "items", "import", file("a\n")).stdout.startswith("second: 1 new")


# --- remove ----------------------------------------------------------------------------------------------------------


def test_ids_to_remove_may_come_from_a_file(here, built_in, file):
    here(built_in, "items", "import", file("a\nb\nc\nd\n"))
    done = here(built_in, "items", "remove", "a", "--from", file("doc,x\nb,1\n,2\nz,3\n"), "--id-column", "doc")
    assert done.stdout.startswith("gloo: 2 items removed")
    assert "line 3: the id is blank" in done.stderr
    assert done.stderr.endswith("not in the built-in log of gloo: z\n")
    assert ids(built_in) == ["c", "d"]


NOT_REMOVED = [
    (["x", "y"], "not in the built-in log of gloo: x, y; nothing was removed"),
    ([f"x{n}" for n in range(25)], "x18, x19 and 5 more; nothing was removed"),
    ([], "items remove: give the ids to remove, or a file of them with --from"),
    (["a\udcff"], "'a\\udcff' holds a character that no stored text has; copy it from `items list`"),
]


def test_ids_that_are_not_in_the_log_are_listed(here, built_in):
    for arguments, sentence in NOT_REMOVED:
        done = here(built_in, "items", "remove", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(f"{sentence}\n")


# --- ignore ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def troubled(small_world):
    """Four items after a run; one failed, so one incident is open."""
    small_world.clock.now = datetime.now(UTC) - timedelta(minutes=5)
    small_world.items = small_world.track(3) + small_world.track(1, status="FAILED")
    small_world.run()
    return small_world


def test_an_ignored_item_is_neither_counted_nor_checked_and_its_incident_resolves(here, troubled):
    *well, failed = troubled.items
    done = here(troubled, "items", "ignore", failed, "--reason", "deleted on purpose")
    assert (done.returncode, done.stdout) == (0, "gloo: 1 item ignored from now on\n")
    before = troubled.sandbox.requests("items")
    report = troubled.run()
    assert (report.snapshot.total, report.snapshot.failed, report.open_incidents) == (3, 0, ())
    assert troubled.sandbox.requests("items") - before == len(well)
    assert troubled.rows("SELECT state FROM incidents") == [{"state": "resolved"}]
    undone = here(troubled, "items", "ignore", failed, well[0], "--undo")
    assert undone.stdout == "gloo: 1 item checked again, 1 not ignored before\n"
    report = troubled.run()
    assert (report.snapshot.total, [each.cause for each in report.open_incidents]) == (4, ["items_failed"])
    life = json.loads(here(troubled, "items", "show", failed, "--json").stdout)["events"]
    assert [(turn["kind"], turn["to"], turn["run_id"]) for turn in life] == [
        ("state", "failed", 1),
        ("ignored", "deleted on purpose", None),
        ("unignored", None, None),
    ]


def test_ignoring_an_ignored_item_says_so(here, troubled):
    failed = troubled.items[-1]
    here(troubled, "items", "ignore", failed, failed, "--reason", "one")
    done = here(troubled, "items", "ignore", failed, troubled.items[0], "--reason", "two", "--target", "gloo")
    assert done.stdout == "gloo: 1 item ignored from now on, 1 ignored before\n"


NOT_IGNORED = [
    (["known", "x", "--reason", "r"], "not on the work list of gloo: x; nothing was changed. `ingestion-monitor"),
    (["known"], "--reason: say why in 1 to 500 printable characters, as in --reason 'deleted on purpose'"),
    (["known", "--reason", " "], "--reason: say why in 1 to 500 printable characters"),
    (["known", "--reason", "x" * 501], "--reason: say why in 1 to 500 printable characters"),
    (["known", "--reason", "a\x1bb"], "--reason: say why in 1 to 500 printable characters"),
    (["known", "--undo", "--reason", "r"], "--reason has no meaning with --undo: leave it out"),
    (["known", "--reason", "r", "--target", "glo"], "--target: there is no target 'glo'; choose from gloo"),
    (["a\udcff", "--reason", "r"], "'a\\udcff' holds a character that no stored text has"),
    ([f"x{n}" for n in range(22)] + ["--undo"], "x19 and 2 more; nothing was changed."),
]


def test_a_usage_error_of_ignore_is_code_2_and_changes_nothing(here, troubled):
    for arguments, sentence in NOT_IGNORED:
        known = troubled.items[0]
        done = here(troubled, "items", "ignore", *(known if word == "known" else word for word in arguments))
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert sentence in done.stderr
        assert troubled.rows("SELECT item_id FROM items WHERE ignored_at IS NOT NULL") == []


# --- list and show ---------------------------------------------------------------------------------------------------


def test_items_are_listed_with_problems_first_and_narrowed_by_options(here, troubled):
    *well, failed = troubled.items
    lines = here(troubled, "items", "list").stdout.splitlines()
    assert lines[0].split() == ["ITEM", "STATE", "DETAIL", "AGE"]
    assert lines[1].split()[:3] == [failed, "failed", "FAILED"]
    assert lines[-1] == "4 shown"
    assert here(troubled, "items", "list", "-n", "1").stdout.splitlines()[-1] == "1 of 4 shown; --limit 4 shows all"
    for options, found in [
        (["--state", "failed"], [failed]),
        (["--state", "failed", "--state", "completed"], [failed, *well]),
        (["--stage", "failed"], [failed]),
        (["--older-than", "1m"], [failed, *well]),
        (["--older-than", "2h"], []),
        (["--stuck"], []),
        (["--group", "books"], []),
        (["--target", "gloo", "--state", "completed"], well),
    ]:
        value = json.loads(here(troubled, "items", "list", "--json", *options).stdout)
        assert {each["item_id"] for each in value["items"]} == set(found), options
        assert value["total"] == len(found)


def test_stuck_means_pending_for_longer_than_the_target_allows(here, small_world):
    small_world.clock.now = datetime.now(UTC) - timedelta(hours=1)
    (late,) = small_world.track(1, status="CHUNKING", uploaded_at=small_world.clock())
    small_world.run()
    assert here(small_world, "items", "list", "--stuck").stdout.splitlines()[1].split()[:3] == [
        late,
        "stuck",
        "CHUNKING",
    ]
    small_world.configure(check='stuck_after = "2h"')
    shown = here(small_world, "items", "list", "--stuck").stdout
    assert shown.startswith("No such items. New ones are listed after the next check.")


STATES = "completed, pending, failed, not_found, invalid, unknown, removed, ignored"
NO_DURATION = 'is no duration from 0s to 36500d; write it as in "30m", "2h" or "1d12h"'


NOT_LISTED = [
    (["--state", "stuck"], f"--state: 'stuck' is none of {STATES}; for stuck items use --stuck"),
    (["--state", "Failed"], f"--state: 'Failed' is none of {STATES}"),
    (["--older-than", "2"], f"--older-than: '2' {NO_DURATION}"),
    (["--older-than", "99999999d"], f"--older-than: '99999999d' {NO_DURATION}"),
    (["--target", "glo"], "--target: there is no target 'glo'; choose from gloo"),
    (["--stage", "\udcff"], "'\\udcff' holds a character that no stored text has; copy it from `items list`"),
]


def test_a_usage_error_of_list_is_code_2(here, small_world):
    for arguments, sentence in NOT_LISTED:
        done = here(small_world, "items", "list", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {sentence}\n")


def test_the_complete_history_of_an_item_is_shown(here, troubled):
    failed = troubled.items[-1]
    shown = here(troubled, "items", "show", failed).stdout
    assert shown.startswith(f"Item {failed} of gloo\n  state         failed\n")
    assert "incident      1 (`ingestion-monitor incidents show 1`)" in shown
    assert "→ failed (run 1)" in shown
    value = json.loads(here(troubled, "items", "show", failed, "--target", "gloo", "--json").stdout)
    assert (value["item_id"], value["state"], value["incident_id"], value["stage"]) == (failed, "failed", 1, "FAILED")


def test_an_unknown_item_shows_why_and_what_was_known(here, troubled):
    troubled.sandbox.revoke_client()
    troubled.run()
    lines = here(troubled, "items", "list", "--state", "unknown", "--wide").stdout.splitlines()
    assert sorted(line.split()[1:4] for line in lines[1:-1]) == [
        *[["unknown", "completed", "unauthorized"]] * 3,
        ["unknown", "failed", "unauthorized"],
    ]


def test_an_untracked_id_is_code_2_with_similar_ids(here, troubled):
    whole = troubled.items[0]
    for typed in (whole[:12], f"{whole[:9]}…{whole[-9:]}"):
        done = here(troubled, "items", "show", typed)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: no tracked item has the id {typed}; did you mean {whole}?\n"
    done = here(troubled, "items", "show", "zzz")
    assert done.stderr.endswith("zzz; `ingestion-monitor items list` has them all\n")
    assert here(troubled, "items", "show", "a\udcff").returncode == 2


def test_an_imported_id_before_its_first_run_is_reported_as_such(here, built_in, file):
    here(built_in, "items", "import", file("a\n"))
    done = here(built_in, "items", "show", "a")
    assert (done.returncode, done.stderr) == (
        2,
        "error: the item a is in the built-in log of gloo, but no run has read it yet; run `ingestion-monitor check`\n",
    )


def test_an_id_of_two_targets_requires_the_target(here, troubled):
    item_id = troubled.items[0]
    with troubled.app.engine.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO items (target, item_id, state, first_seen_at) SELECT 'old', item_id, state, first_seen_at "
            f"FROM items WHERE item_id = '{item_id}'"
        )
    done = here(troubled, "items", "show", item_id)
    assert (done.returncode, done.stderr) == (
        2,
        f"error: 2 targets have the item {item_id}: gloo, old; choose one with --target\n",
    )
    assert here(troubled, "items", "show", item_id, "--target", "gloo").returncode == 0
