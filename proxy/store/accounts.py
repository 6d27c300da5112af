"""Accounts on disk. While serving they are held in memory, and change there after the commit."""

import asyncio
import sqlite3

from proxy.core.entities import Account
from proxy.store.database import Database

_LOAD = "SELECT name, plan, enabled, created_ms FROM accounts ORDER BY created_ms, name"

_INSERT = "INSERT INTO accounts (name, plan, enabled, created_ms) VALUES (?, ?, ?, ?)"

_REPLACE = "UPDATE accounts SET plan = ?, enabled = ? WHERE name = ?"


class AccountStore:
    """All accounts; `default` is made by the first migration."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[Account]:
        """Return all accounts, oldest first."""
        rows = await self._database.fetch_all(_LOAD)
        return [Account(row["name"], row["plan"], bool(row["enabled"]), row["created_ms"]) for row in rows]

    def insert(self, account: Account) -> asyncio.Future[None]:
        """Add an account; the future fails with sqlite3.IntegrityError if the name is taken."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_INSERT, (account.name, account.plan, account.enabled, account.created_ms))

        return self._database.writer.submit(work)

    def replace(self, account: Account) -> asyncio.Future[None]:
        """Write all that may change; the future fails with LookupError if there is no such account."""

        def work(connection: sqlite3.Connection) -> None:
            values = (account.plan, account.enabled, account.name)
            if not connection.execute(_REPLACE, values).rowcount:
                raise LookupError(f"no such account: {account.name}")

        return self._database.writer.submit(work)
