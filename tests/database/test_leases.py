import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from monitor.database import leases
from monitor.database.engine import IDLE_TRANSACTION_TIMEOUT, connect, reading, writing
from monitor.errors import LeaseHeldError, LeaseLostError
from monitor.notifications import outbox

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TTL = timedelta(seconds=30)


def acquire(engine, holder="a:1", now=NOW, target="gloo"):
    with writing(engine) as conn:
        return leases.acquire(conn, target=target, holder=holder, now=now, ttl=TTL)


def held(engine, target="gloo"):
    with reading(engine) as conn:
        return leases.holder(conn, target)


def test_a_leased_target_is_refused_and_its_holder_named(engine):
    assert acquire(engine) == 1
    with pytest.raises(LeaseHeldError, match=r"target gloo: another run is under way \(a:1, since 2026-03-01 12:00:00"):
        acquire(engine, "b:2", NOW + TTL - timedelta(microseconds=1))
    assert held(engine) == leases.Lease(target="gloo", holder="a:1", epoch=1, acquired_at=NOW, expires_at=NOW + TTL)


def test_targets_have_separate_leases(engine):
    assert [acquire(engine, target="x"), acquire(engine, target="y")] == [1, 1]


def test_an_expired_lease_is_acquired_under_a_new_epoch(engine):
    acquire(engine)
    assert acquire(engine, "b:2", NOW + TTL) == 2
    assert held(engine).holder == "b:2"


def test_a_released_lease_is_free_at_once_and_epochs_keep_growing(engine):
    epoch = acquire(engine)
    with writing(engine) as conn:
        leases.release(conn, target="gloo", epoch=epoch)
        with pytest.raises(LeaseLostError):
            leases.verify(conn, target="gloo", epoch=epoch)
    assert held(engine) is None
    assert acquire(engine, "b:2") == 2


def test_renewing_extends_the_lease(engine):
    epoch = acquire(engine)
    with writing(engine) as conn:
        leases.renew(conn, target="gloo", epoch=epoch, now=NOW + timedelta(seconds=20), ttl=TTL)
    with pytest.raises(LeaseHeldError):
        acquire(engine, "b:2", NOW + timedelta(seconds=49))


def test_an_expired_lease_without_a_new_holder_can_be_renewed(engine):
    epoch = acquire(engine)
    with writing(engine) as conn:
        leases.renew(conn, target="gloo", epoch=epoch, now=NOW + 10 * TTL, ttl=TTL)
        leases.verify(conn, target="gloo", epoch=epoch)
    assert held(engine).expires_at == NOW + 11 * TTL


@pytest.mark.parametrize("ahead", [timedelta(seconds=61), timedelta(days=1), timedelta(days=20000)], ids=str)
def test_a_lease_with_an_expiry_too_far_ahead_is_taken_over_and_fences_its_holder(engine, database_kind, ahead):
    """The clock was corrected, or it was that of another machine: no live holder has a lease that ends so late."""
    if database_kind == "postgresql":  # of workers, which may have a stall time of 10 minutes
        ahead += timedelta(minutes=22)
    old = acquire(engine, now=NOW + ahead)
    assert acquire(engine, "b:2", NOW) == 2
    with pytest.raises(LeaseLostError), writing(engine) as conn:
        leases.verify(conn, target="gloo", epoch=old)


def test_a_check_by_hand_respects_a_worker_with_the_longest_stall_time(new_postgres, connected):
    engine = connected(new_postgres(migrated=True))
    with writing(engine) as conn:
        leases.acquire(conn, target="gloo", holder="fleet", now=NOW, ttl=timedelta(minutes=10, seconds=10))
    with pytest.raises(LeaseHeldError):
        acquire(engine, "b:2", NOW + timedelta(minutes=9))


@pytest.mark.parametrize("behind", [timedelta(microseconds=1), timedelta(seconds=2), TTL], ids=str)
def test_a_clock_set_back_a_little_does_not_take_a_lease_from_its_holder(engine, behind):
    acquire(engine)
    with pytest.raises(LeaseHeldError) as refused:
        acquire(engine, "b:2", NOW - behind)
    assert refused.value.expires_in == TTL + behind


def test_leases_use_the_servers_clock_on_postgresql_and_the_machines_on_sqlite(engine, database_kind):
    with reading(engine) as conn:
        values = leases.lease_now(conn, utcnow=lambda: NOW)
    if database_kind == "sqlite":
        assert values == NOW
    else:
        assert abs(values - datetime.now(UTC)) < timedelta(minutes=5), "the test's server is on the test's machine"


def test_a_server_ends_the_idle_transaction_of_a_stopped_process_and_no_other(new_postgres):
    """Others wait for the row of the target; otherwise they would wait as long as the process is stopped."""
    engine, timeout = connect(new_postgres(migrated=True)), text("SHOW idle_in_transaction_session_timeout")
    lease = {"target": "gloo", "now": NOW, "ttl": TTL}
    with writing(engine) as conn:
        lease["epoch"] = leases.acquire(conn, target="gloo", holder="a:1", now=NOW, ttl=TTL)
        values = [conn.execute(timeout).scalar()]
    for use in (lambda conn: leases.verify(conn, target="gloo", epoch=1), lambda conn: leases.renew(conn, **lease)):
        with writing(engine) as conn:
            use(conn)
            values.append(conn.execute(timeout).scalar())
    with writing(engine) as conn:
        assert outbox.claim(conn, holder="a:1", now=NOW, lease=TTL, limit=1) == []
        values.append(conn.execute(timeout).scalar())
    with writing(engine) as conn:
        assert conn.execute(timeout).scalar() == "90s", "as every session has it"
    engine.dispose()
    assert values == [IDLE_TRANSACTION_TIMEOUT] * 4


@pytest.mark.parametrize("use", ["renew", "verify"])
def test_a_stale_epoch_is_refused(engine, use):
    old = acquire(engine)
    acquire(engine, "b:2", NOW + TTL)
    times = {"now": NOW + TTL, "ttl": TTL} if use == "renew" else {}
    with pytest.raises(LeaseLostError, match=r"target gloo: .*\(epoch 1\) expired"), writing(engine) as conn:
        getattr(leases, use)(conn, target="gloo", epoch=old, **times)
    assert held(engine).expires_at == NOW + 2 * TTL


def test_a_release_under_a_stale_epoch_does_not_affect_the_new_holder(engine):
    old = acquire(engine)
    acquire(engine, "b:2", NOW + TTL)
    with writing(engine) as conn:
        leases.release(conn, target="gloo", epoch=old)
    assert held(engine).holder == "b:2"


@pytest.mark.process
def test_no_takeover_happens_during_a_verified_transaction(engine):
    epoch = acquire(engine)
    order = []

    def take_over():
        acquire(engine, "b:2", NOW + TTL)
        order.append("taken")

    with writing(engine) as conn:
        leases.verify(conn, target="gloo", epoch=epoch)
        taker = threading.Thread(target=take_over)
        taker.start()
        taker.join(timeout=0.3)
        order.append("written")
    taker.join(timeout=120)
    assert order == ["written", "taken"]


RACE = """
import sys
from datetime import UTC, datetime, timedelta
from monitor.errors import LeaseHeldError
from monitor.database import leases
from monitor.database.engine import connect, writing
engine = connect(sys.argv[1])
sys.stdin.readline()
for number in range(20):
    try:
        with writing(engine) as conn:
            now = datetime(2026, 3, 1, tzinfo=UTC)
            leases.acquire(conn, target=f"t{number}", holder=sys.argv[2], now=now, ttl=timedelta(hours=1))
        print(number)
    except LeaseHeldError:
        pass
engine.dispose()
"""


@pytest.mark.process
def test_exactly_one_of_several_processes_gets_each_lease(engine, store_url):
    root = Path(__file__).parents[2]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, store_url, f"h:{n}"], cwd=root, stdin=-1, stdout=-1, stderr=-1, text=True
        )
        for n in range(4)
    ]
    ended = [racer.communicate("go\n", timeout=120) for racer in racers]
    assert [err for _, err in ended] == [""] * 4
    assert sorted(int(run_key) for out, _ in ended for run_key in out.split()) == list(range(20))


def test_a_lease_is_passed_on_under_its_epoch(engine):
    epoch = acquire(engine)
    with writing(engine) as conn:
        leases.pass_on(conn, target="gloo", epoch=epoch, holder="fleet", now=NOW + TTL, ttl=TTL)
        leases.verify_shared(conn, target="gloo", epoch=epoch)
    assert (held(engine).holder, held(engine).epoch, held(engine).expires_at) == ("fleet", epoch, NOW + 2 * TTL)
    assert acquire(engine, "b:2", NOW + 2 * TTL) == epoch + 1
    with writing(engine) as conn, pytest.raises(LeaseLostError):
        leases.pass_on(conn, target="gloo", epoch=epoch, holder="fleet", now=NOW, ttl=TTL)
    with writing(engine) as conn, pytest.raises(LeaseLostError):
        leases.verify_shared(conn, target="gloo", epoch=epoch)


def test_many_work_under_one_lease_while_it_is_renewed_and_no_other_acquires_it(new_postgres, connected):
    """A row lock on PostgreSQL: with the one of `verify`, the renewal would wait until nobody writes."""
    engine = connected(new_postgres(migrated=True))
    epoch, acquired = acquire(engine), threading.Event()

    def take_over():
        acquire(engine, "b:2", NOW + 3 * TTL)
        acquired.set()

    other = threading.Thread(target=take_over)
    with writing(engine) as conn:
        leases.verify_shared(conn, target="gloo", epoch=epoch)
        with writing(engine) as another:
            leases.renew(another, target="gloo", epoch=epoch, now=NOW, ttl=TTL)
        other.start()
        assert not acquired.wait(0.3)
    other.join(timeout=30)
    assert acquired.is_set()
    assert held(engine).epoch == epoch + 1
