"""Money for the accounts of a running gateway, and the proof that its books are right."""

import itertools
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from proxy.core.entities import EntryKind
from proxy.core.funding import Funds, Grant, Subscription
from proxy.gateway.funds import AccountFunds
from proxy.gateway.keystate import KeyState
from proxy.gateway.management import new_grant
from proxy.store import ledger, proof
from proxy.store.funds import MoneyCall
from proxy.store.ledger import Cause
from tests.support.gateway import Sluice

DOLLAR = 10**9  # in nanos
DAY_MS = 24 * 3600 * 1000

_calls = itertools.count()

# Each fund of each account as the ledger has it, and as the balances have it.
_ENTRIES = "SELECT account, fund, sum(amount) FROM ledger GROUP BY account, fund HAVING sum(amount) <> 0"
_BALANCES = """
SELECT name, 'wallet', wallet_nanos FROM accounts WHERE wallet_nanos <> 0
UNION ALL SELECT account, 'subscription', left_nanos FROM subscriptions WHERE left_nanos <> 0
UNION ALL SELECT account, 'grant:' || id, tokens_left FROM grants WHERE tokens_left <> 0
"""
# What the ledger took for each exchange, and what its record says who paid.
_CHARGED = """
SELECT exchange,
       -sum(CASE WHEN fund LIKE 'grant:%' THEN amount ELSE 0 END),
       -sum(CASE WHEN fund = 'subscription' THEN amount ELSE 0 END),
       -sum(CASE WHEN fund = 'wallet' THEN amount ELSE 0 END)
FROM ledger WHERE kind = 'charge' GROUP BY exchange
"""
_PAID = """
SELECT id, paid_tokens, paid_subscription_nanos, paid_wallet_nanos FROM exchanges
WHERE paid_tokens <> 0 OR paid_subscription_nanos <> 0 OR paid_wallet_nanos <> 0
"""
# Each balance that an entry tells must follow from the one before it.
_BROKEN_CHAIN = """
SELECT id FROM (
    SELECT id, balance_after - amount AS before,
           lag(balance_after, 1, 0) OVER (PARTITION BY account, fund ORDER BY id) AS last, fund
    FROM ledger
) WHERE before <> last AND fund <> 'subscription'
"""
_HELD = "SELECT id FROM exchanges WHERE finish IS NOT NULL AND (hold IS NOT NULL OR progress IS NOT NULL)"
_RUNNING = "SELECT id FROM exchanges WHERE finish IS NULL"
_SUMS = "SELECT coalesce(sum(requests), 0), coalesce(sum(cost_nanos), 0) FROM daily_sums"
_RECORDS = "SELECT count(*), coalesce(sum(cost_nanos), 0) FROM exchanges WHERE finish IS NOT NULL"


async def top_up(sluice: Sluice, nanos: int, account: str = "default") -> None:
    """Add to a wallet."""
    await change(sluice, account, EntryKind.TOPUP, lambda at, cause: ledger.top_up(at, cause, nanos))


async def subscribe(
    sluice: Sluice, plan: str, *, price: int = 0, credit: int = 0, account: str = "default", days: int = 30
) -> None:
    """Begin a subscription now."""
    now_ms = sluice.app.gateway.services.clock.now_ms()
    subscription = Subscription(plan, credit, credit, now_ms, now_ms + days * DAY_MS)
    await change(
        sluice,
        account,
        EntryKind.SUBSCRIBE,
        lambda at, cause: ledger.subscribe(at, cause, price, subscription),
    )


async def grant(
    sluice: Sluice,
    tokens: int,
    *,
    account: str = "default",
    models: tuple[str, ...] | None = None,
    days: int | None = None,
) -> Grant:
    """Give LLM tokens."""
    now_ms = sluice.app.gateway.services.clock.now_ms()
    given = new_grant(tokens, now_ms, models, None if days is None else now_ms + days * DAY_MS)
    await sluice.app._treasury.give(account, given, "for a test")
    return given


async def change(
    sluice: Sluice, account: str, kind: EntryKind, make: Callable[[sqlite3.Connection, Cause], None]
) -> None:
    """Make a change of balances, as an administrator's call does."""
    now_ms = sluice.app.gateway.services.clock.now_ms()
    cause = Cause(account, now_ms, kind, "a test")
    call = MoneyCall(f"call {next(_calls)} at {now_ms}", "", now_ms)
    await sluice.app._treasury.change(
        account, call, lambda connection: make(connection, cause), lambda funds, entries: ""
    )


def funds_of(sluice: Sluice, account: str = "default") -> AccountFunds:
    """Return the funds of an account as admission sees them, with the holds on them."""
    return sluice.app._treasury.of(account)


def left(sluice: Sluice, account: str = "default") -> Funds:
    """Return the balances of an account."""
    return funds_of(sluice, account).left


def wallet(sluice: Sluice, account: str = "default") -> int:
    return left(sluice, account).wallet_nanos


def nothing_held(sluice: Sluice, account: str = "default") -> bool:
    """Return whether no exchange holds anything of an account's funds."""
    funds = funds_of(sluice, account)
    return not (funds.held_nanos or funds._holds or funds._held_tokens)


def key_state(sluice: Sluice) -> KeyState:
    """Return the only key."""
    (state,) = sluice.app._keyring.states()
    return state


def read(path: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Read a database over a connection of its own: sees what is committed, and nothing else."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, parameters).fetchall()


def check_books(path: Path) -> None:
    """Assert what must hold while nothing runs: balances, charges, holds and sums agree, all is settled."""
    proved = proof._prove(path, threading.Event())
    assert proved.ok, proved.differences
    assert sorted(read(path, _ENTRIES)) == sorted(read(path, _BALANCES))
    assert sorted(read(path, _CHARGED)) == sorted(read(path, _PAID))
    assert read(path, _BROKEN_CHAIN) == []
    assert read(path, _RUNNING) == []
    assert read(path, _HELD) == []
    assert read(path, _SUMS) == read(path, _RECORDS)


def database(sluice: Sluice) -> Path:
    return sluice.app.gateway.config().database
