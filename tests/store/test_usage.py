import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.core.entities import Billing, Finish, Usage
from proxy.core.funding import Hold
from proxy.store import daily
from proxy.store import database as database_module
from proxy.store import usage as usage_module
from proxy.store import writer as writer_module
from proxy.store.committer import Committer, Job
from proxy.store.database import Database
from proxy.store.errors import LedgerUnavailable
from proxy.store.usage import Settlement, UsageStore
from tests.support.records import admitted, record, record_id

Rows = Callable[..., list[tuple[Any, ...]]]

RECORDS = "SELECT id, finish FROM exchanges ORDER BY id"

SUMS = "SELECT requests, failed, input_tokens, cost_nanos FROM daily_sums"


@pytest.fixture
async def usage(database: Database) -> UsageStore:
    return UsageStore(database)


async def test_settling_twice_changes_nothing_more(usage: UsageStore, rows: Rows) -> None:
    assert (await usage.settle(record(1))).written
    assert not (await usage.settle(record(1, cost_nanos=9, finish=Finish.TIMEOUT))).written
    assert await usage.get(record_id(1)) == record(1)
    assert rows(SUMS) == [(1, 0, 1000, 1_234_567)]
    assert await usage.day_totals("2026-09-21") == {"key_1": (1, 1200)}


async def test_settling_twice_in_one_group_counts_once(usage: UsageStore, rows: Rows) -> None:
    outcomes = await asyncio.gather(*(usage.settle(record(1)) for _ in range(3)))
    assert [outcome.written for outcome in outcomes] == [True, False, False]
    assert rows(SUMS) == [(1, 0, 1000, 1_234_567)]


async def test_a_short_exchange_has_no_row_while_it_runs(
    usage: UsageStore, database: Database, rows: Rows
) -> None:
    statements: list[str] = []
    await database.writer.submit(lambda connection: connection.set_trace_callback(statements.append))
    usage.admit(admitted(record(1)))
    await usage.settle(record(1))
    await database.writer.submit(lambda connection: connection.set_trace_callback(None))
    assert sum("INTO exchanges" in statement for statement in statements) == 1
    assert rows(RECORDS) == [(record_id(1), "ok")]


async def test_one_that_was_refused_leaves_no_row(usage: UsageStore, database: Database, rows: Rows) -> None:
    await usage.hold(admitted(record(1)), Hold((), 5))
    await usage.hold(admitted(record(2)), Hold((), 5))
    usage.admit(admitted(record(3)))
    await usage.settle(record(2))
    for number in (1, 2, 3):  # what is settled stays
        usage.withdraw(record_id(number))
    await database.writer.submit(lambda connection: None)
    assert rows(RECORDS) == [(record_id(2), "ok")]
    assert usage._admitted == {}


async def test_a_longer_one_gets_a_row_and_then_a_record(
    usage: UsageStore, database: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "ADMISSION_S", 0.02)
    monkeypatch.setattr(writer_module, "POST_S", 0)
    usage.admit(admitted(record(1)))
    usage.admit(admitted(record(2)))
    await usage.settle(record(2))
    while rows(RECORDS) != [(record_id(1), None), (record_id(2), "ok")]:
        await asyncio.sleep(0)
    assert rows(SUMS) == [(1, 0, 1000, 1_234_567)]  # a running exchange is in no sum
    await usage.settle(record(1))
    assert rows(RECORDS) == [(record_id(1), "ok"), (record_id(2), "ok")]
    assert rows(SUMS) == [(2, 0, 2000, 2_469_134)]


async def test_each_admission_is_written_at_its_own_age(
    usage: UsageStore, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "ADMISSION_S", 0.02)
    monkeypatch.setattr(writer_module, "POST_S", 0)
    usage.admit(admitted(record(1)))
    while len(rows(RECORDS)) < 1:
        usage.admit(admitted(record(2)))  # younger each time
        await asyncio.sleep(0)
    assert rows(RECORDS) == [(record_id(1), None)]
    while len(rows(RECORDS)) < 2:
        await asyncio.sleep(0)


async def test_nothing_is_looked_after_while_nothing_runs(
    usage: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "ADMISSION_S", 0)
    usage.admit(admitted(record(1)))
    await usage.settle(record(1))
    while usage._timer is not None:
        await asyncio.sleep(0)


async def test_what_a_crash_left_is_settled_once(
    path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "_RECOVERED", 2)
    monkeypatch.setattr(usage_module, "ADMISSION_S", 0)
    database = await Database.open(path)
    before = UsageStore(database)
    for number in range(5):
        before.admit(admitted(record(number)))
    await before.settle(record(4))
    while before._timer is not None:
        await asyncio.sleep(0)
    await database.close()

    database = await Database.open(path)
    usage = UsageStore(database)
    assert await usage.recover() == 4
    assert await usage.recover() == 0
    assert rows(RECORDS) == [(record_id(number), "ok" if number == 4 else "crash") for number in range(5)]
    assert await usage.get(record_id(0)) == record(
        0,
        ended_ms=record(0).created_ms,
        provider=None,
        upstream_model=None,
        status=500,
        billing=Billing.VOID,
        finish=Finish.CRASH,
        usage=Usage(),
        cost_nanos=0,
        discount="1",
        price=None,
        attempts=(),
        timings={},
    )
    (total,) = await usage.sums(start="2026-09-21", end="2026-09-21")
    assert (total.requests, total.failed, total.cost_nanos) == (5, 4, 1_234_567)
    await database.close()


async def test_recovery_does_not_wait_for_a_database_that_cannot_be_written(
    usage: UsageStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    await database.writer.submit(
        lambda connection: connection.execute(
            "INSERT INTO exchanges (id, created_ms, day, key_id, account, dialect, endpoint, stream, model) "
            "VALUES ('req_1', 1, '2026-09-21', 'key_1', 'default', 'chat', '/', 0, 'fast')"
        )
    )
    await database.writer.submit(lambda connection: connection.execute("PRAGMA query_only = ON"))
    with pytest.raises(LedgerUnavailable):
        await usage.recover()


async def test_a_settlement_waits_until_the_database_can_be_written(
    usage: UsageStore,
    database: Database,
    rows: Rows,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    await database.writer.submit(lambda connection: connection.execute("PRAGMA busy_timeout = 0"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    settled = usage.settle(record(1))
    while database.writer.healthy:
        await asyncio.sleep(0)
    assert not settled.done()
    assert f'usage record {{"id":"{record_id(1)}"' in caplog.text  # all of it: the log is the last resort
    other.close()
    assert (await settled).written
    assert rows(SUMS) == [(1, 0, 1000, 1_234_567)]


class Failing:
    """Makes SQLite fail at its n-th step from now on, whatever that is, once."""

    def __init__(self, connection: sqlite3.Connection, step: int) -> None:
        self.failed = False
        self._left = step
        connection.set_progress_handler(self, 1)

    def __call__(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.failed = True
        return self.failed and self._left == 0


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = database_module._open_writing(path, "NORMAL")
    yield connection
    connection.close()


@pytest.mark.parametrize("ran", [False, True], ids=["at once", "after running"])
def test_a_settlement_that_fails_at_any_step_has_its_whole_effect_or_none(
    connection: sqlite3.Connection, path: Path, rows: Rows, ran: bool
) -> None:
    additions = daily.Additions()
    finished: list[Job] = []
    committer = Committer(connection, path, finished.extend)
    committer.companions.append(additions)
    step, failures = 0, 0
    while True:
        step += 1
        item = record(step)
        if ran:
            usage_module.records.write_running(connection, [admitted(item)])
        failing = Failing(connection, step)
        committer.commit([Job(Settlement(item, additions), None, keep=True)])
        connection.set_progress_handler(None, 0)
        if not failing.failed:
            break
        failures += 1
        whole = bool(rows("SELECT 1 FROM exchanges WHERE id = ? AND finish = 'ok'", item.id))
        assert rows("SELECT sum(requests) FROM daily_sums")[0][0] == (step if whole else step - 1 or None)
        committer.commit([])  # once nothing fails any more
        assert committer.healthy
        assert rows(SUMS) == [(step, 0, 1000 * step, 1_234_567 * step)]
    assert failures > 50
    assert len(finished) == step
    assert rows("PRAGMA integrity_check") == [("ok",)]


def test_a_settlement_says_in_the_log_all_that_there_is_to_know() -> None:
    text = str(Settlement(record(1), daily.Additions()))
    assert msgspec.json.decode(text.removeprefix("usage record "), type=type(record(1))) == record(1)


async def test_what_cannot_be_charged_stops_no_start(
    usage: UsageStore, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """An account that is not there, a note that is not readable: settled without a charge, and logged."""
    await usage.hold(admitted(record(1, account="gone")), Hold((), 5))
    await usage.hold(admitted(record(2)), Hold((), 5))
    usage.note([record(1, account="gone", cost_nanos=7)])
    await database.writer.submit(
        lambda connection: connection.execute(
            "UPDATE exchanges SET progress = '{' WHERE id = ?", (record_id(2),)
        )
    )
    assert await usage.recover() == 2
    for number in (1, 2):
        found = await usage.get(record_id(number))
        assert found is not None
        assert (found.finish, found.cost_nanos, found.billing) == (Finish.CRASH, 0, Billing.VOID)
    assert "not charged, since it is refused: usage record" in caplog.text
    assert f"what was noted of {record_id(2)} cannot be read" in caplog.text
    assert await usage.recover() == 0
