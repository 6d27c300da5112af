import asyncio
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.entities import Finish, Usage, UsageRecord
from proxy.store import daily
from proxy.store.daily import DIMENSIONS, Sum, read_day_totals, read_sums
from proxy.store.database import Database
from proxy.store.usage import Settled, UsageStore
from tests.support.records import record

TOKENS = st.integers(0, 10**9)

USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)

RECORDS = st.builds(
    record,
    st.integers(0, 20),  # few: the same exchange is often settled twice
    day=st.sampled_from(["2026-09-20", "2026-09-21", "2026-10-01"]),
    account=st.sampled_from(["default", "acme"]),
    key_id=st.sampled_from(["key_1", "key_2"]),
    provider=st.sampled_from([None, "deepseek", "ali"]),
    model=st.sampled_from(["fast", "naïve \U0001f600"]),
    finish=st.sampled_from(Finish),
    usage=USAGES,
    cost_nanos=st.integers(0, 10**15),
)

GROUPS = [(), ("day",), ("provider", "model"), ("day", "account", "key", "provider", "model")]


async def settle(path: Path, rounds: Sequence[Sequence[UsageRecord]]) -> Database:
    database = await Database.open(path)
    usage = UsageStore(database)
    for records in rounds:
        await asyncio.gather(*map(usage.settle, records))
    return database


def expected(records: Sequence[UsageRecord], by: Sequence[str]) -> dict[tuple[str, ...], Counter[str]]:
    sums: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for item in records:
        names = {
            "day": item.day,
            "account": item.account,
            "key": item.key_id,
            "provider": item.provider or "",
            "model": item.model,
        }
        sums[tuple(names[name] for name in by)].update(
            requests=1,
            failed=int(item.finish != "ok"),
            cost_nanos=item.cost_nanos,
            input_tokens=item.usage.input_tokens,
            output_tokens=item.usage.output_tokens,
            cached_tokens=item.usage.cached_tokens,
            cache_write_tokens=item.usage.cache_write_tokens,
            reasoning_tokens=item.usage.reasoning_tokens,
        )
    return dict(sums)


def counted(item: Sum) -> Counter[str]:
    usage = {name: getattr(item.usage, name) for name in Usage.__struct_fields__}
    return Counter(requests=item.requests, failed=item.failed, cost_nanos=item.cost_nanos, **usage)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(RECORDS, max_size=12), max_size=4))
def test_the_sums_are_those_of_the_records(rounds: list[list[UsageRecord]]) -> None:
    first = {}
    for item in (item for records in rounds for item in records):
        first.setdefault(item.id, item)
    records = list(first.values())

    async def check(path: Path) -> None:
        database = await settle(path, rounds)
        for by in GROUPS:
            found = await read_sums(database, start="2026-09-20", end="2026-10-01", by=by)
            assert [tuple(getattr(item, name) for name in by) for item in found] == sorted(
                expected(records, by)
            )
            for item in found:
                assert counted(item) == expected(records, by)[tuple(getattr(item, name) for name in by)]
                assert {name for name in DIMENSIONS if getattr(item, name) is not None} == set(by)
        await database.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder) / "sluice.db"))


async def test_a_record_that_cannot_be_summed_up_keeps_out_of_its_neighbours_sums(database: Database) -> None:
    usage = UsageStore(database)
    good, bad = record(1), record(2, cost_nanos=2**63)
    outcomes = await asyncio.gather(usage.settle(good), usage.settle(bad), return_exceptions=True)
    assert outcomes[0] == Settled(written=True, funds=None)
    assert isinstance(outcomes[1], OverflowError)
    (total,) = await read_sums(database, start=good.day, end=good.day)
    assert (total.requests, total.cost_nanos) == (1, good.cost_nanos)


async def test_a_sum_that_overflows_refuses_the_record_that_would_make_it(database: Database) -> None:
    usage = UsageStore(database)
    await usage.settle(record(1, cost_nanos=2**63 - 1))
    with pytest.raises(sqlite3.IntegrityError):
        await usage.settle(record(2, cost_nanos=1))
    assert await usage.get(record(2).id) is None


@pytest.mark.parametrize(
    ("filters", "requests"),
    [
        ({}, 6),
        ({"account": "acme"}, 1),
        ({"key": "key_2"}, 2),
        ({"provider": "ali"}, 1),
        ({"provider": ""}, 1),
        ({"model": "slow"}, 1),
        ({"account": "acme", "model": "slow"}, 0),
        ({"start": "2026-09-22"}, 1),
        ({"end": "2026-09-20"}, 1),
        ({"start": "2026-09-21", "end": "2026-09-21"}, 4),
    ],
    ids=str,
)
async def test_filters(path: Path, filters: dict[str, str], requests: int) -> None:
    records = [
        record(1, account="acme"),
        record(2, key_id="key_2"),
        record(3, key_id="key_2", provider="ali", day="2026-09-20"),
        record(4, provider=None),
        record(5, model="slow"),
        record(6, day="2026-10-01"),
    ]
    database = await settle(path, [records])
    days = {"start": "2026-09-01", "end": "2026-10-31"}
    found = await UsageStore(database).sums(**{**days, **filters}, by=("key",))
    assert sum(item.requests for item in found) == requests
    await database.close()


async def test_grouping_by_something_else_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="colour"):
        await read_sums(database, start="2026-01-01", end="2026-12-31", by=("day", "colour"))


async def test_no_exchanges_have_no_sums(database: Database) -> None:
    assert await read_sums(database, start="2026-01-01", end="2026-12-31", by=("day",)) == []


async def test_the_totals_of_a_day_are_by_key(path: Path) -> None:
    records = [
        record(1),
        record(2, model="slow", finish=Finish.TIMEOUT, usage=Usage()),
        record(3, key_id="key_2"),
        record(4, day="2026-09-22"),
    ]
    database = await settle(path, [records])
    assert await read_day_totals(database, "2026-09-21") == {"key_1": (2, 1200), "key_2": (1, 1200)}
    assert await read_day_totals(database, "2026-09-23") == {}
    await database.close()


def test_reports_read_no_exchanges(tmp_path: Path) -> None:
    """What makes a month over a million records quick: its plan names no other table."""

    async def main() -> None:
        await (await settle(tmp_path / "sluice.db", [[record(1)]])).close()

    asyncio.run(main())
    with closing(sqlite3.connect(tmp_path / "sluice.db")) as connection:
        parameters = {
            "start": "a",
            "end": "b",
            **dict.fromkeys(DIMENSIONS),
            **{f"by_{n}": 1 for n in DIMENSIONS},
        }
        plan = connection.execute("EXPLAIN QUERY PLAN " + daily._SUMS, parameters).fetchall()
    assert "SEARCH daily_sums USING PRIMARY KEY (day>? AND day<?)" in [row[3] for row in plan]
    assert not any("exchanges" in row[3] for row in plan)
