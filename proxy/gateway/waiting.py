"""Requests that wait because every provider key for them is busy: fairly, in bounded number and time.

docs/providers.md, "Limits of our own"
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from proxy.core.errors import Unavailable
from proxy.gateway.clock import Clock

MOST_WAITING = 100
PATIENCE_S = 30.0
# What a refused client is told to wait: about as long as a place takes to become free.
RETRY_AFTER_S = 5


#: Returns when something may be asked, as things stand at a time: that time itself, a later one, or
#: None, if only something else that happens can tell.
LookAgain = Callable[[int], int | None]


@dataclass(slots=True, eq=False)
class _Waiting:
    key: str
    arrived_ns: int
    providers: frozenset[str]
    look_again_ns: LookAgain
    woken: asyncio.Future[None]

    @property
    def deadline_ns(self) -> int:
        return self.arrived_ns + int(PATIENCE_S * 10**9)


class WaitingRoom:
    """Wakes waiting requests one after the other, each when there is something that it may ask.

    Next is the API key that was served longest ago, and of it the request that came first: a key
    with many requests keeps nobody else from being served. Who is woken takes its place before the
    next one is looked for; what it leaves, or what it gives up by going away, is theirs.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._served: dict[str, int] = {}
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        return len(self._waiting)

    def check(self) -> None:
        """Raise Unavailable (overloaded) when no more may wait."""
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable(
                "overloaded",
                "All provider keys for this model are busy, and as many requests as may wait for them do.",
                retry_after_s=RETRY_AFTER_S,
            )

    def is_awaited(self, provider: str) -> bool:
        """Return whether anybody waits for a place at a provider: who comes later does not overtake."""
        return any(provider in waiting.providers for waiting in self._waiting)

    async def wait(
        self, key: str, providers: Collection[str], look_again_ns: LookAgain, arrived_ns: int
    ) -> None:
        """Wait until something at one of `providers` may be asked; look for it at once then.

        Raises Unavailable (overloaded) 30 s after the arrival.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(key, arrived_ns, frozenset(providers), look_again_ns, loop.create_future())
        if self._clock.monotonic_ns() >= waiting.deadline_ns:
            raise Unavailable(
                "overloaded",
                f"All provider keys for this model were busy for {PATIENCE_S:.0f} s.",
                retry_after_s=RETRY_AFTER_S,
            )
        self._waiting.append(waiting)
        try:
            self.look()
            await waiting.woken
        finally:
            self._waiting.remove(waiting)
            loop.call_soon(self.look)  # when this one has taken its place, or is gone

    def look(self) -> None:
        """Something may have become possible, such as a place: wake who is next of those whom it helps."""
        self._stop_timer()
        if not self._waiting:
            return
        now_ns = self._clock.monotonic_ns()
        for waiting in self._waiting:
            if now_ns >= waiting.deadline_ns:
                _wake(waiting)
        if any(waiting.woken.done() for waiting in self._waiting):
            return  # it looks for the next one when it has taken its place
        moments = [waiting.deadline_ns for waiting in self._waiting]
        for waiting in sorted(self._waiting, key=self._order):
            moment_ns = waiting.look_again_ns(now_ns)
            if moment_ns is None:
                continue
            if moment_ns <= now_ns:
                self._serve(waiting)
                return
            moments.append(moment_ns)
        delay_s = -(-(min(moments) - now_ns) // 10**6) / 1000  # uvloop counts milliseconds: never too early
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.look)

    def _order(self, waiting: _Waiting) -> tuple[int, int]:
        return self._served.get(waiting.key, 0), waiting.arrived_ns

    def _serve(self, waiting: _Waiting) -> None:
        self._turn += 1
        self._served[waiting.key] = self._turn
        if len(self._served) > 10 * MOST_WAITING:
            self._served = {item.key: self._served.get(item.key, 0) for item in self._waiting}
        _wake(waiting)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _wake(waiting: _Waiting) -> None:
    if not waiting.woken.done():
        waiting.woken.set_result(None)
