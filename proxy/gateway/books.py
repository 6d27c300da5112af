"""What one exchange writes to the database: its hold before it begins, its settlement before it ends."""

import asyncio
import logging
from functools import partial

from proxy.core.entities import UsageRecord
from proxy.gateway.admission import Admitted
from proxy.gateway.clock import Clock
from proxy.store.usage import Settled, UsageStore

logger = logging.getLogger("sluice.exchange")

# How long the end of an answer waits for a disk that cannot be written. It is looked at each second,
# which makes five at most. docs/billing.md
COMMIT_PATIENCE_NS = 4 * 10**9


class Books:
    """Opens the books of an exchange, and closes them. In track mode nobody waits for the opening."""

    __slots__ = ("_admitted", "_clock", "_commit", "_commit_by_ns", "_is_out_of_patience", "_usage")

    def __init__(self, admitted: Admitted, usage: UsageStore, clock: Clock) -> None:
        self._admitted = admitted
        self._usage = usage
        self._clock = clock
        self._commit: asyncio.Future[Settled] | None = None
        self._commit_by_ns = 0
        self._is_out_of_patience = False

    def open(self) -> asyncio.Future[None] | None:
        """Write that the exchange begins; return what to wait for before a provider is called.

        The future fails with LedgerUnavailable when the hold could not be written.
        """
        if self._admitted.hold is None:
            self._usage.admit(self._admitted.row())
            return None
        return asyncio.shield(self._usage.hold(self._admitted.row(), self._admitted.hold))

    async def close(self, record: UsageRecord) -> None:
        """Commit the record, and wait until it is on disk, as long as patience lasts."""
        commit: asyncio.Future[Settled]
        self._commit = commit = self._usage.settle(record, paid=self._admitted.hold is not None)
        if self._admitted.hold is not None:
            commit.add_done_callback(partial(self._admitted.funds.settled, record.id))
            self._commit = asyncio.shield(commit)  # what it returns is wanted, even if nobody waits
        self._commit_by_ns = self._clock.monotonic_ns() + COMMIT_PATIENCE_NS
        try:
            await self._commit
        except asyncio.CancelledError:
            if not self._is_out_of_patience:
                raise
        except Exception:  # the store tells what a record's own fault was: the answer is not to blame
            logger.exception("a usage record was refused by the database")

    def tick(self, now_ns: int) -> None:
        """Give up waiting for a commit; the store tries until it succeeds, the client need not wait."""
        if self._commit is not None and now_ns >= self._commit_by_ns:
            self._is_out_of_patience = self._commit.cancel()
