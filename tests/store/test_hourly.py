import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from proxy.core.entities import Finish
from proxy.core.histogram import bucket_of
from proxy.store import hourly
from proxy.store.database import Database
from proxy.store.hourly import GROUPS, HOUR_MS, HOURS_KEPT
from proxy.store.records import write_running
from proxy.store.usage import UsageStore
from tests.support.records import FIRST_MS, admitted, record

START = FIRST_MS // HOUR_MS * HOUR_MS


@pytest.fixture
async def usage(database: Database) -> UsageStore:
    return UsageStore(database)


async def settle(usage: UsageStore, number: int, **changes: object) -> None:
    await usage.settle(record(number, **changes))


def buckets(*milliseconds: float) -> Mapping[int, int]:
    return Counter(map(bucket_of, milliseconds))


async def test_counts_by_hour(usage: UsageStore) -> None:
    await settle(usage, 1)
    await settle(usage, 2, finish=Finish.TIMEOUT, model="slow", provider=None)
    await settle(usage, HOUR_MS)
    found = await usage.hours(START)
    assert [(item.hour_ms, item.requests, item.failed, item.tokens, item.cost_nanos) for item in found] == [
        (START, 2, 1, 2400, 2 * 1_234_567),
        (START + HOUR_MS, 1, 0, 1200, 1_234_567),
    ]
    parted = {by: [(item.name, item.requests) for item in await usage.hours(START, by)] for by in GROUPS}
    assert parted == {
        "model": [("fast", 1), ("slow", 1), ("fast", 1)],
        "provider": [("", 1), ("deepseek", 1), ("deepseek", 1)],
        "key": [("key_1", 2), ("key_1", 1)],
        "account": [("default", 2), ("default", 1)],
    }


async def test_an_exchange_counts_once(usage: UsageStore) -> None:
    await settle(usage, 1)
    await settle(usage, 1, finish=Finish.CRASH)
    assert [(item.requests, item.failed) for item in await usage.hours(START)] == [(1, 0)]


async def test_the_hour_asked_for_is_the_first(usage: UsageStore) -> None:
    for hour in range(3):
        await settle(usage, hour * HOUR_MS, timings={"total_ms": 5.0})
    since = START + HOUR_MS + 17
    assert [item.hour_ms for item in await usage.hours(since)] == [
        START + HOUR_MS,
        START + 2 * HOUR_MS,
    ]
    assert sorted(await usage.times(since)) == [START + HOUR_MS, START + 2 * HOUR_MS]


async def test_times_are_of_what_ended_well(usage: UsageStore) -> None:
    await settle(usage, 1, timings={"total_ms": 900.25, "first_output_ms": 312.5})
    await settle(usage, 2, timings={"total_ms": 900.25})
    await settle(usage, 3, timings={"total_ms": 77.0}, finish=Finish.TIMEOUT)
    await settle(usage, 4, timings={})
    await settle(usage, HOUR_MS, timings={"total_ms": 7.0})
    assert await usage.times(START) == {
        START: {"total_ms": buckets(900.25, 900.25), "first_output_ms": buckets(312.5)},
        START + HOUR_MS: {"total_ms": buckets(7.0)},
    }


async def test_what_gathers_is_written_at_the_close(path: Path) -> None:
    database = await Database.open(path)
    usage = UsageStore(database)
    await settle(usage, 1)
    usage.flush()
    await database.close()
    database = await Database.open(path)
    assert [item.requests for item in await UsageStore(database).hours(START)] == [1]
    await database.close()


async def test_what_gathers_is_written_after_a_second(
    database: Database, usage: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hourly, "GATHERED_S", 0.0)
    written = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(database.writer, "post", written.set_result)
    await settle(usage, 1)
    assert str(await written) == "sums by hour of 1 exchanges"


async def test_what_a_crash_left_is_counted(database: Database, usage: UsageStore) -> None:
    await database.writer.submit(lambda connection: write_running(connection, [admitted(record(1))]))
    assert await usage.recover() == 1
    assert [(item.requests, item.failed) for item in await usage.hours(START)] == [(1, 1)]


async def test_while_nothing_can_be_written_the_hours_before_are_read(
    database: Database, usage: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settle(usage, 1)
    await usage.hours(START)
    monkeypatch.setattr(hourly, "WAIT_S", 0.01)
    never = asyncio.get_running_loop().create_future()
    await settle(usage, 2)
    monkeypatch.setattr(database.writer, "submit", lambda work, **options: never)
    assert [item.requests for item in await usage.hours(START)] == [1]


async def test_old_hours_are_forgotten(usage: UsageStore) -> None:
    await settle(usage, 1, timings={"total_ms": 5.0})
    await settle(usage, HOURS_KEPT * HOUR_MS)
    assert [item.hour_ms for item in await usage.hours(0)] == [START, START + HOURS_KEPT * HOUR_MS]
    await settle(usage, (HOURS_KEPT + 1) * HOUR_MS)
    assert [item.hour_ms for item in await usage.hours(0)] == [
        START + HOURS_KEPT * HOUR_MS,
        START + (HOURS_KEPT + 1) * HOUR_MS,
    ]
    assert await usage.times(0) == {}


async def test_a_database_of_before_begins_with_its_last_days(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    database = await Database.open(path)
    usage = UsageStore(database)
    await settle(usage, 1)  # long ago
    now_ms = 1000 * int(await now(database))
    for number, finish in ((1, Finish.OK), (2, Finish.TIMEOUT)):
        recent = now_ms - number * 60_000
        await settle(usage, number, id=f"req_{recent:012x}{number:016x}", created_ms=recent, finish=finish)
    await database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "DROP TABLE hourly_sums; DROP TABLE hourly_times; DELETE FROM migrations WHERE version >= 4"
        )
    database = await Database.open(path)
    found = await UsageStore(database).hours(0)
    await database.close()
    assert sum(item.requests for item in found) == 2
    assert sum(item.failed for item in found) == 1
    assert sum(item.tokens for item in found) == 2400
    assert {item.hour_ms for item in found} <= {
        (now_ms - minutes * 60_000) // HOUR_MS * HOUR_MS for minutes in (1, 2)
    }


async def now(database: Database) -> str:
    row = await database.fetch_one("SELECT strftime('%s', 'now') AS now")
    assert row is not None
    text: str = row["now"]
    return text
