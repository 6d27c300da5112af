"""Small facts that outlive a start, such as the digest of the admin key."""

import asyncio
import sqlite3

from proxy.store.database import Database

_GET = "SELECT value FROM settings WHERE name = ?"

_SET = """
INSERT INTO settings (name, value) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


class SettingStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> str | None:
        row = await self._database.fetch_one(_GET, (name,))
        return None if row is None else row["value"]

    def set(self, name: str, value: str) -> asyncio.Future[None]:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_SET, (name, value))

        return self._database.writer.submit(work)
