"""Usage: what each exchange took, written exactly once, and the reports on it."""

import asyncio
import logging
import sqlite3
from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from proxy.core.entities import AdmittedExchange, Billing, Finish, Usage, UsageRecord
from proxy.core.funding import Funds, Hold, pay
from proxy.store import daily, hourly, ledger, listing, records
from proxy.store.daily import Additions, Sum
from proxy.store.database import Database
from proxy.store.errors import LedgerUnavailable
from proxy.store.hourly import Hours
from proxy.store.records import Running

logger = logging.getLogger("sluice.store")

#: An exchange that ends sooner than this after its admission never gets a row while it runs.
ADMISSION_S = 0.25

#: So many exchanges of a dead process are settled at a time.
_RECOVERED = 500


class Settled(NamedTuple):
    """`written`: False if the exchange had been settled before; `funds` are the account's after it."""

    written: bool
    funds: Funds | None


class Settlement:
    """The work that writes one usage record, and adds it to the daily sums if it is the first to.

    `paid`: funds of the account pay for it, in the same transaction.
    Its text, for the log, is the whole record: what an operator needs if it is never committed.
    """

    __slots__ = ("_additions", "_paid", "_record")

    def __init__(self, record: UsageRecord, additions: Additions, *, paid: bool = False) -> None:
        self._record = record
        self._additions = additions
        self._paid = paid

    def __call__(self, connection: sqlite3.Connection) -> Settled:
        return (
            self._charge(connection) if self._paid else Settled(self._write(connection, self._record), None)
        )

    def _charge(self, connection: sqlite3.Connection) -> Settled:
        record = self._record
        funds = ledger.read_funds(connection, record.account)
        payment = pay(
            funds,
            model=record.model,
            admitted_ms=record.created_ms,
            tokens=record.usage.total_tokens,
            cost_nanos=record.cost_nanos,
        )
        paid_record = msgspec.structs.replace(
            record,
            paid_tokens=payment.tokens,
            paid_subscription_nanos=payment.subscription_nanos,
            paid_wallet_nanos=payment.wallet_nanos,
        )
        if not self._write(connection, paid_record):
            return Settled(False, funds)
        return Settled(True, ledger.charge(connection, funds, payment, record))

    def _write(self, connection: sqlite3.Connection, record: UsageRecord) -> bool:
        written = records.write(connection, record)
        if written:
            self._additions.add(record)
        return written

    def __str__(self) -> str:
        return "usage record " + msgspec.json.encode(self._record).decode()


class UsageStore:
    """Writes exchanges when they begin and end, and reads them back."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._additions = Additions()
        database.writer.join(self._additions)
        self._hours = Hours(database)
        # Admissions not yet written, oldest first, with their time on the loop's clock.
        self._admitted: dict[str, tuple[float, AdmittedExchange]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, exchange: AdmittedExchange) -> None:
        """Note that an exchange runs, so that a crash leaves a trace of it.

        Nobody waits for it, and it is written only if the exchange lasts longer than 250 ms.
        """
        self._admitted[exchange.id] = (self._loop.time(), exchange)
        if self._timer is None:
            self._timer = self._loop.call_later(ADMISSION_S, self._write_admitted)

    def hold(self, exchange: AdmittedExchange, hold: Hold) -> asyncio.Future[None]:
        """Write an exchange that begins, with the funds that it holds, until they are on disk.

        The future fails with LedgerUnavailable when the database cannot be written; then nothing was.
        """
        return self._database.writer.submit(lambda connection: records.write_hold(connection, exchange, hold))

    def withdraw(self, id: str) -> None:
        """Forget an exchange that was refused before any provider was asked; nobody waits for it."""
        if self._admitted.pop(id, None) is None:
            self._database.writer.post(lambda connection: records.withdraw(connection, id))

    def note(self, progress: Sequence[UsageRecord]) -> None:
        """Note what would be recorded of running exchanges if the process died now; nobody waits for it."""
        self._database.writer.post(lambda connection: records.write_progress(connection, progress))

    def settle(self, record: UsageRecord, *, paid: bool = False) -> asyncio.Future[Settled]:
        """Write a finished exchange once, together with its part of the daily sums.

        With `paid` the account's funds pay for it. The record is kept until it is committed, however
        long the database cannot be written; the future resolves only then.
        """
        self._admitted.pop(record.id, None)
        settlement = Settlement(record, self._additions, paid=paid)
        future = self._database.writer.submit(settlement, until_committed=True)
        future.add_done_callback(partial(self._count, record))
        return future

    def _count(self, record: UsageRecord, settled: asyncio.Future[Settled]) -> None:
        """Count an exchange in its hour, once it is committed."""
        if not settled.cancelled() and settled.exception() is None and settled.result().written:
            self._hours.add(record)

    def flush(self) -> None:
        """Have written what gathers to be written with more of its kind."""
        self._hours.flush()

    async def recover(self) -> int:
        """Settle what a crash left running, by what was noted of it last; return how many there were.

        To be called after the start and before the first admission. Doing it again, or after
        being interrupted, changes nothing more.

        Raises:
            LedgerUnavailable: the database cannot be written.
        """
        count = 0
        while lost := await records.read_running(self._database, _RECOVERED):
            for record in await asyncio.gather(*map(self._settle_lost, lost)):
                self._hours.add(record)
            count += len(lost)
        if count:
            logger.warning("%d exchanges were running when the process ended: settled as crash", count)
        return count

    async def _settle_lost(self, lost: Running) -> UsageRecord:
        """Settle one; without a charge if what was noted of it cannot be written: that must stop no start."""
        exchange, held, progress = lost
        record = progress or _crashed(exchange)
        settlement = Settlement(record, self._additions, paid=held)
        try:
            await self._database.writer.submit(settlement)
        except LedgerUnavailable:
            raise
        except Exception:
            logger.exception("not charged, since it is refused: %s", settlement)
            record = _crashed(exchange)
            await self._database.writer.submit(Settlement(record, self._additions))
        return record

    async def day_totals(self, day: str) -> dict[str, tuple[int, int]]:
        """Return (requests, total tokens) of one day by key id, for the limits by day."""
        return await daily.read_day_totals(self._database, day)

    async def spent(self, day: str) -> dict[str, tuple[int, ...]]:
        """Return what each key, by id, has spent in each period that holds `day`; core/spending.py."""
        return await daily.read_spent(self._database, day)

    async def sums(
        self,
        *,
        start: str,
        end: str,
        by: Collection[str] = (),
        account: str | None = None,
        key: str | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> list[Sum]:
        """Return sums over the days `start` to `end`, both included (YYYY-MM-DD), in their order.

        `by` is any of day, account, key, provider, model. Only the daily sums are read.

        Raises:
            ValueError: `by` names something else.
        """
        return await daily.read_sums(
            self._database,
            start=start,
            end=end,
            by=by,
            account=account,
            key=key,
            provider=provider,
            model=model,
        )

    async def hours(self, since_ms: int, by: str | None = None) -> Sequence[hourly.HourSum]:
        """Return the sums of the hours since that of a moment, parted by one of `hourly.GROUPS`."""
        return await self._hours.read(since_ms, by)

    async def times(self, since_ms: int) -> hourly.Times:
        """Return how long the exchanges took that were admitted since the hour of a moment."""
        return await self._hours.read_times(since_ms)

    async def list(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        account: str | None = None,
        key: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        status: str | None = None,
    ) -> tuple[list[UsageRecord], str | None]:
        """Return a page of finished exchanges, newest first, and the cursor of the next; store/listing.py"""
        return await listing.read_page(
            self._database,
            limit=limit,
            before=cursor,
            account=account,
            key=key,
            model=model,
            provider=provider,
            status=status,
        )

    async def get(self, id: str, *, account: str | None = None, key: str | None = None) -> UsageRecord | None:
        """Return one finished exchange, None if it is not of `account` or `key`, where given."""
        return await records.read(self._database, id, account=account, key=key)

    def _write_admitted(self) -> None:
        self._timer = None
        now = self._loop.time()
        due: list[AdmittedExchange] = []
        for since, exchange in self._admitted.values():
            if since + ADMISSION_S > now:
                self._timer = self._loop.call_at(since + ADMISSION_S, self._write_admitted)
                break
            due.append(exchange)
        for exchange in due:
            del self._admitted[exchange.id]
        if due:
            self._database.writer.post(lambda connection: records.write_running(connection, due))


def _crashed(exchange: AdmittedExchange) -> UsageRecord:
    """Return the record of an exchange of which only the admission is known.

    When it ended is not known: it gets no duration. The client saw its connection break; 500 is
    what it would have been told.
    """
    return UsageRecord(
        **msgspec.structs.asdict(exchange),
        ended_ms=exchange.created_ms,
        provider=None,
        upstream_model=None,
        status=500,
        billing=Billing.VOID,
        finish=Finish.CRASH,
        error_code=None,
        usage=Usage(),
        estimated=False,
        cost_nanos=0,
        discount="1",
        price=None,
        attempts=(),
        timings={},
    )
