"""Who waits for busy provider keys, who is next, and that no place stays empty meanwhile."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.errors import Unavailable
from proxy.gateway import waiting as waiting_module
from proxy.gateway.waiting import MOST_WAITING, WaitingRoom
from tests.support.keys import SetClock

S = 10**9


class Timers:
    """Stands in for the timers of a loop; time passes when a test says so."""

    def __init__(self, clock: SetClock) -> None:
        self.clock = clock
        self.set: list[Timer] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "Timer":
        timer = Timer(self, self.clock.monotonic_ns() + round(delay_s * S), callback)
        self.set.append(timer)
        return timer

    async def advance(self, seconds: float) -> None:
        self.clock.ms += round(seconds * 1000)
        for timer in [timer for timer in self.set if timer.at_ns <= self.clock.monotonic_ns()]:
            self.set.remove(timer)
            timer.callback()
        await turns()


class Timer:
    def __init__(self, timers: Timers, at_ns: int, callback: Callable[[], None]) -> None:
        self.timers, self.at_ns, self.callback = timers, at_ns, callback

    def cancel(self) -> None:
        with suppress(ValueError):
            self.timers.set.remove(self)


class Hall:
    """A waiting room before providers with some places each."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.timers = Timers(self.clock)
        self.room = WaitingRoom(self.clock)
        self.places: dict[str, int] = {}
        #: By provider, when one more place comes by itself.
        self.comes_ns: dict[str, int] = {}
        self.served: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def arrive(self, name: str, *providers: str) -> None:
        """A request arrives; its first letter is its API key."""
        self.clock.ms += 1
        self.tasks[name] = asyncio.ensure_future(self._visit(name, providers or ("p",)))

    async def _visit(self, name: str, providers: tuple[str, ...]) -> None:
        def look_again_ns(now_ns: int) -> int | None:
            if any(map(self.has_place, providers)):
                return now_ns
            return min((self.comes_ns[item] for item in providers if item in self.comes_ns), default=None)

        arrived_ns = self.clock.monotonic_ns()
        while True:
            await self.room.wait(name[0], providers, look_again_ns, arrived_ns)
            for provider in filter(self.has_place, providers):
                self.places[provider] -= 1
                self.served.append(name)
                return

    def has_place(self, provider: str) -> bool:
        come = self.comes_ns.get(provider)
        if come is not None and come <= self.clock.monotonic_ns():
            del self.comes_ns[provider]
            self.places[provider] = self.places.get(provider, 0) + 1
        return self.places.get(provider, 0) > 0

    async def free(self, provider: str = "p", count: int = 1) -> None:
        self.places[provider] = self.places.get(provider, 0) + count
        self.room.look()
        await turns()

    async def check_nobody_is_left(self) -> None:
        await turns()
        assert all(task.done() for task in self.tasks.values())
        assert (self.room.count, self.timers.set) == (0, [])
        assert not self.room.is_awaited("p")


async def turns() -> None:
    """Let the loop turn until nothing is left to do."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def hall(monkeypatch: pytest.MonkeyPatch) -> Hall:
    hall = Hall()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", hall.timers.call_later)
    return hall


async def test_api_keys_take_turns_and_of_each_the_first_is_first(hall: Hall) -> None:
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        hall.arrive(name)
        await turns()
    assert hall.room.count == 7
    for _ in range(7):
        await hall.free()
    assert hall.served == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    await hall.check_nobody_is_left()


async def test_who_comes_later_does_not_overtake_within_its_key(hall: Hall) -> None:
    hall.arrive("a1")
    await turns()
    await hall.free()
    hall.arrive("a2")
    hall.arrive("b1")
    await turns()
    hall.arrive("b2")
    await turns()
    await hall.free(count=3)
    assert hall.served == ["a1", "b1", "a2", "b2"]


async def test_several_places_serve_several_one_after_the_other(hall: Hall) -> None:
    for name in ("a1", "a2", "a3"):
        hall.arrive(name)
    await turns()
    await hall.free(count=2)
    assert hall.served == ["a1", "a2"]
    await hall.free(count=2)
    await hall.check_nobody_is_left()


async def test_who_finds_a_place_at_once_does_not_wait(hall: Hall) -> None:
    hall.places["p"] = 1
    hall.arrive("a1")
    await hall.check_nobody_is_left()


async def test_who_takes_another_place_leaves_the_free_one_to_the_next(hall: Hall) -> None:
    hall.arrive("a1", "q", "p")
    hall.arrive("b1", "q")
    hall.arrive("c1", "p")
    await turns()
    assert hall.room.is_awaited("q")
    hall.places |= {"p": 1, "q": 1}
    hall.room.look()
    await turns()
    assert hall.served == ["a1", "c1"]  # b1 waits for q; p is not kept from c1
    await hall.free("q")
    await hall.check_nobody_is_left()


async def test_one_whom_it_does_not_help_stands_in_nobodys_way(hall: Hall) -> None:
    hall.arrive("a1", "q")
    hall.arrive("b1", "p")
    await turns()
    await hall.free("p")
    assert hall.served == ["b1"]
    assert hall.room.is_awaited("q")
    assert not hall.room.is_awaited("p")
    await hall.free("q")


async def test_one_that_is_woken_and_goes_away_passes_its_place_on(hall: Hall) -> None:
    for name in ("a1", "b1"):
        hall.arrive(name)
    await turns()
    hall.places["p"] = 1
    hall.room.look()
    hall.room.look()  # wakes nobody else meanwhile
    hall.tasks["a1"].cancel()
    await turns()
    assert hall.served == ["b1"]
    await hall.check_nobody_is_left()


async def test_who_is_woken_at_the_end_of_its_patience_still_takes_its_place(hall: Hall) -> None:
    hall.arrive("a1")
    await turns()
    hall.places["p"] = 1
    hall.room.look()
    hall.clock.ms += 30_000
    hall.room.look()
    await turns()
    assert hall.served == ["a1"]


async def test_one_that_goes_away_leaves_nothing(hall: Hall) -> None:
    hall.arrive("a1")
    await turns()
    assert len(hall.timers.set) == 1
    hall.tasks["a1"].cancel()
    await hall.check_nobody_is_left()


async def test_no_more_than_a_hundred_wait(hall: Hall) -> None:
    for number in range(MOST_WAITING):
        hall.room.check()
        hall.arrive(f"a{number}")
        await asyncio.sleep(0)
    with pytest.raises(Unavailable) as raised:
        hall.room.check()
    assert (raised.value.code, raised.value.status, raised.value.retry_after_s) == ("overloaded", 503, 5)
    await hall.free(count=MOST_WAITING)
    while hall.room.count:
        await turns()
    await hall.check_nobody_is_left()


async def test_after_thirty_seconds_patience_ends(hall: Hall) -> None:
    hall.arrive("a1")
    hall.arrive("b1")
    await turns()
    await hall.timers.advance(29.998)
    assert hall.room.count == 2
    await hall.timers.advance(0.001)
    await hall.timers.advance(0.001)
    for name in ("a1", "b1"):
        with pytest.raises(Unavailable, match="busy for 30 s") as raised:
            await hall.tasks[name]
        assert raised.value.code == "overloaded"
    await hall.check_nobody_is_left()


async def test_at_the_end_of_its_patience_it_looks_once_more(hall: Hall) -> None:
    hall.arrive("a1")
    await turns()
    hall.places["p"] = 1  # nobody says so
    await hall.timers.advance(30)
    assert hall.served == ["a1"]
    await hall.check_nobody_is_left()


async def test_permits_that_come_with_time_are_shared_fairly(hall: Hall) -> None:
    hall.comes_ns["p"] = hall.clock.monotonic_ns() + 2 * S
    for name in ("a1", "a2", "b1"):
        hall.arrive(name)
    await turns()
    assert len(hall.timers.set) == 1
    await hall.timers.advance(1.9)
    assert hall.served == []
    for expected in (["a1"], ["a1", "b1"], ["a1", "b1", "a2"]):
        await hall.timers.advance(2)
        assert hall.served == expected
        hall.comes_ns["p"] = hall.clock.monotonic_ns() + 2 * S
        hall.room.look()
    await hall.check_nobody_is_left()


async def test_what_is_known_of_keys_is_bounded(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "MOST_WAITING", 0)
    for letter in "abc":
        hall.arrive(f"{letter}1")
        hall.arrive("z1")
        await turns()
        await hall.free()
        assert len(hall.room._served) <= 2
        await hall.free()


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from("abc"), st.sampled_from(["p", "q", "pq", "qp"])),
        st.tuples(st.just("free"), st.sampled_from("pq"), st.integers(1, 3)),
        st.tuples(st.just("gone"), st.integers(0, 20), st.booleans()),
        st.tuples(st.just("time"), st.integers(1, 20), st.none()),
    ),
    max_size=40,
)


@given(ACTIONS)
@settings(deadline=None)
def test_no_place_stays_empty_while_somebody_waits_for_it(actions: list[tuple[str, Any, Any]]) -> None:
    asyncio.run(_act(actions))


async def _act(actions: list[tuple[str, Any, Any]]) -> None:
    hall, wanted, places = Hall(), dict[str, str](), 0
    asyncio.get_running_loop().call_later = hall.timers.call_later  # type: ignore[method-assign,assignment]
    for number, (action, what, how) in enumerate(actions):
        if action == "arrive":
            wanted[f"{what}{number}"] = how
            hall.arrive(f"{what}{number}", *how)
        elif action == "free":
            places += how
            hall.places[what] = hall.places.get(what, 0) + how
            hall.room.look()
        elif action == "gone" and len(hall.tasks) > what:
            list(hall.tasks.values())[what].cancel()
        elif action == "time":
            await hall.timers.advance(what)
        if not (action == "gone" and how):  # the next one happens in the same turn, else
            await turns()
            waiting = {name for name, task in hall.tasks.items() if not task.done()}
            assert hall.room.count == len(waiting)
            for provider in "pq":
                is_awaited = any(provider in wanted[name] for name in waiting)
                assert hall.room.is_awaited(provider) is is_awaited
                assert not (is_awaited and hall.places.get(provider))
    assert len(hall.served) + sum(hall.places.values()) == places
    await hall.timers.advance(30)
    await hall.check_nobody_is_left()
    for task in hall.tasks.values():
        with suppress(Unavailable, asyncio.CancelledError):
            task.result()
