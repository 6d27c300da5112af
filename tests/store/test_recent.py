import pytest

from proxy.core.entities import Finish
from proxy.store import recent
from proxy.store.database import Database
from proxy.store.recent import HOUR_MS, Percentiles, read_recent
from proxy.store.usage import UsageStore
from tests.support.records import FIRST_MS, record

START = FIRST_MS // HOUR_MS * HOUR_MS


@pytest.fixture
async def usage(database: Database) -> UsageStore:
    return UsageStore(database)


async def settle(usage: UsageStore, number: int, **changes: object) -> None:
    await usage.settle(record(number, **changes))


async def test_counts_by_hour(database: Database, usage: UsageStore) -> None:
    await settle(usage, 1)
    await settle(usage, 2, finish=Finish.TIMEOUT, model="slow")
    await settle(usage, HOUR_MS)
    found = await read_recent(database, START)
    assert [(item.requests, item.failed, item.tokens) for item in found.counts] == [
        (2, 1, 2400),
        (1, 0, 1200),
    ]
    assert found.counts[1].hour_ms - found.counts[0].hour_ms == HOUR_MS
    assert (found.oldest_ms, found.whole) == (FIRST_MS + 1, True)
    parted = await read_recent(database, START, "model")
    assert [(item.name, item.requests) for item in parted.counts] == [("fast", 1), ("slow", 1), ("fast", 1)]


async def test_what_is_older_is_left_out(database: Database, usage: UsageStore) -> None:
    await settle(usage, 1)
    assert (await read_recent(database, FIRST_MS + 2)).counts == []
    assert (await read_recent(database, FIRST_MS + 2)).oldest_ms is None


async def test_percentiles_are_of_what_ended_well(database: Database, usage: UsageStore) -> None:
    for number in range(1, 21):
        await settle(usage, number, timings={"total_ms": float(number), "first_output_ms": number / 2})
    await settle(usage, 21, timings={"total_ms": 9999.0}, finish=Finish.TIMEOUT)
    await settle(usage, HOUR_MS, timings={"total_ms": 7.0})
    found = await read_recent(database, START)
    hour = FIRST_MS // HOUR_MS * HOUR_MS
    assert found.total[hour] == Percentiles(10.0, 19.0)
    assert found.first_output[hour] == Percentiles(5.0, 9.5)
    assert found.total[hour + HOUR_MS] == Percentiles(7.0, 7.0)
    assert found.total[None] == Percentiles(10.0, 19.0)
    assert found.first_output[None] == Percentiles(5.0, 9.5)


async def test_only_the_newest_are_looked_at(
    database: Database, usage: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "MOST", 2)
    for number in range(1, 4):
        await settle(usage, number)
    found = await read_recent(database, START)
    assert [item.requests for item in found.counts] == [2]
    assert (found.oldest_ms, found.whole) == (FIRST_MS + 2, False)
