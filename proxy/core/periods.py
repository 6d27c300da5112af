"""The periods of quotas and reports: runs of days in the zone of the limits."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

PERIODS = ("day", "week", "month", "total")


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `first` on, up to but without `end`; None: without end."""

    first: date
    end: date | None

    @property
    def last(self) -> date:
        return date.max if self.end is None else self.end - timedelta(days=1)

    def resets_ms(self, zone: tzinfo) -> int | None:
        """Return the moment at which the next period begins, in Unix milliseconds."""
        if self.end is None:
            return None
        return int(datetime.combine(self.end, time(), zone).timestamp()) * 1000


def period_of(kind: str, day: date) -> Period:
    """Return the period of this kind that holds `day`. Weeks begin on Monday; `total` holds every day."""
    if kind == "day":
        return Period(day, day + timedelta(days=1))
    if kind == "week":
        monday = day - timedelta(days=day.weekday())
        return Period(monday, monday + timedelta(days=7))
    if kind == "month":
        first = day.replace(day=1)
        return Period(first, (first + timedelta(days=31)).replace(day=1))
    return Period(date.min, None)
