"""The one place that reads clocks; tests hand in their own."""

import time
from datetime import tzinfo
from typing import NamedTuple

from proxy.core.days import Day, day_at


class Instant(NamedTuple):
    """Now, as the limits of a key want it."""

    monotonic_ns: int
    day: str
    day_ends_in_s: float


class Clock:
    """Wall and monotonic time, and the current day of the configured zone."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._day = day_at(self.time_s(), zone)

    def move_to(self, zone: tzinfo) -> None:
        """Count days in another zone from now on."""
        self.zone = zone
        self._day = day_at(self.time_s(), zone)

    def time_s(self) -> float:
        return time.time()

    def now_ms(self) -> int:
        return int(self.time_s() * 1000)

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def unix_ms(self, monotonic_ns: int) -> int:
        """Return a moment of the monotonic clock in Unix milliseconds."""
        return self.now_ms() + (monotonic_ns - self.monotonic_ns()) // 10**6

    def today(self) -> Day:
        """Return the current day; computed anew only when the old one is over (or the clock went back)."""
        return self._day_at(self.time_s())

    def instant(self) -> Instant:
        now = self.time_s()
        day = self._day_at(now)
        return Instant(self.monotonic_ns(), day.name, day.end_s - now)

    def _day_at(self, now: float) -> Day:
        day = self._day
        if not day.start_s <= now < day.end_s:
            day = self._day = day_at(now, self.zone)
        return day
