"""Usage records as rows: one for each admitted exchange, running or finished."""

import logging
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from proxy.core.entities import AdmittedExchange, Attempt, Billing, Finish, Usage, UsageRecord
from proxy.core.funding import Hold
from proxy.store.database import Database

logger = logging.getLogger("sluice.store")

# What an exchange has from its admission on comes first: the conflict is with such a row, and
# leaves a finished one alone.
_WRITE = """
INSERT INTO exchanges (
    id, created_ms, day, key_id, account, dialect, endpoint, stream, model,
    ended_ms, provider, upstream_model, status, billing, finish, error_code,
    input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
    estimated, cost_nanos, discount, receipt, paid_tokens, paid_subscription_nanos, paid_wallet_nanos
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    ended_ms = excluded.ended_ms, provider = excluded.provider, upstream_model = excluded.upstream_model,
    status = excluded.status, billing = excluded.billing, finish = excluded.finish,
    error_code = excluded.error_code, input_tokens = excluded.input_tokens,
    output_tokens = excluded.output_tokens, cached_tokens = excluded.cached_tokens,
    cache_write_tokens = excluded.cache_write_tokens, reasoning_tokens = excluded.reasoning_tokens,
    estimated = excluded.estimated, cost_nanos = excluded.cost_nanos, discount = excluded.discount,
    receipt = excluded.receipt, paid_tokens = excluded.paid_tokens,
    paid_subscription_nanos = excluded.paid_subscription_nanos,
    paid_wallet_nanos = excluded.paid_wallet_nanos, hold = NULL, progress = NULL
WHERE finish IS NULL
"""

_ADMIT = """
INSERT INTO exchanges (id, created_ms, day, key_id, account, dialect, endpoint, stream, model)
VALUES (:id, :created_ms, :day, :key_id, :account, :dialect, :endpoint, :stream, :model)
ON CONFLICT (id) DO NOTHING
"""

_HOLD = """
INSERT INTO exchanges (id, created_ms, day, key_id, account, dialect, endpoint, stream, model, hold)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""

_PROGRESS = "UPDATE exchanges SET progress = ? WHERE id = ? AND finish IS NULL"

_WITHDRAW = "DELETE FROM exchanges WHERE id = ? AND finish IS NULL"

_RUNNING = """
SELECT id, created_ms, day, key_id, account, dialect, endpoint, stream, model, hold, progress
FROM exchanges WHERE finish IS NULL ORDER BY id LIMIT ?
"""

_GET = """
SELECT * FROM exchanges
WHERE id = :id AND finish IS NOT NULL
  AND (:account IS NULL OR account = :account) AND (:key IS NULL OR key_id = :key)
"""


class _Receipt(msgspec.Struct, frozen=True):
    """What is only ever shown: one JSON column."""

    attempts: tuple[Attempt, ...]
    price: Mapping[str, str] | None
    timings: Mapping[str, float]


class Running(NamedTuple):
    """An exchange that has not finished: whether it held funds, and what was noted of it last."""

    exchange: AdmittedExchange
    held: bool
    progress: UsageRecord | None


_encode = msgspec.json.Encoder().encode
_decode_receipt = msgspec.json.Decoder(_Receipt).decode
_decode_record = msgspec.json.Decoder(UsageRecord).decode


def write(connection: sqlite3.Connection, record: UsageRecord) -> bool:
    """Write a finished exchange, over its row of a running one; return False if it is there already."""
    usage = record.usage
    receipt = _encode(_Receipt(record.attempts, record.price, record.timings)).decode()
    values = (
        record.id,
        record.created_ms,
        record.day,
        record.key_id,
        record.account,
        record.dialect,
        record.endpoint,
        int(record.stream),  # sqlite3 takes exact types faster than their subclasses, here and below
        record.model,
        record.ended_ms,
        record.provider,
        record.upstream_model,
        record.status,
        record.billing.value,
        record.finish.value,
        record.error_code,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        int(record.estimated),
        record.cost_nanos,
        record.discount,
        receipt,
        record.paid_tokens,
        record.paid_subscription_nanos,
        record.paid_wallet_nanos,
    )
    return connection.execute(_WRITE, values).rowcount > 0


def write_running(connection: sqlite3.Connection, exchanges: Iterable[AdmittedExchange]) -> None:
    """Write what a crash would leave of `exchanges`; those that have a row already keep it."""
    connection.executemany(_ADMIT, [msgspec.structs.asdict(exchange) for exchange in exchanges])


def write_hold(connection: sqlite3.Connection, exchange: AdmittedExchange, hold: Hold) -> None:
    """Write an exchange that begins, with the funds that it holds until it is settled."""
    text = _encode(hold).decode()
    connection.execute(
        _HOLD,
        (
            exchange.id,
            exchange.created_ms,
            exchange.day,
            exchange.key_id,
            exchange.account,
            exchange.dialect,
            exchange.endpoint,
            int(exchange.stream),
            exchange.model,
            text,
        ),
    )


def write_progress(connection: sqlite3.Connection, records: Iterable[UsageRecord]) -> None:
    """Note what would be recorded of running exchanges if the process died now."""
    connection.executemany(_PROGRESS, [(_encode(record).decode(), record.id) for record in records])


def withdraw(connection: sqlite3.Connection, id: str) -> None:
    """Remove an exchange that has not finished."""
    connection.execute(_WITHDRAW, (id,))


async def read_running(database: Database, limit: int) -> list[Running]:
    """Return exchanges that have not finished, the oldest first."""
    return [_running(**dict(row)) for row in await database.fetch_all(_RUNNING, (limit,))]


def _running(hold: str | None, progress: str | None, stream: int, **exchange: Any) -> Running:
    return Running(
        AdmittedExchange(stream=bool(stream), **exchange),
        hold is not None,
        None if progress is None else _noted(exchange["id"], progress),
    )


def _noted(id: str, progress: str) -> UsageRecord | None:
    try:
        return _decode_record(progress)
    except msgspec.MsgspecError:
        logger.exception("what was noted of %s cannot be read: %s", id, progress)
        return None


async def read(
    database: Database, id: str, *, account: str | None = None, key: str | None = None
) -> UsageRecord | None:
    """Return one finished exchange; None also when it is not of `account` or `key`, where given."""
    row = await database.fetch_one(_GET, {"id": id, "account": account, "key": key})
    return None if row is None else record_of(row)


def record_of(row: sqlite3.Row) -> UsageRecord:
    """Return the record of a whole row."""
    receipt = _decode_receipt(row["receipt"])
    return UsageRecord(
        id=row["id"],
        created_ms=row["created_ms"],
        ended_ms=row["ended_ms"],
        day=row["day"],
        key_id=row["key_id"],
        account=row["account"],
        dialect=row["dialect"],
        endpoint=row["endpoint"],
        stream=bool(row["stream"]),
        model=row["model"],
        provider=row["provider"],
        upstream_model=row["upstream_model"],
        status=row["status"],
        billing=Billing(row["billing"]),
        finish=Finish(row["finish"]),
        error_code=row["error_code"],
        usage=Usage(
            row["input_tokens"],
            row["output_tokens"],
            row["cached_tokens"],
            row["cache_write_tokens"],
            row["reasoning_tokens"],
        ),
        estimated=bool(row["estimated"]),
        cost_nanos=row["cost_nanos"],
        discount=row["discount"],
        price=receipt.price,
        attempts=receipt.attempts,
        timings=receipt.timings,
        paid_tokens=row["paid_tokens"],
        paid_subscription_nanos=row["paid_subscription_nanos"],
        paid_wallet_nanos=row["paid_wallet_nanos"],
    )
