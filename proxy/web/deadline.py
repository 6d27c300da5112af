"""A deadline that moves at every request, on a timer that hardly ever does."""

import asyncio
import math
from collections.abc import Callable

# uvloop's timers count whole milliseconds and may fire that much early.
_RESOLUTION_S = 0.002


class Deadline:
    """Calls `on_expiry` once `when` has passed.

    Putting `when` off, or clearing it, touches no timer: the one that runs finds out when it
    fires. Event loops pay for each timer started and cancelled, requests come by the thousand.
    """

    __slots__ = ("_armed_for", "_loop", "_on_expiry", "_timer", "when")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = math.inf
        #: In seconds of the loop's clock; infinite while nothing is waited for.
        self.when = math.inf

    def set(self, when: float) -> None:
        self.when = when
        if when < self._armed_for:
            self._arm(when)

    def put_off(self, delay_s: float) -> None:
        """Set the deadline `delay_s` from now."""
        self.set(self._loop.time() + delay_s)

    def draw_near(self, delay_s: float) -> None:
        """Set the deadline `delay_s` from now, unless an earlier one is set."""
        self.set(min(self.when, self._loop.time() + delay_s))

    def clear(self) -> None:
        self.when = math.inf

    def cancel(self) -> None:
        """End the timer itself; nothing will be called any more."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = when
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._armed_for = math.inf
        if self.when == math.inf:
            return
        if self._loop.time() + _RESOLUTION_S < self.when:
            self._arm(self.when)
        else:
            self.when = math.inf
            self._on_expiry()
