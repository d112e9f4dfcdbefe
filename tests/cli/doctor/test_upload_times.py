from datetime import UTC, datetime, timedelta

import pytest

from monitor.cli.doctor.findings import Level
from monitor.cli.doctor.locations import SettingLocation
from monitor.cli.doctor.synclog import check_ids, check_log, read_sample
from monitor.cli.doctor.upload_times import check_server_zone
from monitor.config import Secret, SyncLogConfig, TargetConfig
from monitor.model import SyncLogEntry
from monitor.providers import ProviderSettings
from monitor.providers.gloo import Gloo
from monitor.synclog import LogFacts

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
AT = SettingLocation(setting="targets.gloo.sync_log.timezone", where="monitor.toml, line 12")


def config(**fields):
    return SyncLogConfig(url=Secret("postgresql://db/x"), submitted_at_column="uploaded_at", **fields)


def zone_finding(newest, zone, **fields):
    """`newest`: how long ago the newest upload was, read as UTC."""
    facts = LogFacts(server_zone=zone, newest=None if newest is None else (NOW - newest).replace(tzinfo=None))
    return check_server_zone(facts, config(**fields), AT, now=NOW)


@pytest.mark.parametrize(
    ("newest", "zone", "fields"),
    [
        (MINUTE, None, {}),
        (None, "America/New_York", {}),
        (MINUTE, "Etc/UTC", {}),
        (4 * HOUR + MINUTE, "America/New_York", {"timezone": "server"}),
        (4 * HOUR + MINUTE, "America/New_York", {"timezone": "America/Toronto"}),
        (4 * HOUR + MINUTE, "<+03>-03", {}),
        # by the server's zone it would be in the future
        (MINUTE, "America/New_York", {}),
        # both are possible, and the user chose one
        (4 * HOUR + MINUTE, "America/New_York", {"timezone": "UTC"}),
        (DAY, "Asia/Kolkata", {"timezone": "Europe/Paris"}),
    ],
    ids=str,
)
def test_a_zone_that_is_possible_or_chosen_has_no_finding(newest, zone, fields):
    assert zone_finding(newest, zone, **fields) is None


def test_another_zone_of_the_server_is_named_with_what_it_would_mean():
    finding = zone_finding(4 * HOUR + MINUTE, "America/New_York")
    assert (finding.level, finding.setting) == (Level.WARNING, AT.setting)
    assert finding.message == (
        'the column "uploaded_at" has no time zone, and this server writes America/New_York: the newest upload was '
        "4 h 1 min ago by UTC, and 1 min ago by America/New_York."
    )
    assert finding.remedy == 'set timezone = "server", or timezone = "UTC" if the pipeline itself writes that zone'


@pytest.mark.parametrize("fields", [{}, {"timezone": "UTC"}], ids=["by default", "chosen"])
def test_a_zone_by_which_uploads_are_in_the_future_is_wrong_even_if_chosen(fields):
    finding = zone_finding(-5 * HOUR, "Asia/Kolkata", **fields)
    assert "in the future (5 h from now) by UTC, and 30 min ago by Asia/Kolkata" in finding.message
    assert finding.remedy == 'set timezone = "server"'


def log_finding(*entries, **fields):
    target = TargetConfig.model_construct(name="gloo", sync_log=config(**fields))
    sample = read_sample(iter([entries] if entries else []), now=NOW)
    return check_log(sample, target, AT, now=NOW)


def test_the_newest_and_the_oldest_upload_are_said():
    ages = (3 * MINUTE, 90 * DAY + HOUR, 5 * DAY)
    entries = [SyncLogEntry(item_id=f"{n}", submitted_at=NOW - age) for n, age in enumerate(ages)]
    finding = log_finding(*entries, SyncLogEntry(item_id="x"))
    assert finding.level is Level.OK
    assert finding.message == ('table "sync_log" is readable: 4 rows, 4 items, newest upload 3 min ago, oldest 90 d.')


def test_upload_times_that_are_not_used_are_quoted_with_a_remedy():
    finding = log_finding(
        SyncLogEntry(item_id="a", submitted_at=NOW + HOUR),
        *(SyncLogEntry(item_id=f"b{n}", unreadable_time=f"2026112{n}") for n in range(5)),
        SyncLogEntry(item_id=None, not_an_id="a JSON object"),
    )
    assert finding.level is Level.WARNING
    assert "1 with an upload time in the future (not used): 2026-07-01T13:00:00Z" in finding.message
    assert "5 with an upload time that can't be read (not used): 20261120, 20261121, 20261122." in finding.message
    assert "1 with an id that can't be used (such as a JSON object; id_path names the id in it)" in finding.message
    assert ("time_format" in finding.remedy, "set timezone" in finding.remedy) == (True, True)


def test_uuids_in_another_form_that_are_not_made_canonical_have_a_remedy():
    target = TargetConfig.model_construct(name="gloo", provider="gloo", item=None, sync_log=config(id_format="as_is"))
    provider = Gloo.from_settings(ProviderSettings(target="gloo", base_url="https://api.example"))
    uuid = "6c0d4c443f5e4a39a0cf4b0a3b3f6a11"
    for ids, remedy in (([uuid], 'set id_format = "auto"'), ([uuid, "x"], "does the pipeline record the ids")):
        sample = read_sample(iter([[SyncLogEntry(item_id=item_id) for item_id in ids]]), now=NOW)
        assert check_ids(sample, provider, target, AT).remedy.startswith(remedy)


def test_a_log_of_which_no_row_matches_says_so():
    finding = log_finding(where={"status": ("done",)})
    assert finding.message == 'table "sync_log" is readable, but no row of it matches where.'
    assert "where" in finding.remedy
