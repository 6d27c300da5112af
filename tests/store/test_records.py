import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Attempt, Billing, Finish, Usage, UsageRecord
from proxy.store import records
from proxy.store.database import Database
from proxy.store.records import Running
from proxy.store.usage import UsageStore
from tests.support.records import admitted, record, record_id

Rows = Callable[..., list[tuple[Any, ...]]]

BARE = record(
    1,
    stream=False,
    provider=None,
    upstream_model=None,
    status=502,
    billing=Billing.VOID,
    finish=Finish.UPSTREAM_ERROR,
    error_code="upstream_reset",
    usage=Usage(),
    estimated=True,
    cost_nanos=0,
    price=None,
    attempts=(),
    timings={},
)

RICH = record(
    2,
    model="naïve \U0001f600 '\"\\",
    attempts=(
        Attempt("ali", "qwen", None, 1, None, "upstream_connect_failed", None, None),
        Attempt("deepseek", "v4", "…abcd", 2, 200, None, 12.5, 99.0),
    ),
    timings={"first_byte": 12.0, "total": 99.75},
)


def write(item: UsageRecord) -> Callable[[sqlite3.Connection], bool]:
    return lambda connection: records.write(connection, item)


def begin(*items: UsageRecord) -> Callable[[sqlite3.Connection], None]:
    return lambda connection: records.write_running(connection, [admitted(item) for item in items])


@pytest.mark.parametrize("item", [record(0), BARE, RICH], ids=["plain", "bare", "rich"])
@pytest.mark.parametrize("ran", [False, True], ids=["at once", "after running"])
async def test_a_record_comes_back_as_it_was(database: Database, item: UsageRecord, ran: bool) -> None:
    if ran:
        await database.writer.submit(begin(item))
    assert await database.writer.submit(write(item)) is True
    assert await records.read(database, item.id) == item


async def test_a_record_is_written_once(database: Database) -> None:
    await database.writer.submit(write(record(1)))
    assert await database.writer.submit(write(record(1, cost_nanos=5, finish=Finish.CRASH))) is False
    await database.writer.submit(begin(record(1)))  # late: changes nothing
    assert await records.read(database, record_id(1)) == record(1)


async def test_what_runs_is_not_shown_as_a_record(database: Database) -> None:
    await database.writer.submit(begin(record(2), record(1, stream=False)))
    assert await records.read(database, record_id(1)) is None
    assert await records.read_list(database, limit=10) == []
    assert await records.read_list(database, limit=10, key="key_1") == []
    first, second = (
        Running(admitted(of), held=False, progress=None) for of in (record(1, stream=False), record(2))
    )
    assert await records.read_running(database, 10) == [first, second]
    assert await records.read_running(database, 1) == [first]
    await database.writer.submit(write(record(1, stream=False)))
    assert await records.read_running(database, 10) == [second]


@pytest.mark.parametrize(
    ("owner", "seen"),
    [
        ({}, True),
        ({"account": "default"}, True),
        ({"key": "key_1"}, True),
        ({"account": "default", "key": "key_1"}, True),
        ({"account": "acme"}, False),
        ({"key": "key_2"}, False),
        ({"account": "acme", "key": "key_1"}, False),
    ],
    ids=str,
)
async def test_a_foreign_record_is_not_seen(database: Database, owner: dict[str, str], seen: bool) -> None:
    await database.writer.submit(write(record(1)))
    assert (await records.read(database, record_id(1), **owner) is not None) == seen
    assert bool(await records.read_list(database, limit=10, **owner)) == seen


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
    await asyncio.gather(*(database.writer.submit(write(item)) for item in reversed(LISTED)))
    found = await records.read_list(database, **{"limit": 10, **filters})
    assert [item.id for item in found] == [record_id(number) for number in numbers]


@pytest.mark.parametrize(
    ("statement", "plan"),
    [
        (records._LIST, "USING INDEX sqlite_autoindex_exchanges_1 (id<?)"),
        (records._LIST_OF_KEY, "USING INDEX exchanges_by_key (key_id=? AND id<?)"),
        (records._LIST_FAILED, "USING INDEX exchanges_failed (id<?)"),
        (records._RUNNING, "USING INDEX exchanges_running"),
        (records._GET, "USING INDEX sqlite_autoindex_exchanges_1 (id=?)"),
    ],
    ids=["all", "key", "failed", "running", "one"],
)
async def test_each_listing_walks_an_index_and_sorts_nothing(
    database: Database, path: Path, statement: str, plan: str
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        nothing = dict.fromkeys(
            ("id", "before", "account", "key", "model", "provider", "finish", "status", "limit")
        )
        parameters: Any = (1,) if "?" in statement else nothing
        steps = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters)]
    assert len(steps) == 1
    assert plan in steps[0]


async def test_a_listing_is_as_long_as_a_page_and_says_how_it_goes_on(database: Database) -> None:
    usage = UsageStore(database)
    await asyncio.gather(*(usage.settle(record(number)) for number in range(5)))
    pages, cursor = [], None
    while True:
        page, cursor = await usage.list(limit=2, cursor=cursor)
        pages.append([item.id for item in page])
        if cursor is None:
            break
    assert pages == [[record_id(4), record_id(3)], [record_id(2), record_id(1)], [record_id(0)]]
    assert await usage.list(limit=5) == ([record(number) for number in (4, 3, 2, 1, 0)], None)
