"""A database in a real file, and ways to look at it from outside."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.store.database import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sluice.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    database = await Database.open(path)
    yield database
    await database.close()


@pytest.fixture
def rows(path: Path) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Reads the file over a connection of its own: sees what is committed, and nothing else."""

    def read(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(sql, parameters).fetchall()

    return read
