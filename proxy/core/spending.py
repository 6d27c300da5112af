"""What a key has spent in each of the periods that its quota may have, and what runs on it."""

from collections.abc import Sequence
from datetime import date
from functools import lru_cache

from proxy.core.periods import PERIODS, period_of


@lru_cache(maxsize=64)
def period_starts(day: str) -> tuple[str, ...]:
    """Return the first day of each period, in the order of PERIODS, that holds this day (YYYY-MM-DD)."""
    parsed = date.fromisoformat(day)
    return tuple(period_of(kind, parsed).first.isoformat() for kind in PERIODS)


class Spending:
    """Sums of cost, in nanos, over the current day, week, month, and all days.

    All periods are kept, whichever a quota has now: quotas change. `running_nanos` is the
    estimate of what runs. docs/limits.md, "Quotas"
    """

    __slots__ = ("_spent", "_starts", "running_nanos")

    def __init__(self) -> None:
        self._starts = [""] * len(PERIODS)
        self._spent = [0] * len(PERIODS)
        self.running_nanos = 0

    def seed(self, today: str, spent: Sequence[int]) -> None:
        """Set what was spent in each period that holds today, as the database knows it at the start."""
        self._starts = list(period_starts(today))
        self._spent = list(spent)

    def add(self, day: str, nanos: int) -> None:
        """Add what was spent on a day; to periods that have ended since, nothing."""
        for index, start in enumerate(period_starts(day)):
            if start > self._starts[index]:
                self._starts[index] = start
                self._spent[index] = 0
            if start == self._starts[index]:
                self._spent[index] += nanos

    def spent(self, period: str, today: str) -> int:
        """Return what was spent in the period that holds today."""
        index = PERIODS.index(period)
        return self._spent[index] if self._starts[index] >= period_starts(today)[index] else 0
