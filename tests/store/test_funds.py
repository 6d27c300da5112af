"""Calls about money are made once; funds and entries are read as they were written."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import EntryKind, LedgerEntry
from proxy.core.errors import InsufficientQuota, RequestRefused
from proxy.core.funding import Funds, Grant, Subscription
from proxy.store import funds as module
from proxy.store import ledger
from proxy.store.database import Database
from proxy.store.errors import LedgerUnavailable
from proxy.store.funds import FundStore, MoneyCall, accounts_without_funds
from proxy.store.ledger import Cause

NOW_MS = 1_790_000_000_000
NANOS = 10**9

Rows = Callable[..., list[tuple[Any, ...]]]


def cause(kind: EntryKind = EntryKind.TOPUP, at_ms: int = NOW_MS, account: str = "default") -> Cause:
    return Cause(account, at_ms, kind, "admin", "a note")


def call(key: str = "key", request: str = "topup 5") -> MoneyCall:
    return MoneyCall(key, request, NOW_MS)


def adding(nanos: int, at_ms: int = NOW_MS) -> Callable[[sqlite3.Connection], None]:
    return lambda connection: ledger.top_up(connection, cause(at_ms=at_ms), nanos)


def rendered(funds: Funds, entries: Sequence[LedgerEntry]) -> str:
    return f"{funds.wallet_nanos} after {[entry.amount for entry in entries]}"


@pytest.fixture
def store(database: Database) -> FundStore:
    return FundStore(database)


class TestChanges:
    async def test_a_change_answers_with_the_funds_and_the_new_entries(
        self, store: FundStore, rows: Rows
    ) -> None:
        await store.change("default", call("first"), adding(3), rendered)
        changed = await store.change("default", call("second"), adding(5), rendered)
        assert (changed.funds.wallet_nanos, changed.answer, changed.replayed) == (8, "8 after [5]", False)
        assert rows("SELECT wallet_nanos FROM accounts") == [(8,)]

    async def test_a_call_that_is_repeated_changes_nothing_more(self, store: FundStore, rows: Rows) -> None:
        first = await store.change("default", call(), adding(5), rendered)
        await store.change("default", call("between"), adding(1), rendered)
        again = await store.change("default", call(), adding(5), rendered)
        assert (again.answer, again.replayed) == (first.answer, True)
        assert again.funds.wallet_nanos == 6  # memory gets the funds of today
        assert rows("SELECT count(*) FROM ledger") == [(2,)]

    async def test_after_a_restart_too(self, path: Path) -> None:
        answers = []
        for _ in range(2):
            database = await Database.open(path)
            answers.append((await FundStore(database).change("default", call(), adding(5), rendered)).answer)
            await database.close()
        assert answers == ["5 after [5]"] * 2

    async def test_sent_many_times_at_once_it_has_one_effect_and_one_answer(
        self, store: FundStore, rows: Rows
    ) -> None:
        calls = [store.change("default", call(), adding(5), rendered) for _ in range(20)]
        changed = await asyncio.gather(*calls)
        assert {one.answer for one in changed} == {"5 after [5]"}
        assert [one.replayed for one in changed] == [False] + [True] * 19
        assert rows("SELECT wallet_nanos FROM accounts") == [(5,)]

    async def test_another_call_with_the_same_key_is_a_conflict(self, store: FundStore, rows: Rows) -> None:
        await store.change("default", call(), adding(5), rendered)
        with pytest.raises(RequestRefused) as refused:
            await store.change("default", call(request="topup 6"), adding(6), rendered)
        assert (refused.value.status, refused.value.code) == (409, "idempotency_conflict")
        assert rows("SELECT wallet_nanos FROM accounts") == [(5,)]

    async def test_what_fails_changes_nothing_is_forgotten_and_hurts_no_neighbour(
        self, store: FundStore, rows: Rows
    ) -> None:
        plan = Subscription("pro", NANOS, NANOS, NOW_MS, NOW_MS + 1)

        def spending(connection: sqlite3.Connection) -> None:
            ledger.top_up(connection, cause(), 1)
            ledger.subscribe(connection, cause(EntryKind.SUBSCRIBE), NANOS, plan)

        outcomes = await asyncio.gather(
            store.change("default", call("a"), adding(5), rendered),
            store.change("default", call("b"), spending, rendered),
            store.change("default", call("c"), adding(7), rendered),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes][1] is InsufficientQuota
        assert rows("SELECT wallet_nanos FROM accounts") == [(12,)]
        assert rows("SELECT key FROM money_calls ORDER BY key") == [("a",), ("c",)]
        await store.change("default", call("d"), adding(NANOS), rendered)
        assert (await store.change("default", call("b"), spending, rendered)).replayed is False

    async def test_a_closed_database_takes_none(self, path: Path, rows: Rows) -> None:
        database = await Database.open(path)
        await database.close()
        with pytest.raises(LedgerUnavailable):
            await FundStore(database).change("default", call(), adding(5), rendered)
        assert rows("SELECT count(*) FROM money_calls") == [(0,)]

    async def test_an_answer_shows_grants_that_are_used_up(self, store: FundStore) -> None:
        shown: list[Funds] = []

        def render(funds: Funds, entries: Sequence[LedgerEntry]) -> str:
            shown.append(funds)
            return ""

        await store.give("default", Grant("a", 5, 5, NOW_MS), "gift")
        changed = await store.change(
            "default",
            call(),
            lambda connection: ledger.adjust(connection, cause(EntryKind.ADJUST), "grant:a", -5),
            render,
        )
        assert changed.funds.grants == ()
        assert shown[0].grants == (Grant("a", 5, 0, NOW_MS),)


class TestReading:
    async def test_funds_of_all_accounts_are_loaded(self, store: FundStore) -> None:
        await store.change("default", call(), adding(5), rendered)
        assert await store.load() == {"default": Funds(wallet_nanos=5)}

    async def test_what_expired_is_taken(self, store: FundStore) -> None:
        await store.give("default", Grant("a", 5, 5, NOW_MS, None, NOW_MS + 10), "gift")
        await store.give("default", Grant("b", 6, 6, NOW_MS, ("m*",), None), "gift")
        funds = await store.expire("default", NOW_MS + 10)
        assert [grant.id for grant in funds.grants] == ["b"]
        assert [grant.id for grant in (await store.grants(["default"], NOW_MS + 10))["default"]] == ["b"]
        entries, _ = await store.entries("default", limit=1)
        assert (entries[0].kind, entries[0].fund, entries[0].amount) == ("expire", "grant:a", -5)

    async def test_entries_come_in_pages_newest_first(self, store: FundStore) -> None:
        for number in range(1, 6):
            await store.change("default", call(str(number)), adding(number), rendered)
        found, cursor = [], None
        while True:
            page, cursor = await store.entries("default", limit=2, before=cursor)
            found += [entry.amount for entry in page]
            if cursor is None:
                break
        assert found == [5, 4, 3, 2, 1]
        assert await store.entries("nobody", limit=2) == ([], None)

    async def test_a_statement_is_of_a_time_and_in_its_order(self, store: FundStore) -> None:
        for number, at_ms in enumerate((10, 20, 20, 20, 15, 30, 40), 1):
            await store.change("default", call(str(number)), adding(number, at_ms), rendered)
        found: list[LedgerEntry] = []
        start_ms, after = 15, 0
        while True:
            page = await store.statement("default", start_ms=start_ms, end_ms=40, limit=2, after=after)
            found += page
            if len(page) < 2:
                break
            start_ms, after = page[-1].created_ms, page[-1].id
        assert [entry.amount for entry in found] == [5, 2, 3, 4, 6]

    def test_a_statement_reads_its_own_entries_alone(self, tmp_path: Path) -> None:
        asyncio.run(made(tmp_path / "sluice.db"))
        parameters = {"account": "a", "start": 1, "end": 2, "after": 3, "limit": 4}
        with closing(sqlite3.connect(tmp_path / "sluice.db")) as connection:
            plan = connection.execute("EXPLAIN QUERY PLAN " + module._STATEMENT, parameters).fetchall()
        assert [step[3] for step in plan] == [
            "SEARCH ledger USING INDEX ledger_by_time (account=? AND created_ms>? AND created_ms<?)"
        ]


async def made(path: Path) -> None:
    await (await Database.open(path)).close()


class TestWithoutFunds:
    async def prepared(self, path: Path) -> Database:
        database = await Database.open(path)
        store = FundStore(database)

        def accounts(connection: sqlite3.Connection) -> None:
            for name in ("disabled", "granted", "ran out", "subscribed", "topped up", "used up"):
                enabled = name != "disabled"
                connection.execute(
                    "INSERT INTO accounts (name, enabled, created_ms) VALUES (?, ?, 0)", (name, enabled)
                )
            plan = Subscription("pro", NANOS, NANOS, NOW_MS, NOW_MS + 10)
            ledger.subscribe(connection, cause(EntryKind.SUBSCRIBE, account="subscribed"), 0, plan)
            ledger.top_up(connection, cause(account="topped up"), NANOS)
            ledger.give_tokens(connection, cause(account="used up"), Grant("u", 5, 5, NOW_MS))
            ledger.adjust(connection, cause(account="used up"), "grant:u", -5)

        await database.writer.submit(accounts)
        await store.give("granted", Grant("g", 5, 5, NOW_MS), "gift")
        await store.give("ran out", Grant("r", 5, 5, NOW_MS, None, NOW_MS + 10), "gift")
        return database

    async def test_they_are_found_in_a_file_in_use_or_not(self, path: Path) -> None:
        database = await self.prepared(path)
        assert accounts_without_funds(path, NOW_MS, 0) == ["default", "used up"]
        await database.close()
        assert accounts_without_funds(path, NOW_MS, 0) == ["default", "used up"]
        assert accounts_without_funds(path, NOW_MS + 10, 0) == ["default", "ran out", "subscribed", "used up"]
        assert accounts_without_funds(path, NOW_MS, 1) == []
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_without_a_database_there_are_none(self, path: Path) -> None:
        assert accounts_without_funds(path, NOW_MS, 0) == []
        assert not path.exists()
        path.write_bytes(b"something else" * 100)
        assert accounts_without_funds(path, NOW_MS, 0) == []
