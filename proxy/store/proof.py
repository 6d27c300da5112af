"""The proof of the ledger: every balance and every total computed anew, and compared.

It reads over a connection of its own, in a thread, everything as of one moment, so that it finds the
same whether or not exchanges are being settled meanwhile. docs/operations.md, "Proof of the ledger"
"""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

from proxy.core.money import decimal_text
from proxy.store.errors import LedgerUnavailable, is_of_the_file
from proxy.store.schema import reading_uri

#: So many differences are listed; the others are counted.
MOST_LISTED = 1000
# Whether to go on is looked at each so many steps of SQLite's machine, some 0.1 ms.
_STEPS = 10_000

_COUNTS = """
SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM ledger), (SELECT count(*) FROM exchanges)
"""

# The checks. Each yields what differs: what, where, expected, found, and the unit of the last two.

_BALANCES = """
WITH balances (account, fund, balance) AS (
    SELECT name, 'wallet', wallet_nanos FROM accounts
    UNION ALL SELECT account, 'subscription', left_nanos FROM subscriptions
    UNION ALL SELECT account, 'grant:' || id, tokens_left FROM grants
), sums (account, fund, total) AS (
    SELECT account, fund, sum(amount) FROM ledger GROUP BY account, fund
)
SELECT iif(sums.fund IS NULL, 'balance without entries', 'balance'),
    'account ' || balances.account || ', ' || balances.fund, coalesce(total, 0), balance, balances.fund
FROM balances LEFT JOIN sums USING (account, fund)
WHERE balance <> coalesce(total, 0) OR (total IS NULL AND balances.fund <> 'wallet')
UNION ALL
SELECT 'entries without a balance', 'account ' || sums.account || ', ' || sums.fund, total, NULL, sums.fund
FROM sums LEFT JOIN balances USING (account, fund)
WHERE balance IS NULL AND (total <> 0 OR sums.fund <> 'subscription')
"""

_CHAIN = """
WITH chain AS (
    SELECT id, account, fund, balance_after,
        amount + lag(balance_after, 1, 0) OVER (PARTITION BY account, fund ORDER BY id) AS expected
    FROM ledger
)
SELECT 'balance after an entry', 'ledger entry ' || id || ', account ' || account || ', ' || fund,
    expected, balance_after, fund
FROM chain WHERE balance_after <> expected ORDER BY id
"""

_NEGATIVE = """
SELECT 'balance below zero', 'account ' || account || ', grant:' || id, '0 or more', tokens_left, 'grant:'
FROM grants WHERE tokens_left < 0
UNION ALL
SELECT 'balance below zero', 'account ' || account || ', subscription', '0 or more', left_nanos, ''
FROM subscriptions WHERE left_nanos < 0
"""

_CHARGES_TWICE = """
SELECT 'charges of an exchange', 'exchange ' || exchange || ', ' || fund, 1, count(*), 'charges'
FROM ledger WHERE kind = 'charge' GROUP BY exchange, fund HAVING count(*) > 1
"""

_CHARGES_OF_NOTHING = """
SELECT 'charge without a finished exchange', 'ledger entry ' || ledger.id || ', account ' || ledger.account,
    'a finished exchange of the account', ledger.exchange, 'exchange'
FROM ledger LEFT JOIN exchanges ON exchanges.id = ledger.exchange
WHERE kind = 'charge' AND (finish IS NULL OR exchanges.account <> ledger.account)
"""

# Exchanges that nothing is charged for have no entries, and their columns say 0.
_PAID = """
WITH charged (exchange, tokens, subscription, wallet) AS (
    SELECT exchange, -sum(iif(fund NOT IN ('subscription', 'wallet'), amount, 0)),
        -sum(iif(fund = 'subscription', amount, 0)), -sum(iif(fund = 'wallet', amount, 0))
    FROM ledger WHERE kind = 'charge' GROUP BY exchange
), compared AS (
    SELECT id, 'grants' AS fund, tokens AS charged, paid_tokens AS paid
    FROM exchanges JOIN charged ON exchange = id
    UNION ALL SELECT id, 'subscription', subscription, paid_subscription_nanos
    FROM exchanges JOIN charged ON exchange = id
    UNION ALL SELECT id, 'wallet', wallet, paid_wallet_nanos
    FROM exchanges JOIN charged ON exchange = id
)
SELECT 'paid for an exchange', 'exchange ' || id || ', ' || fund, charged, paid, fund
FROM compared WHERE charged <> paid
"""

_PAID_UNCHARGED = """
SELECT 'paid without charges', 'exchange ' || id || ', account ' || account, 'charges in the ledger',
    paid_tokens || ' tokens, ' || (paid_subscription_nanos + paid_wallet_nanos) || ' nanos', 'exchange'
FROM exchanges
WHERE (paid_tokens <> 0 OR paid_subscription_nanos <> 0 OR paid_wallet_nanos <> 0)
  AND NOT EXISTS (SELECT 1 FROM ledger WHERE kind = 'charge' AND exchange = exchanges.id)
"""

# Holds stand in the rows of their exchanges: there is none without one.
_HOLDS = """
SELECT 'hold of a finished exchange', 'exchange ' || id || ', account ' || account, NULL, hold, 'exchange'
FROM exchanges WHERE finish IS NOT NULL AND hold IS NOT NULL
UNION ALL
SELECT 'hold without an account', 'exchange ' || id, account, NULL, 'exchange'
FROM exchanges WHERE finish IS NULL AND hold IS NOT NULL AND account NOT IN (SELECT name FROM accounts)
"""

_DAILY = """
WITH kept AS (
    SELECT day, account, key_id, provider, model, requests, failed, input_tokens, output_tokens,
        cached_tokens, cache_write_tokens, reasoning_tokens, cost_nanos
    FROM daily_sums
), anew AS (
    SELECT day, account, key_id, coalesce(provider, '') AS provider, model, count(*) AS requests,
        sum(finish <> 'ok') AS failed, sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens, sum(cached_tokens) AS cached_tokens,
        sum(cache_write_tokens) AS cache_write_tokens, sum(reasoning_tokens) AS reasoning_tokens,
        sum(cost_nanos) AS cost_nanos
    FROM exchanges WHERE finish IS NOT NULL GROUP BY 1, 2, 3, 4, 5
), differing AS (
    SELECT 'anew' AS side, * FROM (SELECT * FROM anew EXCEPT SELECT * FROM kept)
    UNION ALL SELECT 'kept', * FROM (SELECT * FROM kept EXCEPT SELECT * FROM anew)
), compared AS (
    SELECT day, account, key_id, provider, model,
        max(iif(side = 'anew', figures, NULL)) AS expected, max(iif(side = 'kept', figures, NULL)) AS found
    FROM (
        SELECT *, json_array(requests, failed, input_tokens, output_tokens, cached_tokens,
            cache_write_tokens, reasoning_tokens, cost_nanos) AS figures
        FROM differing
    )
    GROUP BY day, account, key_id, provider, model
)
SELECT 'sums of a day',
    'day ' || day || ', account ' || account || ', key ' || key_id || ', provider ' || provider
        || ', model ' || model,
    expected, found, 'sums'
FROM compared ORDER BY day, account, key_id, provider, model
"""

_CHECKS = {
    "balances": _BALANCES,
    "balances after entries": _CHAIN,
    "balances below zero": _NEGATIVE,
    "charges made twice": _CHARGES_TWICE,
    "charges of nothing": _CHARGES_OF_NOTHING,
    "what was paid": _PAID,
    "what was paid without charges": _PAID_UNCHARGED,
    "holds": _HOLDS,
    "sums of days": _DAILY,
}

_SUM_NAMES = (
    *("requests", "failed", "input_tokens", "output_tokens"),
    *("cached_tokens", "cache_write_tokens", "reasoning_tokens", "cost"),
)
#: Units of funds that are counted in LLM tokens, beside grants themselves.
_MONEY = ("wallet", "subscription", "")

Shown = str | int | dict[str, str | int] | None


class Difference(msgspec.Struct, frozen=True):
    """One row that is not what it must be; null stands for a row that is not there."""

    what: str
    where: str
    expected: Shown
    found: Shown


class Proof(msgspec.Struct, frozen=True):
    """What was compared. `difference_count` counts those too that are not listed any more."""

    ok: bool
    accounts: int
    entries: int
    exchanges: int
    difference_count: int
    differences: list[Difference]


class Prover:
    """Computes proofs, one at a time: each reads everything there is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._alone = asyncio.Lock()
        self._stopped = threading.Event()

    async def prove(self) -> Proof:
        """Return the proof as of now. Raises LedgerUnavailable when the file cannot be read."""
        async with self._alone:
            return await asyncio.to_thread(_prove, self._path, self._stopped)

    def close(self) -> None:
        """End what runs, and let nothing begin: it would hold up the end of the process."""
        self._stopped.set()


def prove_file(path: Path) -> Proof:
    """Return the proof of a file that this process has not opened, in use or not, and leave nothing behind.

    Raises LedgerUnavailable when it cannot be read.
    """
    return _prove(path, threading.Event())


def _prove(path: Path, stopped: threading.Event) -> Proof:
    try:
        with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
            connection.isolation_level = None
            connection.set_progress_handler(stopped.is_set, _STEPS)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")  # all of it is read as of the first statement from here on
            return _compared(connection)
    except sqlite3.Error as error:
        message = "The server is stopping." if stopped.is_set() else "The database cannot be read."
        raise LedgerUnavailable(message) from error


def _compared(connection: sqlite3.Connection) -> Proof:
    accounts, entries, exchanges = connection.execute(_COUNTS).fetchone()
    listed: list[Difference] = []
    count = 0
    for name, sql in _CHECKS.items():
        for difference in _differences(connection, name, sql):
            count += 1
            if len(listed) < MOST_LISTED:
                listed.append(difference)
    return Proof(not count, accounts, entries, exchanges, count, listed)


def _differences(connection: sqlite3.Connection, name: str, sql: str) -> Iterator[Difference]:
    try:
        for what, where, expected, found, unit in connection.execute(sql):
            show = partial(_shown, unit=unit)
            yield Difference(what, where, show(expected), show(found))
    except sqlite3.Error as error:
        if is_of_the_file(error):
            raise
        # Only damage makes amounts so large that they cannot be added up.
        yield Difference(name, "the whole table", "sums", str(error))


def _shown(value: str | float | None, unit: str) -> Shown:
    """Return a number in its unit: LLM tokens, a count, or money as decimal text."""
    if unit == "sums" and isinstance(value, str):
        figures = dict(zip(_SUM_NAMES, msgspec.json.decode(value, type=list[int]), strict=True))
        return {**figures, "cost": decimal_text(figures["cost"])}
    if isinstance(value, int) and unit in _MONEY:
        return decimal_text(value)
    return str(value) if isinstance(value, float) else value
