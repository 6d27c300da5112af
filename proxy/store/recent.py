"""The last hours, hour by hour: what the daily sums are too coarse for. Read from the exchanges themselves.

Ids begin with the time of admission, so the newest exchanges are one end of an index; at most
`MOST` of them are looked at, which bounds the time however large the table has grown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.store.database import Database

#: Looked at in about 0.2 s.
MOST = 10_000
HOUR_MS = 3_600_000

#: By what hours can be parted.
GROUPS = ("model", "provider", "key", "account")

_COUNTS = """
SELECT created_ms / :hour_ms AS hour,
    CASE :by WHEN 'model' THEN model WHEN 'provider' THEN provider
             WHEN 'key' THEN key_id WHEN 'account' THEN account END AS name,
    count(*) AS requests, sum(finish <> 'ok') AS failed,
    sum(input_tokens + output_tokens) AS tokens, sum(cost_nanos) AS cost_nanos,
    min(created_ms) AS oldest_ms
FROM (
    SELECT * FROM exchanges WHERE id >= :since AND finish IS NOT NULL ORDER BY id DESC LIMIT :most
)
GROUP BY 1, 2 ORDER BY 1, 2
"""

# Nearest rank: the least time that so many per cent of the exchanges did not exceed. The hour is
# null for all of them together.
_TIMES = """
WITH recent AS MATERIALIZED (
    SELECT created_ms / :hour_ms AS hour,
        json_extract(receipt, '$.timings.total_ms') AS total_ms,
        json_extract(receipt, '$.timings.first_output_ms') AS first_output_ms
    FROM (
        SELECT * FROM exchanges WHERE id >= :since AND finish IS NOT NULL ORDER BY id DESC LIMIT :most
    )
    WHERE finish = 'ok'
),
timed AS (
    SELECT hour, 'total' AS what, total_ms AS ms FROM recent WHERE total_ms IS NOT NULL
    UNION ALL SELECT NULL, 'total', total_ms FROM recent WHERE total_ms IS NOT NULL
    UNION ALL SELECT hour, 'first', first_output_ms FROM recent WHERE first_output_ms IS NOT NULL
    UNION ALL SELECT NULL, 'first', first_output_ms FROM recent WHERE first_output_ms IS NOT NULL
),
ranked AS (
    SELECT hour, what, ms,
        row_number() OVER (PARTITION BY what, hour ORDER BY ms) AS place,
        count(*) OVER (PARTITION BY what, hour) AS whole
    FROM timed
)
SELECT hour, what,
    max(ms) FILTER (WHERE place = (whole + 1) / 2) AS p50,
    max(ms) FILTER (WHERE place = (95 * whole + 99) / 100) AS p95
FROM ranked GROUP BY hour, what
"""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds of the exchanges that ended well."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Counted:
    """What was admitted in one hour, or the part of it with one `name`."""

    hour_ms: int
    name: str | None
    requests: int
    failed: int
    tokens: int
    cost_nanos: int


@dataclass(frozen=True, slots=True)
class Recent:
    """The last hours. `oldest_ms` is the oldest exchange looked at; `whole`: no older one was left out."""

    counts: list[Counted]
    #: By hour, and by None for all of them together.
    total: Mapping[int | None, Percentiles]
    first_output: Mapping[int | None, Percentiles]
    oldest_ms: int | None
    whole: bool


async def read_recent(database: Database, since_ms: int, by: str | None = None) -> Recent:
    """Return the hours since `since_ms`, their counts parted by one of GROUPS where given."""
    parameters = {"since": f"req_{since_ms:012x}", "most": MOST, "hour_ms": HOUR_MS, "by": by}
    counts = await database.fetch_all(_COUNTS, parameters)
    times = await database.fetch_all(_TIMES, parameters)
    found: dict[str, dict[int | None, Percentiles]] = {"total": {}, "first": {}}
    for row in times:
        hour = None if row["hour"] is None else row["hour"] * HOUR_MS
        found[row["what"]][hour] = Percentiles(row["p50"], row["p95"])
    counted = [
        Counted(
            row["hour"] * HOUR_MS,
            row["name"],
            row["requests"],
            row["failed"],
            row["tokens"],
            row["cost_nanos"],
        )
        for row in counts
    ]
    return Recent(
        counts=counted,
        total=found["total"],
        first_output=found["first"],
        oldest_ms=min((row["oldest_ms"] for row in counts), default=None),
        whole=sum(item.requests for item in counted) < MOST,
    )
