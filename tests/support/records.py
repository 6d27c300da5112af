"""Usage records to store, and a process that stores them until it is killed."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from proxy.core.entities import AdmittedExchange, Attempt, Billing, Finish, Usage, UsageRecord
from proxy.store.database import Database
from proxy.store.usage import UsageStore

FIRST_MS = 1_790_000_000_000

_RECORD = UsageRecord(
    id="",
    created_ms=0,
    ended_ms=0,
    day="2026-09-21",
    key_id="key_1",
    account="default",
    dialect="chat",
    endpoint="/v1/chat/completions",
    stream=True,
    model="fast",
    provider="deepseek",
    upstream_model="deepseek-v4",
    status=200,
    billing=Billing.SETTLED,
    finish=Finish.OK,
    error_code=None,
    usage=Usage(
        input_tokens=1000, output_tokens=200, cached_tokens=300, cache_write_tokens=5, reasoning_tokens=50
    ),
    estimated=False,
    cost_nanos=1_234_567,
    discount="0.8",
    price={"input": "2", "output": "8", "currency": "CNY", "per": "1M"},
    attempts=(Attempt("deepseek", "deepseek-v4", "…abcd", FIRST_MS, 200, None, 312.5, 900.0),),
    timings={"first_byte": 312.5, "total": 900.25},
)


def record(number: int, **changes: Any) -> UsageRecord:
    """Return a record whose id and time grow with `number`."""
    own = {"id": record_id(number), "created_ms": FIRST_MS + number, "ended_ms": FIRST_MS + number + 900}
    return msgspec.structs.replace(_RECORD, **{**own, **changes})


def record_id(number: int) -> str:
    return f"req_{FIRST_MS + number:012x}{number:016x}"


def admitted(of: UsageRecord) -> AdmittedExchange:
    """Return what was known of `of` when it began."""
    return msgspec.convert(of, AdmittedExchange, from_attributes=True)


async def settle_until_killed(path: Path, first: int, clients: int, synchronous: str) -> None:
    """Settle records from number `first` on, printing the number of each once it is committed."""
    database = await Database.open(path, synchronous=synchronous)
    usage = UsageStore(database)
    numbers = iter(range(first, sys.maxsize))

    async def client() -> None:
        for number in numbers:
            await usage.settle(record(number))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()

    await asyncio.gather(*(client() for _ in range(clients)))


if __name__ == "__main__":
    asyncio.run(settle_until_killed(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
