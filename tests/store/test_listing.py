import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.entities import Finish, UsageRecord
from proxy.store import listing
from proxy.store.database import Database
from proxy.store.listing import STATEMENTS, read_page
from proxy.store.records import write_running
from proxy.store.usage import UsageStore
from tests.support.records import FIRST_MS, admitted, record, record_id

DAY_MS = 86_400_000

LISTED = [
    record(1),
    record(2, key_id="key_2", account="acme"),
    record(3, model="slow"),
    record(4, provider="ali", finish=Finish.TIMEOUT, status=504),
    record(5, provider=None, finish=Finish.CLIENT_GONE, status=499),
    record(6, status=201),
    record(7, key_id="key_2", finish=Finish.TIMEOUT, status=200),
]


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({}, [7, 6, 5, 4, 3, 2, 1]),
        ({"before": record_id(3)}, [2, 1]),
        ({"before": "no id at all"}, []),
        ({"limit": 2}, [7, 6]),
        ({"account": "acme"}, [2]),
        ({"key": "key_2"}, [7, 2]),
        ({"key": "key_2", "before": record_id(7)}, [2]),
        ({"key": "key_2", "account": "default"}, [7]),
        ({"key": "key_2", "status": "timeout"}, [7]),
        ({"key": "key_1", "model": "slow"}, [3]),
        ({"model": "slow"}, [3]),
        ({"provider": "ali"}, [4]),
        ({"status": "ok"}, [6, 3, 2, 1]),
        ({"status": "timeout"}, [7, 4]),
        ({"status": "timeout", "provider": "ali"}, [4]),
        ({"status": "timeout", "before": record_id(7)}, [4]),
        ({"status": "crash"}, []),
        ({"status": "200"}, [7, 3, 2, 1]),
        ({"status": "201"}, [6]),
        ({"status": "499"}, [5]),
        ({"status": "nonsense"}, []),
    ],
    ids=str,
)
async def test_listing(database: Database, filters: dict[str, Any], numbers: list[int]) -> None:
    usage = UsageStore(database)
    await asyncio.gather(*(usage.settle(item) for item in reversed(LISTED)))
    found, _ = await read_page(database, **{"limit": 10, **filters})
    assert [item.id for item in found] == [record_id(number) for number in numbers]


async def test_what_runs_is_not_listed(database: Database) -> None:
    usage = UsageStore(database)
    await usage.settle(record(1))
    await database.writer.submit(lambda connection: write_running(connection, [admitted(record(2))]))
    for filters in ({}, {"key": "key_1"}, {"model": "fast"}, {"status": "200"}):
        assert await read_page(database, limit=10, **filters) == ([record(1)], None)


@pytest.mark.parametrize(
    ("walked", "plan"),
    [
        ("exchanges WHERE", "INDEX sqlite_autoindex_exchanges_1 (id>? AND id<?)"),
        ("exchanges_by_key", "INDEX exchanges_by_key (key_id=? AND id>? AND id<?)"),
        ("exchanges_failed", "INDEX exchanges_failed (id>? AND id<?)"),
    ],
    ids=["all", "of a key", "failed"],
)
async def test_each_listing_walks_an_index_and_sorts_nothing(
    database: Database, path: Path, walked: str, plan: str
) -> None:
    names = ("before", "first", "account", "key", "model", "provider", "finish", "status", "limit", "offset")
    ((window, page),) = [pair for source, pair in STATEMENTS.items() if walked in source]
    with closing(sqlite3.connect(path)) as connection:
        for statement in (window, page):
            rows = connection.execute("EXPLAIN QUERY PLAN " + statement, dict.fromkeys(names))
            (step,) = [row[3] for row in rows]
            assert plan in step


async def pages_of(usage: UsageStore, **filters: Any) -> list[list[UsageRecord]]:
    pages, cursor = [], None
    while True:
        page, cursor = await usage.list(cursor=cursor, **filters)
        pages.append(page)
        if cursor is None:
            return pages


async def test_a_listing_is_as_long_as_a_page_and_says_how_it_goes_on(database: Database) -> None:
    usage = UsageStore(database)
    await asyncio.gather(*(usage.settle(record(number)) for number in range(5)))
    pages = [[item.id for item in page] for page in await pages_of(usage, limit=2)]
    assert pages == [[record_id(4), record_id(3)], [record_id(2), record_id(1)], [record_id(0)]]
    assert await usage.list(limit=5) == ([record(number) for number in (4, 3, 2, 1, 0)], None)


@pytest.mark.parametrize("patience_s", [1.0, 0.0], ids=["patient", "in haste"])
@given(
    models=st.lists(st.sampled_from(["fast", "slow", "rare"]), max_size=30),
    days=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    window=st.integers(1, 8),
    limit=st.integers(1, 5),
    wanted=st.sampled_from([None, "fast", "rare", "nope"]),
)
@settings(max_examples=25, deadline=None)
def test_all_pages_together_have_each_match_once(
    tmp_path_factory: pytest.TempPathFactory,
    patience_s: float,
    models: list[str],
    days: list[int],
    window: int,
    limit: int,
    wanted: str | None,
) -> None:
    """However small a window, however soon a page ends, and with days between that have no match."""
    moments = [FIRST_MS + sum(days[:index]) * DAY_MS + index for index in range(len(models))]
    items = [
        record(
            index,
            id=f"req_{moment:012x}{index:020x}",
            created_ms=moment,
            day=datetime.fromtimestamp(moment / 1000, UTC).date().isoformat(),
            model=model,
            finish=Finish.OK if index % 3 else Finish.TIMEOUT,
        )
        for index, (moment, model) in enumerate(zip(moments, models, strict=True))
    ]

    async def check() -> None:
        database = await Database.open(tmp_path_factory.mktemp("listing") / "sluice.db")
        usage = UsageStore(database)
        await asyncio.gather(*map(usage.settle, items))
        matching = [item for item in reversed(items) if wanted in (None, item.model)]
        for filters, expected in (
            ({}, matching),
            ({"key": "key_1"}, matching),
            ({"status": "timeout"}, [item for item in matching if item.finish is Finish.TIMEOUT]),
        ):
            pages = await pages_of(usage, limit=limit, model=wanted, **filters)
            assert [item for page in pages for item in page] == expected
            assert max(map(len, pages)) <= limit
        await database.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "WINDOW", window)
        patch.setattr(listing, "PATIENCE_S", patience_s)
        asyncio.run(check())
