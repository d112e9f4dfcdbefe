"""A rule by group, from the configuration to the output."""

import json

import pytest

BY_GROUP = """
[[rules]]
cause = "items_failed"
by = "group"
[[channels]]
name = "letters"
type = "log"
[[channels]]
name = "others"
type = "log"
[[routes]]
match = { group = "letters" }
channels = ["letters"]
[[routes]]
channels = ["others"]
"""


@pytest.fixture
def grouped(here, small_world):
    """Five failed uploads in two collections and in none, checked once."""
    small_world.configure(built_in_log=True, more=BY_GROUP)
    ids = small_world.sandbox.create_items(5, status="FAILED")
    groups = ["sermons", "sermons", "letters", "", ""]
    rows = "".join(f"{item_id},{group}\n" for item_id, group in zip(ids, groups, strict=True))
    (small_world.folder / "ids.csv").write_text("item_id,collection\n" + rows)
    imported = here(small_world, "items", "import", str(small_world.folder / "ids.csv"), "--group-column", "collection")
    assert imported.returncode == 0, imported.stderr
    small_world.checked = here(small_world, "check")
    return small_world


def test_each_group_has_an_independent_incident(here, grouped):
    said = grouped.checked.stdout
    assert "items_failed in sermons" in said
    assert "2 documents failed to ingest" in said
    assert "items_failed in letters opened" in said
    listed = json.loads(here(grouped, "incidents", "list", "--json").stdout)["incidents"]
    assert {each["group"]: (each["items"], each["channels"]) for each in listed} == {
        "": (2, ["others"]), "letters": (1, ["letters"]), "sermons": (2, ["others"]),
    }  # fmt: skip
    table = here(grouped, "incidents", "list").stdout.splitlines()
    assert [line.split()[4] for line in table[1:]] == ["sermons", "letters", "-"]
    (letters,) = [each["id"] for each in listed if each["group"] == "letters"]
    shown = here(grouped, "incidents", "show", str(letters)).stdout
    assert shown.startswith(f"Incident {letters}: gloo (letters): 1 document failed to ingest\n")


def test_one_incident_per_target_lists_its_groups(here, grouped):
    grouped.configure(built_in_log=True)
    here(grouped, "check")
    listed = json.loads(here(grouped, "incidents", "list", "--json").stdout)["incidents"]
    assert sorted(each["group"] for each in listed) == ["", "letters", "sermons"], "they live on"
    rows = "".join(f"{item_id},faq\n" for item_id in grouped.sandbox.create_items(3, status="FAILED"))
    (grouped.folder / "more.csv").write_text("item_id,collection\n" + rows)
    here(grouped, "items", "import", str(grouped.folder / "more.csv"), "--group-column", "collection")
    here(grouped, "check")
    (whole,) = [
        each
        for each in json.loads(here(grouped, "incidents", "list", "--json").stdout)["incidents"]
        if not each["group"]
    ]
    assert whole["groups"] == [{"group": "faq", "items": 3}, {"group": None, "items": 2}]
    shown = here(grouped, "incidents", "show", str(whole["id"])).stdout
    assert "  groups     3 × faq, 2 × without a group\n" in shown
