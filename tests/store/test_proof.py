"""The proof of the ledger finds every kind of damage, and nothing where there is none."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from proxy.core.entities import EntryKind, Finish, Usage
from proxy.core.funding import Funds, Grant, Hold, Subscription
from proxy.store import ledger, proof
from proxy.store.database import Database
from proxy.store.errors import LedgerUnavailable
from proxy.store.funds import FundStore, MoneyCall
from proxy.store.ledger import Cause
from proxy.store.proof import Proof, Prover
from proxy.store.schema import migrate, shipped_migrations
from proxy.store.usage import UsageStore
from tests.support.records import FIRST_MS, admitted, record, record_id

DAY_MS = 86_400_000
NANOS = 10**9
#: What keeps the ledger from being damaged by accident; here it is damaged on purpose.
TRIGGERS = ("ledger_is_never_changed", "ledger_is_never_shortened", "ledger_is_never_replaced")


def nothing_said(funds: Funds, entries: Sequence[object]) -> str:
    return ""


async def fill(path: Path) -> None:
    """Make a database in which everything has happened that a ledger knows."""
    database = await Database.open(path)
    usage, funds = UsageStore(database), FundStore(database)

    def work(connection: sqlite3.Connection) -> None:
        cause = Cause("default", FIRST_MS, EntryKind.TOPUP, "admin", "cash")
        ledger.top_up(connection, cause, 50 * NANOS)
        ledger.adjust(connection, cause._replace(kind=EntryKind.ADJUST), ledger.WALLET, -NANOS)
        short = Subscription("pro", NANOS, NANOS, FIRST_MS - 2, FIRST_MS - 1)
        ledger.subscribe(connection, cause._replace(kind=EntryKind.SUBSCRIBE), 0, short)
        ledger.expire(connection, "default", FIRST_MS)
        long = Subscription("pro", 3_000_000, 3_000_000, FIRST_MS, FIRST_MS + DAY_MS)
        ledger.subscribe(connection, cause._replace(kind=EntryKind.SUBSCRIBE), 2 * NANOS, long)
        grant = Grant("grt_1", 3000, 3000, FIRST_MS)
        ledger.give_tokens(connection, cause._replace(kind=EntryKind.GRANT), grant)
        ledger.adjust(connection, cause._replace(kind=EntryKind.ADJUST), "grant:grt_1", -100)

    await funds.change("default", MoneyCall("key", "fill", FIRST_MS), work, nothing_said)
    for number in range(6):
        await usage.hold(admitted(record(number)), Hold((("grt_1", 1200),), 1_234_567))
    await asyncio.gather(*(usage.settle(record(number), paid=True) for number in range(5)))
    await usage.settle(record(10, finish=Finish.TIMEOUT, provider=None, usage=Usage(), cost_nanos=0))
    await usage.settle(record(11, model="slow", day="2026-09-22"))
    await database.close()


async def proved(path: Path) -> Proof:
    database = await Database.open(path)
    try:
        return await Prover(database.path).prove()
    finally:
        await database.close()


def damage(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)


async def test_an_empty_database_is_right(path: Path) -> None:
    assert await proved(path) == Proof(True, 1, 0, 0, 0, [])


async def test_a_busy_database_is_right(path: Path) -> None:
    await fill(path)
    found = await proved(path)
    assert (found.ok, found.accounts, found.exchanges, found.differences) == (True, 1, 8, [])
    assert found.entries > 12


async def test_exchanges_from_before_there_were_funds_are_right(path: Path) -> None:
    oldest = shipped_migrations()[:1]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, oldest)
        connection.execute(
            """INSERT INTO exchanges (id, created_ms, day, key_id, account, dialect, endpoint, stream, model,
            finish, input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
            cost_nanos) VALUES ('req_1', 1, '2026-09-21', 'key_1', 'default', 'chat', '/', 0, 'm',
            'ok', 1, 2, 0, 0, 0, 5)"""
        )
        connection.execute(
            "INSERT INTO daily_sums VALUES ('2026-09-21', 'default', 'key_1', '', 'm', 1,0,1,2,0,0,0,5)"
        )
    assert await proved(path) == Proof(True, 1, 0, 1, 0, [])


async def test_it_is_right_while_exchanges_are_settled(path: Path) -> None:
    await fill(path)
    database = await Database.open(path)
    usage, prover = UsageStore(database), Prover(path)

    async def settle(number: int) -> None:
        of = record(number)
        await usage.hold(admitted(of), Hold((), of.cost_nanos))
        await usage.settle(of, paid=True)

    for start in range(100, 600, 50):
        settling = asyncio.gather(*map(settle, range(start, start + 50)))
        assert (await prover.prove()).differences == []
        await settling
    assert (await prover.prove()).exchanges == 508
    await database.close()


def entry(values: str) -> str:
    columns = "created_ms, account, kind, fund, amount, balance_after, exchange, actor"
    return f"INSERT INTO ledger ({columns}) VALUES ({values})"


#: Paid for with tokens, and with money.
ONE, TWO = record_id(0), record_id(4)
FIVE_LESS = "(SELECT wallet_nanos - 5 FROM accounts)"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param(
            ["UPDATE accounts SET wallet_nanos = wallet_nanos + 1000000000"],
            [("balance", "account default, wallet")],
            id="a wallet",
        ),
        pytest.param(
            ["INSERT INTO accounts (name, enabled, created_ms, wallet_nanos) VALUES ('thief', 1, 0, 5)"],
            [("balance without entries", "account thief, wallet")],
            id="a wallet out of nothing",
        ),
        pytest.param(
            ["UPDATE subscriptions SET left_nanos = left_nanos + 1"],
            [("balance", "account default, subscription")],
            id="a subscription",
        ),
        pytest.param(
            ["UPDATE subscriptions SET left_nanos = -5"],
            [
                ("balance", "account default, subscription"),
                ("balance below zero", "account default, subscription"),
            ],
            id="a subscription below zero",
        ),
        pytest.param(
            ["UPDATE grants SET tokens_left = tokens_left + 1"],
            [("balance", "account default, grant:grt_1")],
            id="a grant",
        ),
        pytest.param(
            ["UPDATE grants SET tokens_left = -5"],
            [
                ("balance", "account default, grant:grt_1"),
                ("balance below zero", "account default, grant:grt_1"),
            ],
            id="a grant below zero",
        ),
        pytest.param(
            ["INSERT INTO grants VALUES ('x', 'default', 5, 0, NULL, 0, NULL)"],
            [("balance without entries", "account default, grant:x")],
            id="a grant out of nothing",
        ),
        pytest.param(
            [entry("0, 'default', 'grant', 'grant:gone', 7, 7, NULL, 'admin'")],
            [("entries without a balance", "account default, grant:gone")],
            id="a grant that is gone",
        ),
        pytest.param(
            [entry("0, 'nobody', 'topup', 'wallet', 7, 7, NULL, 'admin'")],
            [("entries without a balance", "account nobody, wallet")],
            id="an account that is gone",
        ),
        pytest.param(
            ["UPDATE ledger SET balance_after = balance_after + 1 WHERE id = 2"],
            [
                ("balance after an entry", "ledger entry 2, account default, wallet"),
                ("balance after an entry", "ledger entry 5, account default, wallet"),
            ],
            id="a balance after an entry",
        ),
        pytest.param(
            ["DELETE FROM ledger WHERE id = 2"],
            [
                ("balance", "account default, wallet"),
                ("balance after an entry", "ledger entry 5, account default, wallet"),
            ],
            id="an entry that was taken out",
        ),
        pytest.param(
            [f"UPDATE exchanges SET paid_wallet_nanos = paid_wallet_nanos + 1 WHERE id = '{TWO}'"],
            [("paid for an exchange", f"exchange {TWO}, wallet")],
            id="what the wallet paid",
        ),
        pytest.param(
            [f"UPDATE exchanges SET paid_tokens = paid_tokens + 1 WHERE id = '{ONE}'"],
            [("paid for an exchange", f"exchange {ONE}, grants")],
            id="what grants paid",
        ),
        pytest.param(
            [f"UPDATE exchanges SET paid_subscription_nanos = 5 WHERE id = '{ONE}'"],
            [("paid for an exchange", f"exchange {ONE}, subscription")],
            id="what a subscription paid",
        ),
        pytest.param(
            [f"UPDATE exchanges SET paid_wallet_nanos = 5 WHERE id = '{record_id(11)}'"],
            [("paid without charges", f"exchange {record_id(11)}, account default")],
            id="paid without charges",
        ),
        pytest.param(
            [
                entry(f"0, 'default', 'charge', 'wallet', -5, {FIVE_LESS}, 'req_x', 'gateway'"),
                "UPDATE accounts SET wallet_nanos = wallet_nanos - 5",
            ],
            [("charge without a finished exchange", "ledger entry 16, account default")],
            id="a charge of nothing",
        ),
        pytest.param(
            [f"UPDATE exchanges SET hold = '{{}}' WHERE id = '{ONE}'"],
            [("hold of a finished exchange", f"exchange {ONE}, account default")],
            id="a hold of a finished exchange",
        ),
        pytest.param(
            [f"UPDATE exchanges SET account = 'nobody' WHERE id = '{record_id(5)}'"],
            [("hold without an account", f"exchange {record_id(5)}")],
            id="a hold of nobody",
        ),
        pytest.param(
            ["UPDATE daily_sums SET cost_nanos = cost_nanos + 1, failed = 1 WHERE model = 'slow'"],
            [("sums of a day", "day 2026-09-22, account default, key key_1, provider deepseek, model slow")],
            id="sums of a day",
        ),
        pytest.param(
            ["DELETE FROM daily_sums WHERE provider = ''"],
            [("sums of a day", "day 2026-09-21, account default, key key_1, provider , model fast")],
            id="sums that are gone",
        ),
        pytest.param(
            [f"DELETE FROM exchanges WHERE id = '{record_id(11)}'"],
            [("sums of a day", "day 2026-09-22, account default, key key_1, provider deepseek, model slow")],
            id="an exchange that is gone",
        ),
    ],
)
async def test_damage_is_found(path: Path, statements: list[str], expected: list[tuple[str, str]]) -> None:
    await fill(path)
    damage(path, *statements)
    found = await Prover(path).prove()
    assert [(item.what, item.where) for item in found.differences] == expected
    assert (found.ok, found.difference_count) == (False, len(expected))


async def test_a_charge_that_was_made_twice_is_found(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX ledger_charges")
    damage(
        path,
        entry(f"0, 'default', 'charge', 'wallet', -5, {FIVE_LESS}, '{TWO}', 'gateway'"),
        "UPDATE accounts SET wallet_nanos = wallet_nanos - 5",
    )
    found = await Prover(path).prove()
    twice, paid = found.differences
    assert (twice.what, twice.where) == ("charges of an exchange", f"exchange {TWO}, wallet")
    assert (twice.expected, twice.found) == (1, 2)
    assert (paid.what, paid.where) == ("paid for an exchange", f"exchange {TWO}, wallet")


async def test_values_are_shown_in_their_unit(path: Path) -> None:
    await fill(path)
    damage(
        path,
        "UPDATE accounts SET wallet_nanos = 5",
        "UPDATE grants SET tokens_left = 5",
        "UPDATE daily_sums SET cost_nanos = 5 WHERE model = 'slow'",
    )
    found = await Prover(path).prove()
    wallet, grant, sums = found.differences
    assert wallet.found == "0.000000005"
    assert isinstance(wallet.expected, str)
    assert grant.found == 5
    assert isinstance(grant.expected, int)
    assert sums.found == {
        "requests": 1,
        "failed": 0,
        "input_tokens": 1000,
        "output_tokens": 200,
        "cached_tokens": 300,
        "cache_write_tokens": 5,
        "reasoning_tokens": 50,
        "cost": "0.000000005",
    }
    assert isinstance(sums.expected, dict)
    assert sums.expected["cost"] == "0.001234567"


async def test_amounts_that_cannot_be_added_up_are_a_difference(path: Path) -> None:
    await fill(path)
    most = 2**63 - 1
    damage(
        path,
        entry(f"0, 'default', 'topup', 'wallet', {most}, {most}, NULL, 'admin'"),
        entry(f"0, 'default', 'topup', 'wallet', {most}, {most}, NULL, 'admin'"),
    )
    found = await Prover(path).prove()
    assert found.differences[0].what == "balances"
    assert found.differences[0].found == "integer overflow"
    assert "e+1" in str(found.differences[-1].expected)


async def test_the_list_is_bounded_and_all_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "MOST_LISTED", 2)
    await fill(path)
    damage(path, "UPDATE ledger SET balance_after = id * 1000")
    found = await Prover(path).prove()
    assert len(found.differences) == 2
    assert found.difference_count > 10


async def test_it_ends_when_the_server_stops(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_STEPS", 1)
    await fill(path)
    prover = Prover(path)
    prover.close()
    with pytest.raises(LedgerUnavailable, match="stopping"):
        await prover.prove()


async def test_a_statement_that_is_interrupted_ends_the_proof(path: Path) -> None:
    """Between two checks, too: what was not read is no difference."""
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(lambda: True, 1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            list(proof._differences(connection, "balances", proof._BALANCES))


async def test_a_file_that_cannot_be_read_is_told(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerUnavailable, match="cannot be read"):
        await Prover(path).prove()
