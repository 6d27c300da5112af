"""A deadline on a clock of the test's own."""

import asyncio
import math
from collections.abc import Callable

import pytest

from proxy.web.deadline import Deadline


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop(asyncio.AbstractEventLoop):
    """As much of an event loop as a deadline needs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(
        self, when: float, callback: Callable[[], None], *args: object, context: object = None
    ) -> Timer:  # type: ignore[override]  # its own handle
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def advance(self, to: float) -> None:
        self.now = to
        for timer in [t for t in self.timers if not t.cancelled and t.when <= to]:
            timer.cancelled = True
            timer.callback()

    @property
    def running(self) -> list[float]:
        return [timer.when for timer in self.timers if not timer.cancelled]


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def expired() -> list[float]:
    return []


@pytest.fixture
def deadline(loop: Loop, expired: list[float]) -> Deadline:
    return Deadline(loop, lambda: expired.append(loop.now))


def test_expires_once(deadline: Deadline, loop: Loop, expired: list[float]) -> None:
    deadline.put_off(10)
    loop.advance(109)
    assert expired == []
    loop.advance(110)
    loop.advance(200)
    assert expired == [110]
    assert deadline.when == math.inf


def test_putting_it_off_leaves_the_timer_alone(deadline: Deadline, loop: Loop, expired: list[float]) -> None:
    deadline.put_off(10)
    for _ in range(10):
        loop.now += 0.5
        deadline.put_off(10)
    assert len(loop.timers) == 1
    loop.advance(110)
    assert loop.running == [115]
    loop.advance(115)
    assert expired == [115]


def test_an_earlier_one_moves_the_timer(deadline: Deadline, loop: Loop, expired: list[float]) -> None:
    deadline.put_off(75)
    deadline.draw_near(10)
    assert loop.running == [110]
    loop.advance(110)
    assert expired == [110]


def test_drawing_near_never_puts_off(deadline: Deadline, loop: Loop) -> None:
    deadline.put_off(10)
    loop.advance(109)
    deadline.draw_near(10)
    assert deadline.when == 110


def test_cleared(deadline: Deadline, loop: Loop, expired: list[float]) -> None:
    deadline.put_off(10)
    deadline.clear()
    loop.advance(200)
    assert (expired, loop.running) == ([], [])
    deadline.put_off(10)
    loop.advance(210)
    assert expired == [210]


def test_a_timer_that_fires_early_counts(deadline: Deadline, loop: Loop, expired: list[float]) -> None:
    deadline.set(110)
    loop.timers[0].cancelled = True
    loop.now = 109.999
    loop.timers[0].callback()
    assert expired == [109.999]


def test_cancelled(deadline: Deadline, loop: Loop, expired: list[float]) -> None:
    deadline.put_off(10)
    deadline.cancel()
    deadline.cancel()
    loop.advance(200)
    assert (expired, loop.running) == ([], [])
