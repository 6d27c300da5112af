"""Funds of accounts on disk: how they are read, and how calls about money are made exactly once."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from proxy.core.entities import EntryKind, LedgerEntry
from proxy.core.errors import RequestRefused
from proxy.core.funding import Funds, Grant
from proxy.store import ledger
from proxy.store.database import Database
from proxy.store.ledger import Cause
from proxy.store.schema import reading_uri

_ACCOUNTS = "SELECT name FROM accounts"

# Grants that are used up stay in the list until they expire: people want to see where they went.
_GRANTS = """
SELECT account, id, tokens, tokens_left, created_ms, models, expires_ms FROM grants
WHERE account IN (SELECT value FROM json_each(?)) AND (expires_ms IS NULL OR expires_ms > ?)
ORDER BY tokens_left = 0, expires_ms IS NULL, expires_ms, created_ms, id
"""

_ENTRIES = """
SELECT id, created_ms, account, kind, fund, amount, balance_after, exchange, actor, note FROM ledger
WHERE account = :account AND id < :before ORDER BY id DESC LIMIT :limit
"""

_NEW_ENTRIES = """
SELECT id, created_ms, account, kind, fund, amount, balance_after, exchange, actor, note FROM ledger
WHERE account = ? AND id > ? ORDER BY id
"""

_LAST_ENTRY = "SELECT coalesce(max(id), 0) FROM ledger"

_STATEMENT = """
SELECT id, created_ms, account, kind, fund, amount, balance_after, exchange, actor, note FROM ledger
WHERE account = :account AND created_ms >= :start AND created_ms < :end
  AND NOT (created_ms = :start AND id <= :after)
ORDER BY created_ms, id LIMIT :limit
"""

_WITHOUT_FUNDS = """
SELECT name FROM accounts
WHERE enabled AND wallet_nanos + :credit_limit <= 0
  AND NOT EXISTS (
    SELECT 1 FROM grants WHERE account = name AND tokens_left > 0
      AND (expires_ms IS NULL OR expires_ms > :now)
  )
  AND NOT EXISTS (
    SELECT 1 FROM subscriptions WHERE account = name AND expires_ms > :now
      AND wallet_nanos + left_nanos + :credit_limit > 0
  )
ORDER BY name
"""

_CALL = "SELECT request, answer FROM money_calls WHERE key = ?"
_KEEP_CALL = "INSERT INTO money_calls (key, request, answer, created_ms) VALUES (?, ?, ?, ?)"

#: Behind every entry.
_END = 1 << 62


class MoneyCall(NamedTuple):
    """A call about money. `key` is its Idempotency-Key, `request` what was asked: path and body."""

    key: str
    request: str
    at_ms: int


#: What a call does to balances: one of the functions of `store/ledger.py` with its arguments.
Change = Callable[[sqlite3.Connection], None]
#: Makes the answer to a call from the funds, used up grants among them, and the new entries; pure, as it
#: runs in the writer's thread.
Render = Callable[[Funds, Sequence[LedgerEntry]], str]


class Changed(NamedTuple):
    """`replayed`: the call had been made before; then nothing was done, and the answer is the first one."""

    funds: Funds
    answer: str
    replayed: bool


class FundStore:
    """Reads funds and entries, and makes the changes that are not an exchange's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> asyncio.Future[dict[str, Funds]]:
        """Return the funds of every account."""
        return self._database.writer.submit(_load)

    def change(
        self, account: str, call: MoneyCall, change: Change, render: Render
    ) -> asyncio.Future[Changed]:
        """Make a change once for each Idempotency-Key; the future resolves after its commit.

        It fails with what `change` raises, and with RequestRefused (409 idempotency_conflict) when
        the key was used for another call.
        """

        def work(connection: sqlite3.Connection) -> Changed:
            known = connection.execute(_CALL, (call.key,)).fetchone()
            if known is not None:
                request, answer = known
                if request != call.request:
                    raise RequestRefused(
                        "idempotency_conflict",
                        "This Idempotency-Key was used for another call: take a new one for each.",
                        status=409,
                    )
                return Changed(ledger.read_funds(connection, account), answer, replayed=True)
            (last,) = connection.execute(_LAST_ENTRY).fetchone()
            change(connection)
            funds = ledger.read_funds(connection, account)
            entries = [_entry(*row) for row in connection.execute(_NEW_ENTRIES, (account, last))]
            answer = render(_shown(connection, account, funds, call.at_ms), entries)
            connection.execute(_KEEP_CALL, (call.key, call.request, answer, call.at_ms))
            return Changed(funds, answer, replayed=False)

        return self._database.writer.submit(work)

    def give(self, account: str, given: Grant, note: str) -> asyncio.Future[Funds]:
        """Give LLM tokens that nobody asked for, such as a new account's; return the funds then."""
        cause = Cause(account, given.created_ms, EntryKind.GRANT, ledger.GATEWAY, note)

        def work(connection: sqlite3.Connection) -> Funds:
            ledger.give_tokens(connection, cause, given)
            return ledger.read_funds(connection, account)

        return self._database.writer.submit(work)

    def expire(self, account: str, now_ms: int) -> asyncio.Future[Funds]:
        """Take what has expired by now; return the funds that are left."""

        def work(connection: sqlite3.Connection) -> Funds:
            ledger.expire(connection, account, now_ms)
            return ledger.read_funds(connection, account)

        return self._database.writer.submit(work)

    async def grants(self, accounts: Sequence[str], now_ms: int) -> dict[str, list[Grant]]:
        """Return the grants of accounts that have not expired, also those that are used up, these last."""
        found: dict[str, list[Grant]] = {account: [] for account in accounts}
        for account, *columns in await self._database.fetch_all(_GRANTS, (_as_list(accounts), now_ms)):
            found[account].append(ledger.grant_of(*columns))
        return found

    async def entries(
        self, account: str, *, limit: int, before: int | None = None
    ) -> tuple[list[LedgerEntry], int | None]:
        """Return entries, newest first, those with ids below `before`, and the cursor of the next page."""
        parameters = {"account": account, "before": before or _END, "limit": limit + 1}
        found = [_entry(*row) for row in await self._database.fetch_all(_ENTRIES, parameters)]
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    async def statement(
        self, account: str, *, start_ms: int, end_ms: int, limit: int, after: int = 0
    ) -> list[LedgerEntry]:
        """Return entries of a time, oldest first; of those of its very first moment, ids above `after`.

        So the next page begins with the moment and the id of the last entry of this one.
        """
        parameters = {
            "account": account,
            "start": start_ms,
            "end": end_ms,
            "after": after,
            "limit": limit,
        }
        return [_entry(*row) for row in await self._database.fetch_all(_STATEMENT, parameters)]


def accounts_without_funds(path: Path, now_ms: int, credit_limit_nanos: int) -> list[str]:
    """Return the accounts whose requests are refused for want of funds; the file may be in use.

    Disabled ones are left out. None also where there is no database yet, or none that knows funds.
    """
    try:
        with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
            parameters = {"now": now_ms, "credit_limit": credit_limit_nanos}
            return [name for (name,) in connection.execute(_WITHOUT_FUNDS, parameters)]
    except sqlite3.Error:
        return []


def _shown(connection: sqlite3.Connection, account: str, funds: Funds, now_ms: int) -> Funds:
    """Return funds with all their grants, as people want to see them."""
    rows = connection.execute(_GRANTS, (_as_list([account]), now_ms)).fetchall()
    return msgspec.structs.replace(funds, grants=tuple(ledger.grant_of(*columns) for _, *columns in rows))


def _as_list(names: Sequence[str]) -> str:
    return msgspec.json.encode(names).decode()


def _load(connection: sqlite3.Connection) -> dict[str, Funds]:
    names = [name for (name,) in connection.execute(_ACCOUNTS).fetchall()]
    return {name: ledger.read_funds(connection, name) for name in names}


def _entry(
    id: int,
    created_ms: int,
    account: str,
    kind: str,
    fund: str,
    amount: int,
    balance_after: int,
    exchange: str | None,
    actor: str,
    note: str | None,
) -> LedgerEntry:
    return LedgerEntry(
        id, created_ms, account, EntryKind(kind), fund, amount, balance_after, exchange, actor, note
    )
