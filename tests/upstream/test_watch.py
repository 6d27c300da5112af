"""The watch, with a clock that is wound by hand."""

import asyncio
from typing import cast

import pytest

from proxy.upstream.watch import Watch
from tests.support.wound_loop import WoundLoop


@pytest.fixture
def clock() -> WoundLoop:
    return WoundLoop()


@pytest.fixture
def late() -> list[bool]:
    return []


@pytest.fixture
def watch(clock: WoundLoop, late: list[bool]) -> Watch:
    return Watch(cast(asyncio.AbstractEventLoop, clock), late.append)


def test_silence_is_noticed(clock: WoundLoop, late: list[bool], watch: Watch) -> None:
    watch.expect(10, 200)
    clock.advance(9.9)
    assert late == []
    clock.advance(0.1)
    assert late == [False]
    clock.advance(1000)
    assert late == [False]


def test_progress_moves_the_limit_but_not_the_timer(clock: WoundLoop, late: list[bool], watch: Watch) -> None:
    watch.expect(10, 200)
    for _ in range(9):
        clock.advance(1)
        watch.since = clock.time()
    assert len(clock.timers) == 1
    clock.advance(9.9)
    assert late == []
    assert len(clock.timers) == 2
    clock.advance(0.1)
    assert late == [False]


def test_total_is_noticed_whatever_the_progress(clock: WoundLoop, late: list[bool], watch: Watch) -> None:
    watch.expect(10, 125)
    for _ in range(24):
        clock.advance(1)
        watch.since = clock.time()
    assert late == []
    clock.advance(1)
    assert late == [True]


def test_timer_is_moved_only_to_ring_earlier(clock: WoundLoop, late: list[bool], watch: Watch) -> None:
    watch.expect(60, 1000)
    watch.expect(100, 1000)
    assert [timer.at for timer in clock.timers] == [160]
    watch.expect(5, 1000)
    assert [(timer.at, timer.cancelled) for timer in clock.timers] == [(160, True), (105, False)]
    watch.expect(60, 1000)
    clock.advance(5)
    assert late == []
    clock.advance(55)
    assert late == [False]


def test_closed_watch_rings_no_more(clock: WoundLoop, late: list[bool], watch: Watch) -> None:
    watch.close()
    watch = Watch(cast(asyncio.AbstractEventLoop, clock), late.append)
    watch.expect(10, 200)
    watch.close()
    clock.advance(1000)
    assert late == []
