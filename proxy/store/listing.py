"""The list of finished exchanges: newest first, filtered, each page in bounded time.

However many there are, and however few of them a filter lets through: each statement looks at a window
of them, the larger the faster the disk is; days without a match are left out; and a page ends early when
it has taken long.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from proxy.core.entities import UsageRecord
from proxy.store.database import Database
from proxy.store.records import record_of

#: So many exchanges the first statement looks at; twice as many each next one, while they are fast.
WINDOW = 500
FAST_S = 0.1
#: A page that has taken so long ends where it is.
PATIENCE_S = 1.0

# What is walked, by the index that it is walked by: all, those of one key, those that went wrong.
_ALL = "exchanges WHERE TRUE"
_OF_KEY = "exchanges INDEXED BY exchanges_by_key WHERE key_id = :key"
_FAILED = "exchanges INDEXED BY exchanges_failed WHERE (finish <> 'ok' OR status <> 200)"

_WINDOW = """
SELECT id FROM {walked} AND id < :before AND id >= :first ORDER BY id DESC LIMIT 1 OFFSET :offset
"""
_PAGE = """
SELECT * FROM {walked} AND id < :before AND id >= :first AND finish IS NOT NULL
  AND (:account IS NULL OR account = :account)
  AND (:model IS NULL OR model = :model) AND (:provider IS NULL OR provider = :provider)
  AND (:finish IS NULL OR finish = :finish) AND (:status IS NULL OR status = :status)
ORDER BY id DESC LIMIT :limit
"""
#: The statements by what they walk: where a window begins, and what of it is listed.
STATEMENTS = {
    walked: (_WINDOW.format(walked=walked), _PAGE.format(walked=walked))
    for walked in (_ALL, _OF_KEY, _FAILED)
}

_DAYS = """
SELECT DISTINCT day FROM daily_sums
WHERE (:account IS NULL OR account = :account) AND (:key IS NULL OR key_id = :key)
  AND (:model IS NULL OR model = :model) AND (:provider IS NULL OR provider = :provider)
ORDER BY day DESC
"""

#: Before and behind every id, in their order.
_BEGINNING, _END = "", "~"
# A day of any zone, by the clock of UTC.
_EARLIEST, _LATEST = timedelta(hours=-14), timedelta(hours=24 + 12)


async def read_page(
    database: Database,
    *,
    limit: int,
    before: str | None = None,
    account: str | None = None,
    key: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    status: str | None = None,
) -> tuple[list[UsageRecord], str | None]:
    """Return up to `limit` exchanges with ids below `before`, and where to go on, None at the end.

    `status` is a finish word or an HTTP status. A page may be shorter than `limit`, even empty, and not
    the last one: after PATIENCE_S it ends.
    """
    names = {"account": account, "key": key, "model": model, "provider": provider}
    by_number = status is not None and status.isdecimal()
    parameters: dict[str, object] = {
        **names,
        "finish": None if by_number else status,
        "status": int(status) if status is not None and by_number else None,
    }
    walked = _OF_KEY if key is not None else _ALL if status in (None, "ok", "200") else _FAILED
    window, page = STATEMENTS[walked]
    found: list[UsageRecord] = []
    size, upper, start = WINDOW, before or _END, time.monotonic()
    now = start
    for first, end in await _spans(database, names):
        upper = min(upper, end)
        while upper > first:
            if now > start + PATIENCE_S:
                return found, upper
            here = parameters | {"before": upper, "first": first, "limit": limit + 1 - len(found)}
            edge = await database.fetch_one(window, here | {"offset": size - 1})
            lower = first if edge is None else edge["id"]
            found.extend(map(record_of, await database.fetch_all(page, here | {"first": lower})))
            if len(found) > limit:
                return found[:limit], found[limit - 1].id
            since, now, upper = now, time.monotonic(), lower
            size *= 2 if now - since < FAST_S else 1
    return found, None


async def _spans(database: Database, names: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """Return between which ids there may be exchanges with these names, the newest first."""
    if all(name is None for name in names.values()):
        return [(_BEGINNING, _END)]
    spans: list[tuple[str, str]] = []
    for row in await database.fetch_all(_DAYS, names):
        begin = datetime.strptime(row["day"], "%Y-%m-%d").replace(tzinfo=UTC)
        first, end = _first_id(begin + _EARLIEST), _first_id(begin + _LATEST)
        if spans and end >= spans[-1][0]:
            end = spans.pop()[1]
        spans.append((first, end))
    return spans


def _first_id(moment: datetime) -> str:
    """Return what ids of exchanges begin with that were admitted at `moment`; web/request_id.py"""
    return f"req_{int(moment.timestamp() * 1000):012x}"
