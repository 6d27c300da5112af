"""Statements: the ledger of one account and month as comma-separated values, in pages."""

import csv
import io
import re
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, time

from proxy.core.entities import LedgerEntry
from proxy.core.periods import period_of
from proxy.core.quoting import unformulaic
from proxy.gateway import views
from proxy.gateway.changes import invalid
from proxy.gateway.clock import Clock
from proxy.store.funds import FundStore

COLUMNS = ("id", "created_at", "kind", "fund", "amount", "balance_after", "exchange", "actor", "note")
#: Of these, the texts; models, which are notes of charges, are what clients write.
_TEXTS = ("fund", "exchange", "actor", "note")
_MONTH = re.compile(r"2\d{3}-(0[1-9]|1[0-2])", re.ASCII)
# A page is in memory whole, and takes some milliseconds to read.
_PAGE = 1000


class Statements:
    """Months are those of the zone of the limits."""

    def __init__(self, store: FundStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def month(self, text: str | None) -> str:
        """Return a month as YYYY-MM, None being the current one. Raises BadRequest for another text."""
        if text is None:
            return self._clock.today().name[:7]
        if not _MONTH.fullmatch(text):
            raise invalid("month", f"{text[:40]!r} is not a month: write YYYY-MM")
        return text

    async def csv(self, account: str, month: str) -> AsyncIterator[str]:
        """Yield the entries of a month, oldest first, page by page; the names of the columns come first."""
        start_ms, end_ms = self._bounds(month)
        head, after = [COLUMNS], 0
        while True:
            entries = await self._store.statement(
                account, start_ms=start_ms, end_ms=end_ms, limit=_PAGE, after=after
            )
            yield _as_csv([*head, *map(_row, entries)])
            if len(entries) < _PAGE:
                return
            head, start_ms, after = [], entries[-1].created_ms, entries[-1].id

    def _bounds(self, month: str) -> tuple[int, int]:
        period = period_of("month", date.fromisoformat(month + "-01"))
        first, end = (
            datetime.combine(day, time(), self._clock.zone) for day in (period.first, period.end or date.max)
        )
        return int(first.timestamp()) * 1000, int(end.timestamp()) * 1000


def _row(entry: LedgerEntry) -> tuple[object, ...]:
    shown = views.entry_object(entry)
    return tuple(unformulaic(shown[name] or "") if name in _TEXTS else shown[name] for name in COLUMNS)


def _as_csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
