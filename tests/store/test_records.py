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


@pytest.mark.parametrize(
    ("statement", "plan"),
    [
        (records._RUNNING, "USING INDEX exchanges_running"),
        (records._GET, "USING INDEX sqlite_autoindex_exchanges_1 (id=?)"),
    ],
    ids=["running", "one"],
)
async def test_what_is_read_is_found_by_an_index(
    database: Database, path: Path, statement: str, plan: str
) -> None:
    parameters: Any = (1,) if "?" in statement else dict.fromkeys(("id", "account", "key"))
    with closing(sqlite3.connect(path)) as connection:
        (step,) = connection.execute("EXPLAIN QUERY PLAN " + statement, parameters).fetchall()
    assert plan in step[3]
