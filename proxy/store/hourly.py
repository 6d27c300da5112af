"""The last days hour by hour: what the daily sums are too coarse for, and how long answers took.

Statistics, not books: they are written once a second, after the commit of what they count, which costs
nearly nothing; a crash may take the last second. What is paid is proven by the daily sums.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.core.entities import Finish, UsageRecord
from proxy.core.histogram import bucket_of
from proxy.store.database import Database

HOUR_MS = 3_600_000
#: Eight days: a week, and the day before it.
HOURS_KEPT = 192
#: How long additions gather before they are written.
GATHERED_S = 1.0
#: How long a reader waits for them.
WAIT_S = 0.5

#: By what hours can be parted.
GROUPS = ("model", "provider", "key", "account")
#: The timings of an exchange that are counted.
TIMINGS = ("total_ms", "first_output_ms")

_ADD_SUMS = """
INSERT INTO hourly_sums (hour, account, key_id, provider, model, requests, failed, tokens, cost_nanos)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (hour, account, key_id, provider, model) DO UPDATE SET
    requests = requests + excluded.requests, failed = failed + excluded.failed,
    tokens = tokens + excluded.tokens, cost_nanos = cost_nanos + excluded.cost_nanos
"""

_ADD_TIMES = """
INSERT INTO hourly_times (hour, timing, bucket, exchanges) VALUES (?, ?, ?, ?)
ON CONFLICT (hour, timing, bucket) DO UPDATE SET exchanges = exchanges + excluded.exchanges
"""

_FORGET = ("DELETE FROM hourly_sums WHERE hour < ?", "DELETE FROM hourly_times WHERE hour < ?")

_SUMS = """
SELECT hour,
    CASE :by WHEN 'model' THEN model WHEN 'provider' THEN provider
             WHEN 'key' THEN key_id WHEN 'account' THEN account END AS name,
    sum(requests) AS requests, sum(failed) AS failed, sum(tokens) AS tokens, sum(cost_nanos) AS cost_nanos
FROM hourly_sums WHERE hour >= :since
GROUP BY 1, 2 ORDER BY 1, 2
"""

_TIMES = "SELECT hour, timing, bucket, exchanges FROM hourly_times WHERE hour >= ?"


@dataclass(frozen=True, slots=True)
class HourSum:
    """What was admitted in one hour, or the part of it with one `name`; '' where no provider answered."""

    hour_ms: int
    name: str | None
    requests: int
    failed: int
    tokens: int
    cost_nanos: int


#: By hour (Unix milliseconds) and timing: how many exchanges are in each bucket of core/histogram.py.
Times = Mapping[int, Mapping[str, Mapping[int, int]]]


class Gathered:
    """What is to be added to the hours: a work for the writer."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, str, str, str, str], list[int]] = {}
        self._times: Counter[tuple[int, str, int]] = Counter()

    def add(self, record: UsageRecord) -> None:
        hour = record.created_ms // HOUR_MS
        key = (hour, record.account, record.key_id, record.provider or "", record.model)
        added = self._sums.get(key)
        if added is None:
            added = self._sums[key] = [0] * 4
        good = record.finish is Finish.OK
        added[0] += 1
        added[1] += not good
        added[2] += record.usage.total_tokens
        added[3] += record.cost_nanos
        if good:
            for timing in TIMINGS:
                if (milliseconds := record.timings.get(timing)) is not None:
                    self._times[hour, timing, bucket_of(milliseconds)] += 1

    def __call__(self, connection: sqlite3.Connection) -> None:
        if not self._sums:
            return
        connection.executemany(_ADD_SUMS, [(*key, *added) for key, added in self._sums.items()])
        connection.executemany(_ADD_TIMES, [(*key, count) for key, count in self._times.items()])
        latest = max(key[0] for key in self._sums)
        for statement in _FORGET:
            connection.execute(statement, (latest - HOURS_KEPT,))

    def __str__(self) -> str:
        return f"sums by hour of {sum(added[0] for added in self._sums.values())} exchanges"


class Hours:
    """Counts exchanges by hour, in memory, and adds to the database each second what has gathered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._gathered = Gathered()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, record: UsageRecord) -> None:
        """Count a finished exchange: one that is committed, and only once."""
        self._gathered.add(record)
        if self._timer is None:
            self._timer = self._loop.call_later(GATHERED_S, self.flush)

    def flush(self) -> None:
        """Have written what has gathered; it is kept until it is committed."""
        self._database.writer.post(self._take())

    def _take(self) -> Gathered:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = self._gathered, Gathered()
        return gathered

    async def read(self, since_ms: int, by: str | None = None) -> list[HourSum]:
        """Return the hours since the one that holds `since_ms`, parted by one of GROUPS where given."""
        await self._written()
        rows = await self._database.fetch_all(_SUMS, {"since": since_ms // HOUR_MS, "by": by})
        return [
            HourSum(
                row["hour"] * HOUR_MS,
                row["name"],
                row["requests"],
                row["failed"],
                row["tokens"],
                row["cost_nanos"],
            )
            for row in rows
        ]

    async def read_times(self, since_ms: int) -> Times:
        """Return how long the exchanges took that were admitted since the hour of `since_ms`."""
        await self._written()
        found: dict[int, dict[str, dict[int, int]]] = {}
        for row in await self._database.fetch_all(_TIMES, (since_ms // HOUR_MS,)):
            of_hour = found.setdefault(row["hour"] * HOUR_MS, {})
            of_hour.setdefault(row["timing"], {})[row["bucket"]] = row["exchanges"]
        return found

    async def _written(self) -> None:
        """Wait until all that was counted can be read, unless the database cannot be written."""
        if self._timer is not None:
            writing = self._database.writer.submit(self._take(), until_committed=True)
            await asyncio.wait([writing], timeout=WAIT_S)
