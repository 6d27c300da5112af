"""Noticing that an upstream is too slow, at the cost of one timer that is hardly ever touched."""

import asyncio
from collections.abc import Callable


class Watch:
    """Calls `on_late` when nothing was heard for as long as was agreed, or the whole took too long.

    `since` is set by its user whenever there is progress, which costs no call. The timer is moved
    only to ring earlier; one that rings too early is set again for what is left. On a connection in
    use it is therefore armed about once per patience, not per request or block.
    """

    __slots__ = ("_loop", "_on_late", "_patience_s", "_rings_at", "_timer", "_total_at", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_late: Callable[[bool], None]) -> None:
        """`on_late` is called with whether it was the whole that took too long."""
        self._loop = loop
        self._on_late = on_late
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = self._total_at = self._patience_s = 0.0
        self.since = 0.0

    def expect(self, patience_s: float, total_at: float) -> None:
        """Allow so many seconds without progress from now on, and nothing after `total_at`."""
        self.since = self._loop.time()
        self._patience_s = patience_s
        self._total_at = total_at
        late_at = min(self.since + patience_s, total_at)
        if self._timer is None or late_at < self._rings_at:
            self._arm(late_at)

    def close(self) -> None:
        """Ring no more, and forget whom to call."""
        self._stop()
        del self._on_late

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        self._stop()
        self._timer = self._loop.call_at(at, self._ring)
        self._rings_at = at

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        late_at = min(self.since + self._patience_s, self._total_at)
        if now < late_at:
            self._arm(late_at)
        else:
            self._on_late(now >= self._total_at)
