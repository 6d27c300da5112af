"""The daily sums: what every report reads, so that none reads the exchanges themselves."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from proxy.core.entities import Finish, Usage, UsageRecord
from proxy.core.periods import PERIODS
from proxy.core.spending import period_starts
from proxy.store.database import Database

_ADD = """
INSERT INTO daily_sums (
    day, account, key_id, provider, model,
    requests, failed, input_tokens, output_tokens,
    cached_tokens, cache_write_tokens, reasoning_tokens, cost_nanos
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, account, key_id, provider, model) DO UPDATE SET
    requests = requests + excluded.requests,
    failed = failed + excluded.failed,
    input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens,
    reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
    cost_nanos = cost_nanos + excluded.cost_nanos
"""

# One statement for every grouping: a column that is not asked for is the same for all rows.
_SUMS = """
SELECT
    iif(:by_day, day, NULL) AS day,
    iif(:by_account, account, NULL) AS account,
    iif(:by_key, key_id, NULL) AS key,
    iif(:by_provider, provider, NULL) AS provider,
    iif(:by_model, model, NULL) AS model,
    sum(requests) AS requests, sum(failed) AS failed,
    sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cached_tokens) AS cached_tokens, sum(cache_write_tokens) AS cache_write_tokens,
    sum(reasoning_tokens) AS reasoning_tokens, sum(cost_nanos) AS cost_nanos
FROM daily_sums
WHERE day BETWEEN :start AND :end
  AND (:account IS NULL OR account = :account)
  AND (:key IS NULL OR key_id = :key)
  AND (:provider IS NULL OR provider = :provider)
  AND (:model IS NULL OR model = :model)
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4, 5
"""

_DAY_TOTALS = """
SELECT key_id, sum(requests) AS requests, sum(input_tokens + output_tokens) AS tokens
FROM daily_sums WHERE day = ? GROUP BY key_id
"""

_SPENT = """
SELECT key_id,
    sum(iif(day >= :day, cost_nanos, 0)) AS day, sum(iif(day >= :week, cost_nanos, 0)) AS week,
    sum(iif(day >= :month, cost_nanos, 0)) AS month, sum(cost_nanos) AS total
FROM daily_sums GROUP BY key_id
"""

DIMENSIONS = frozenset({"day", "account", "key", "provider", "model"})


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of some days' exchanges; of `day` … `model` those are set that were asked for.

    `failed` are those of the `requests` that did not finish `ok`; `provider` is '' for exchanges
    that none answered.
    """

    requests: int
    failed: int
    usage: Usage
    cost_nanos: int
    day: str | None = None
    account: str | None = None
    key: str | None = None
    provider: str | None = None
    model: str | None = None


class Additions:
    """What one transaction adds to the daily sums: gathered in memory, written before its commit.

    Exchanges that are committed together mostly belong to the same few sums, and adding to one
    costs as much as writing the exchange.
    """

    def __init__(self) -> None:
        self._added: dict[tuple[str, ...], list[int]] = {}

    def begin(self) -> None:
        self._added.clear()

    def add(self, record: UsageRecord) -> None:
        key = (record.day, record.account, record.key_id, record.provider or "", record.model)
        added = self._added.get(key)
        if added is None:
            added = self._added[key] = [0] * 8
        usage = record.usage
        added[0] += 1
        added[1] += record.finish is not Finish.OK
        added[2] += usage.input_tokens
        added[3] += usage.output_tokens
        added[4] += usage.cached_tokens
        added[5] += usage.cache_write_tokens
        added[6] += usage.reasoning_tokens
        added[7] += record.cost_nanos

    def flush(self, connection: sqlite3.Connection) -> None:
        if self._added:
            connection.executemany(_ADD, [(*key, *added) for key, added in self._added.items()])


async def read_sums(
    database: Database,
    *,
    start: str,
    end: str,
    by: Collection[str] = (),
    account: str | None = None,
    key: str | None = None,
    provider: str | None = None,
    model: str | None = None,
) -> list[Sum]:
    """Return the sums of the days `start` to `end`, both included, one for each group that occurs."""
    if unknown := set(by) - DIMENSIONS:
        raise ValueError(f"cannot group by {', '.join(sorted(unknown))}")
    parameters: dict[str, object] = {
        "start": start,
        "end": end,
        "account": account,
        "key": key,
        "provider": provider,
        "model": model,
    }
    parameters.update({"by_" + name: name in by for name in DIMENSIONS})
    return [_sum(row) for row in await database.fetch_all(_SUMS, parameters)]


async def read_day_totals(database: Database, day: str) -> dict[str, tuple[int, int]]:
    """Return (requests, total tokens) of one day by key id."""
    rows = await database.fetch_all(_DAY_TOTALS, (day,))
    return {row["key_id"]: (row["requests"], row["tokens"]) for row in rows}


async def read_spent(database: Database, day: str) -> dict[str, tuple[int, ...]]:
    """Return by key id what was spent in each period that holds `day`, in the order of PERIODS, in nanos."""
    starts = dict(zip(PERIODS, period_starts(day), strict=True))
    rows = await database.fetch_all(_SPENT, starts)
    return {row["key_id"]: tuple(row[period] for period in PERIODS) for row in rows}


def _sum(row: sqlite3.Row) -> Sum:
    return Sum(
        requests=row["requests"],
        failed=row["failed"],
        usage=Usage(
            row["input_tokens"],
            row["output_tokens"],
            row["cached_tokens"],
            row["cache_write_tokens"],
            row["reasoning_tokens"],
        ),
        cost_nanos=row["cost_nanos"],
        day=row["day"],
        account=row["account"],
        key=row["key"],
        provider=row["provider"],
        model=row["model"],
    )
