"""Days of the configured time zone: limits, quotas and reports all count by them."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo


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


def rfc3339(unix_ms: int) -> str:
    """Return a moment as RFC 3339 UTC with milliseconds: `2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03d}Z"
