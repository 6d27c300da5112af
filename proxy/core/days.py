"""Days of the configured time zone: limits, quotas and reports all count by them."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo


@dataclass(frozen=True, slots=True)
class Day:
    """One calendar day of a zone; it begins at `start_s` and ends before `end_s` (Unix seconds)."""

    name: str  # YYYY-MM-DD
    start_s: float
    end_s: float


def day_at(unix_s: float, zone: tzinfo) -> Day:
    """Return the day of `zone` that holds this moment; days of a clock change have 23 or 25 hours."""
    date = datetime.fromtimestamp(unix_s, zone).date()
    start = datetime.combine(date, time(), zone)
    end = datetime.combine(date + timedelta(days=1), time(), zone)
    return Day(date.isoformat(), start.timestamp(), end.timestamp())
