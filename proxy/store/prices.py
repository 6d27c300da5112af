"""The price lists that were imported last: kept whole, as text that is read elsewhere."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from proxy.store.database import Database
from proxy.store.schema import reading_uri

_LOAD = "SELECT file, imported_ms, lists FROM price_import"

_REPLACE = "INSERT OR REPLACE INTO price_import (id, file, imported_ms, lists) VALUES (1, ?, ?, ?)"

_CLEAR = "DELETE FROM price_import"


@dataclass(frozen=True, slots=True)
class PriceImport:
    """The name of the file, when it was imported, and the lists as JSON."""

    file: str
    imported_ms: int
    lists: str


class PriceStore:
    """The last import; a new one takes its place whole."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> PriceImport | None:
        row = await self._database.fetch_one(_LOAD)
        return None if row is None else PriceImport(*row)

    def replace(self, prices: PriceImport) -> asyncio.Future[None]:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_REPLACE, (prices.file, prices.imported_ms, prices.lists))

        return self._database.writer.submit(work)

    def clear(self) -> asyncio.Future[None]:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_CLEAR)

        return self._database.writer.submit(work)


def imported_into(path: Path) -> PriceImport | None:
    """Return the last import of a database that may be in use, without changing the file.

    None also where there is no database yet, or none that has imports.
    """
    try:
        with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
            row = connection.execute(_LOAD).fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else PriceImport(*row)
