"""The settings of `[targets.sync_log]`, from the file to the state of the items."""

from datetime import timedelta
from uuid import UUID

from monitor.model import Cause
from monitor.reports.runs import run_json, run_text

TIMES = 'submitted_at_column = "uploaded_at"'


def set_log(world, *options):
    """Configures the target with further options of its sync log."""
    world.configure(check='missing_after = "15m"')
    text = world.config_path.read_text(encoding="utf-8").replace(TIMES, "\n".join([TIMES, *options]))
    world.config_path.write_text(text, encoding="utf-8")
    world.close()


def tracked(world):
    return {row["item_id"]: row["state"] for row in world.rows("SELECT * FROM items WHERE removed_at IS NULL")}


def test_a_uuid_in_any_form_is_the_item_that_the_api_knows(world):
    one, two = (UUID(item_id) for item_id in world.sandbox.create_items(2, status="COMPLETED"))
    world.record(one.hex, str(one).upper(), f"{{{one}}}", two.urn)
    set_log(world)
    report = world.run()
    assert tracked(world) == {str(one): "completed", str(two): "completed"}
    assert (report.sync.duplicate, report.sync.duplicate_ids) == (2, (str(one),))


def test_ids_as_they_are_may_be_none_that_the_api_accepts(world):
    (one,) = world.sandbox.create_items(1, status="COMPLETED")
    world.record(UUID(one).hex)
    set_log(world, 'id_format = "as_is"')
    world.run()
    assert tracked(world) == {UUID(one).hex: "invalid"}


def test_rows_are_filtered_and_the_earliest_of_an_id_counts(world):
    one, two = world.sandbox.create_items(2, status="COMPLETED")
    early, late = world.clock() - timedelta(hours=9), world.clock() - timedelta(hours=1)
    world.record(one, uploaded_at=late)
    world.record(one, uploaded_at=early)
    world.record(two)
    set_log(world, 'where = { uploaded_at = "not null" }', 'duplicates = "earliest"')
    world.run()
    assert tracked(world) == {one: "completed"}
    (row,) = world.rows("SELECT submitted_at FROM items")
    assert str(row["submitted_at"]).startswith(f"{early:%Y-%m-%d %H:%M}")


def test_a_lost_item_is_missing_although_its_upload_time_moves(world):
    world.track(6)
    world.record("aaaaaaaa-0000-4000-8000-000000000001")
    set_log(world)
    found = []
    for _ in range(20):
        world.log("UPDATE sync_log SET uploaded_at = :at", [{"at": world.clock().isoformat()}])
        found = [incident.cause for incident in world.run().open_incidents]
        if found:
            break
    assert found == [Cause.ITEMS_MISSING]


def test_what_is_no_id_or_time_is_counted_and_quoted(world):
    world.track(1)
    world.log("INSERT INTO sync_log VALUES ('{\"secret\": 1}', NULL), ('x', 'the other day'), ('y', '20261120')")
    report = world.run()
    told = run_json(report)["sync_log"]
    assert (told["unusable"], told["unusable_kind"], told["unusable_ids"]) == (1, "a JSON object", [])
    assert (told["unreadable"], told["unreadable_times"]) == (2, ["the other day", "20261120"])
    text = " ".join(run_text(report, now=world.clock()).split())
    assert "1 row with an id that can't be used (such as a JSON object; id_path names the id in it)" in text
    assert "2 rows with an upload time that can't be read (not used): the other day, 20261120" in text
    assert "secret" not in text


def test_an_empty_log_that_row_level_security_may_hide_says_so(world):
    assert "row-level security" not in run_text(world.run(), now=world.clock())
    hidden = world.run(log_hides_rows=lambda: True)
    assert "row-level security is active on it" in " ".join(run_text(hidden, now=world.clock()).split())
