"""The way of one request: whom it asks, for whom it waits, and what it says when nobody is left."""

import asyncio
from typing import Any

import pytest

from proxy.core.entities import Finish
from proxy.core.errors import ErrorClass, SluiceError, Unavailable, UpstreamFailure
from proxy.core.health import RetryBudget
from proxy.gateway.interruption import Interrupted, Interruption
from proxy.gateway.router import Route
from tests.support.routing import HELLO, Routing, failure, key_state, names, shown, timeout

AUTH, QUOTA, RATE, SERVER, LONG, REQUEST = (
    failure(kind, kind.value)
    for kind in (
        ErrorClass.AUTH,
        ErrorClass.QUOTA,
        ErrorClass.RATE,
        ErrorClass.SERVER,
        ErrorClass.CONTEXT_LENGTH,
        ErrorClass.REQUEST,
    )
)
TEXT = """
providers:
  a: {base_url: https://a.example/v1, api_keys: [k1, k2]}
  b: {base_url: https://b.example/v1, retry_on_read_timeout: true}
  c: {base_url: https://c.example/v1, concurrency: 1}
  d: {base_url: https://d.example/v1, api_keys: [{key: k1, concurrency: 1}, {key: k2, concurrency: 1}]}
models:
  m: {routes: [a/x, {provider: b, model: x, priority: 2}, {provider: c, model: x, priority: 3}]}
  one: {routes: [c/x]}
  pair: {routes: [d/x]}
  long: {routes: [b/long, c/long]}
context_fallbacks: {m: [long]}
"""
TURNS = [*HELLO, {"role": "assistant", "content": "Hello."}, *HELLO]


@pytest.fixture
def here() -> Routing:
    return Routing(TEXT)


async def attempt(route: Route, error: UpstreamFailure | None = None) -> str:
    """Make one attempt that fails, or is answered; return whom it asked, with ! when forced."""
    choice = await route.choose(Interruption())
    route.begin(choice)
    if error is None:
        route.answered(choice.option)
    else:
        route.failed(choice.option, error)
    route.end(choice.option)
    return shown(choice.option) + ("!" if choice.forced else "")


async def refusal(route: Route) -> SluiceError:
    with pytest.raises(SluiceError) as raised:
        await route.choose(Interruption())
    return raised.value


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# Attempts


async def test_three_attempts_and_then_the_last_failure(here: Routing) -> None:
    route = here.route()
    assert [await attempt(route, AUTH), await attempt(route, SERVER)] == ["a/x/k1", "a/x/k2"]
    assert await attempt(route, QUOTA) == "b/x"
    assert await refusal(route) is QUOTA


async def test_after_a_failure_of_the_provider_another_one_comes_first(here: Routing) -> None:
    route = here.route()
    assert [await attempt(route, SERVER) for _ in range(3)] == ["a/x/k1", "b/x", "c/x"]


async def test_keys_take_turns(here: Routing) -> None:
    assert [await attempt(here.route()) for _ in range(3)] == ["a/x/k1", "a/x/k2", "a/x/k1"]


async def test_with_nobody_else_its_own_failure_is_told(here: Routing) -> None:
    route = here.route("one")
    await attempt(route, SERVER)
    assert await refusal(route) is SERVER


async def test_of_limited_rates_the_shortest_is_told(here: Routing) -> None:
    here.fail("b/x", failure(ErrorClass.RATE, after_s=20))
    here.fail("c/x", failure(ErrorClass.RATE, after_s=40))
    here.fail("a/x/k2", QUOTA)
    route = here.route()
    await attempt(route, failure(ErrorClass.RATE, "slow", after_s=60))
    assert await attempt(route, failure(ErrorClass.RATE, "slow", after_s=90)) == "b/x!"
    assert await attempt(route, failure(ErrorClass.RATE, "slow", after_s=80)) == "c/x!"
    told = await refusal(route)
    assert (told.code, told.retry_after_s) == ("slow", 60)


async def test_what_cannot_be_asked_was_no_attempt_and_no_retry(here: Routing) -> None:
    route = here.route()
    choice = await route.choose(Interruption())
    route.leave_out(choice.option)
    assert await attempt(route, SERVER) == "b/x"
    for _ in range(9):
        assert here.router.retries.take(here.now_ns)
    choice = await route.choose(Interruption())  # the tenth, and last
    route.leave_out(choice.option)
    assert await refusal(route) is SERVER
    assert not here.router.retries.take(here.now_ns)


async def test_a_retry_that_was_not_used_is_kept_for_the_next_attempt(here: Routing) -> None:
    route = here.route()
    await attempt(route, AUTH)
    for _ in range(9):
        here.router.retries.take(here.now_ns)
    choice = await route.choose(Interruption())
    route.leave_out(choice.option)
    assert await attempt(route, SERVER) == "b/x"
    assert await refusal(route) is SERVER  # the budget is spent


async def test_one_request_counts_once_for_the_budget(here: Routing, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(RetryBudget, "request", lambda self, now_ns: counted.append(now_ns))
    route = here.route()
    assert counted == []
    route.leave_out((await route.choose(Interruption())).option)
    await attempt(route, SERVER)
    await attempt(route, SERVER)
    assert counted == [here.now_ns]


async def test_retries_stop_when_the_budget_is_spent(here: Routing) -> None:
    for _ in range(10):
        assert here.router.retries.take(here.now_ns)
    route = here.route()
    await attempt(route, AUTH)
    assert await refusal(route) is AUTH
    here.wait(60)
    here.fleet.reset("a")
    route = here.route()
    await attempt(route, AUTH)
    await attempt(route)


async def test_who_has_nobody_to_retry_with_takes_no_retry(here: Routing) -> None:
    for _ in range(30):
        route = here.route("one")
        await attempt(route, REQUEST)
        assert await refusal(route) is REQUEST
    assert all(here.router.retries.take(here.now_ns) for _ in range(10))


# Whether it goes on


@pytest.mark.parametrize(
    ("error", "at_a", "at_b"),
    [
        (AUTH, True, True),
        (RATE, True, True),
        (SERVER, True, True),
        (REQUEST, False, False),
        (timeout("upstream_connect_timeout"), True, True),
        (timeout("upstream_first_byte_timeout"), False, True),
        (timeout("upstream_idle_timeout"), False, True),
        (timeout("upstream_total_timeout"), False, True),
    ],
    ids=lambda value: value.code if isinstance(value, UpstreamFailure) else None,
)
async def test_what_is_retried(here: Routing, error: UpstreamFailure, at_a: bool, at_b: bool) -> None:
    route = here.route()
    assert route.goes_on(here.option("a/x/k1"), error) is at_a
    assert route.goes_on(here.option("b/x"), error) is at_b


async def test_too_long_a_request_turns_to_models_that_take_more(here: Routing) -> None:
    route = here.route()
    choice = await route.choose(Interruption())
    route.begin(choice)
    route.failed(choice.option, LONG)
    route.end(choice.option)
    assert route.goes_on(choice.option, LONG)
    assert names(route.plan) == ["b/long", "c/long"]
    assert await attempt(route, LONG) == "b/long"
    assert route.goes_on(choice.option, LONG)
    assert names(route.plan) == ["c/long"]
    assert await attempt(route, LONG) == "c/long"
    assert not route.goes_on(choice.option, LONG)


async def test_too_long_a_request_without_such_models_ends(here: Routing) -> None:
    route = here.route("one")
    await attempt(route, LONG)
    assert not route.goes_on(here.option("c/x"), LONG)


# Nobody is left


async def test_everything_disabled_is_said(here: Routing) -> None:
    here.fleet.provider("c").disabled = True
    error = await refusal(here.route("one"))
    assert isinstance(error, Unavailable)
    assert (error.code, error.status) == ("no_available_provider", 503)


async def test_what_rests_is_tried_once_in_five_seconds_and_repeated_meanwhile(here: Routing) -> None:
    here.fail("c/x", QUOTA)
    here.wait(600)
    assert await attempt(here.route("one"), QUOTA) == "c/x!"
    here.wait(4)
    repeated = await refusal(here.route("one"))
    assert isinstance(repeated, UpstreamFailure)
    assert repeated is not QUOTA
    assert (repeated.code, repeated.error_class) == ("quota", ErrorClass.QUOTA)
    assert repeated.retry_after_s == 3600 - 604
    here.wait(1)
    assert await attempt(here.route("one")) == "c/x!"
    assert await attempt(here.route("one")) == "c/x"


async def test_a_forced_retry_needs_the_budget_too(here: Routing) -> None:
    here.fail("b/x", QUOTA)
    here.fail("c/x", QUOTA)
    for _ in range(10):
        here.router.retries.take(here.now_ns)
    route = here.route()
    await attempt(route, AUTH)
    here.fail("a/x/k2", AUTH)
    assert await refusal(route) is AUTH


# Waiting


async def test_a_request_waits_for_a_busy_key(here: Routing) -> None:
    running = here.route("one")
    choice = await running.choose(Interruption())
    running.begin(choice)
    waiting = asyncio.ensure_future(attempt(here.route("one")))
    await turns()
    assert here.router.room.count == 1
    running.end(choice.option)
    assert await waiting == "c/x"
    await turns()
    assert here.router.room.count == 0


async def test_who_comes_later_waits_behind_who_waits(here: Routing) -> None:
    attempts = [here.begin("d/x/k1", "pair"), here.begin("d/x/k2", "pair")]
    order: list[str] = []

    async def ask(name: str, **members: Any) -> None:
        await attempt(here.route("pair", key_state(name), **members))
        order.append(name)

    first = asyncio.ensure_future(ask("first"))
    await turns()
    here.end(attempts[0])  # a place, of which nobody was told yet
    second = asyncio.ensure_future(ask("second"))
    await asyncio.gather(first, second)
    assert order == ["first", "second"]


async def test_it_does_not_wait_where_others_wait_but_goes_elsewhere(here: Routing) -> None:
    attempts = [here.begin("c/x")]
    waiting = asyncio.ensure_future(attempt(here.route("one")))
    await turns()
    assert await attempt(here.route("m")) == "a/x/k1"
    here.end(attempts[0])
    here.router.room.look()
    await waiting


async def test_a_retry_does_not_wait_nor_stand_behind_who_does(here: Routing) -> None:
    route = here.route("pair")
    choice = await route.choose(Interruption())
    route.begin(choice)
    other = here.begin("d/x/k2", "pair")
    waiting = asyncio.ensure_future(attempt(here.route("pair")))
    await turns()
    route.failed(choice.option, AUTH)
    here.end(other)
    assert await route.choose(Interruption())  # though somebody waits there
    route.end(choice.option)
    assert await waiting == "d/x/k2"

    route = here.route("one")
    assert await attempt(route, SERVER) == "c/x"
    assert await refusal(route) is SERVER


async def test_what_fails_while_it_waits_is_told(here: Routing) -> None:
    running = here.route("one")
    choice = await running.choose(Interruption())
    running.begin(choice)
    here.begin("c/x", forced=True)  # the last resort is spent
    waiting = [asyncio.ensure_future(attempt(here.route("one"))) for _ in range(2)]
    await turns()
    running.failed(choice.option, QUOTA)
    running.end(choice.option)
    for task in waiting:
        with pytest.raises(UpstreamFailure, match="quota"):
            await task


async def test_a_trial_that_succeeds_lets_those_in_who_wait(here: Routing) -> None:
    here.fail("d/x/k1", RATE, "pair")
    busy = here.begin("d/x/k2", "pair")
    waiting = asyncio.ensure_future(attempt(here.route("pair")))
    await turns()
    here.wait(5)
    here.router.room.look()
    assert await waiting == "d/x/k1"
    here.end(busy)


async def test_too_many_are_refused(here: Routing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.gateway.waiting.MOST_WAITING", 0)
    here.begin("c/x")
    assert (await refusal(here.route("one"))).code == "overloaded"


async def test_who_waited_thirty_seconds_is_refused(here: Routing) -> None:
    here.begin("c/x")
    route = here.route("one")
    here.wait(30)
    assert (await refusal(route)).code == "overloaded"


async def test_an_interrupted_request_waits_no_longer(here: Routing) -> None:
    here.begin("c/x")
    interruption = Interruption()
    waiting = asyncio.ensure_future(here.route("one").choose(interruption))
    await turns()
    assert interruption.set(Finish.CLIENT_GONE)
    with pytest.raises(Interrupted):
        await waiting
    assert here.router.room.count == 0


# Conversations


async def test_a_conversation_stays_where_it_was_served(here: Routing) -> None:
    assert await attempt(here.route()) == "a/x/k1"
    assert [await attempt(here.route(messages=TURNS)) for _ in range(3)] == ["a/x/k1"] * 3
    assert await attempt(here.route(messages=[*TURNS[:2], *HELLO])) == "a/x/k1"
    assert await attempt(here.route(key=key_state("another"), messages=TURNS)) == "a/x/k2"
    here.wait(300)
    assert await attempt(here.route(messages=TURNS)) == "a/x/k1"


async def test_a_conversation_moves_with_what_serves_it(here: Routing) -> None:
    await attempt(here.route())
    route = here.route(messages=TURNS)
    assert [await attempt(route, AUTH), await attempt(route)] == ["a/x/k1", "a/x/k2"]
    here.fleet.reset("a")
    assert await attempt(here.route(messages=TURNS)) == "a/x/k2"


async def test_with_one_choice_no_conversation_is_looked_for(here: Routing) -> None:
    await attempt(here.route("one"))
    assert not here.router.affinity._served
