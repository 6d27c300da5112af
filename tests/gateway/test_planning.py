"""In which order deployments and keys are tried."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import ErrorClass
from proxy.gateway.planning import Plan, preferring
from tests.support.routing import Routing, failure, names, shown

AUTH, QUOTA, RATE, SERVER = (
    failure(kind) for kind in (ErrorClass.AUTH, ErrorClass.QUOTA, ErrorClass.RATE, ErrorClass.SERVER)
)
TEXT = """
providers:
  a: {base_url: https://a.example/v1, api_keys: [k1, k2, k3]}
  b: {base_url: https://b.example/v1, api_keys: [k1, k2]}
  c: {base_url: https://c.example/v1, concurrency: 1}
models:
  m: {routes: [{provider: c, model: x, priority: 2}, a/x, b/x]}
  two: {routes: [b/x]}
  big: {routes: [b/x, c/big]}
fallbacks: {m: [big]}
"""
ORDER = ["a/x/k1", "a/x/k2", "a/x/k3", "b/x/k1", "b/x/k2", "c/x"]
FALLBACKS = ["b/x/k1", "b/x/k2", "c/big"]


@pytest.fixture
def here() -> Routing:
    return Routing(TEXT)


def tried(plan: Plan, now_ns: int) -> list[str]:
    """Take everything that may be asked."""
    found = []
    while (choice := plan.next(now_ns)) is not None:
        assert not choice.forced
        found.append(shown(choice.option))
    return found


# The order


def test_priorities_then_the_order_of_fallbacks(here: Routing) -> None:
    plan = here.plan()
    assert names(plan) == ORDER + FALLBACKS
    assert [item.deployment.provider for item in plan.candidates] == ["a", "b", "c", "b", "c"]
    assert plan.providers == {"a", "b", "c"}


def test_within_a_priority_weights_decide_how_often_who_is_first() -> None:
    routes = ", ".join(
        f"{{provider: {name}, model: x, weight: {weight}}}" for name, weight in (("a", 1), ("b", 2), ("c", 5))
    )
    text = TEXT.split("models:")[0] + f"models: {{m: {{routes: [{routes}]}}}}"
    here = Routing(text, random.Random(1).random)
    first = Counter(here.plan().candidates[0].deployment.provider for _ in range(8000))
    for name, share in (("a", 1000), ("b", 2000), ("c", 5000)):
        assert abs(first[name] - share) < 200
    second = Counter(tuple(item.deployment.provider for item in here.plan().candidates) for _ in range(8000))
    # of those that begin with c, a third go on with a
    begin_with_c = second["c", "a", "b"] + second["c", "b", "a"]
    assert abs(second["c", "a", "b"] - begin_with_c / 3) < 200


@pytest.fixture(scope="module")
def shared() -> Routing:
    return Routing(TEXT)


@given(st.randoms(use_true_random=False))
def test_whatever_chance_says_priorities_hold_and_nothing_is_lost(
    shared: Routing, chance: random.Random
) -> None:
    shared.router.chance = chance.random
    plan = shared.plan()
    assert names(plan)[5:6] == ["c/x"]
    assert sorted(names(plan)) == sorted(ORDER + FALLBACKS)
    ranks = [option.candidate.rank for option in plan.options]
    assert ranks == sorted(ranks)


def test_keys_take_turns_but_a_plan_takes_none(here: Routing) -> None:
    provider = here.snapshot.providers["a"]
    assert names(here.plan())[:3] == names(here.plan())[:3] == ORDER[:3]
    provider.take_turn(provider.keys[0])
    assert names(here.plan())[:3] == ["a/x/k2", "a/x/k3", "a/x/k1"]
    provider.take_turn(provider.keys[2])
    assert names(here.plan())[:3] == ORDER[:3]


# Affinity


def test_what_served_the_conversation_is_first_within_its_priority(here: Routing) -> None:
    plan = here.plan()
    for name, order in {
        "b/x/k2": ["b/x/k2", "a/x/k1", "a/x/k2", "a/x/k3", "b/x/k1", "c/x"],
        "a/x/k1": ORDER,
        "c/x": ORDER,
    }.items():
        options = preferring(list(plan.options), here.option(name).identity)
        assert [shown(option) for option in options] == order + FALLBACKS
    # and each deployment once, though its options are apart now
    preferred = Plan(preferring(list(plan.options), here.option("b/x/k2").identity), here.fleet)
    assert [item.deployment.provider for item in preferred.candidates] == ["b", "a", "c", "b", "c"]


def test_nobody_is_preferred_who_is_not_among_them(here: Routing) -> None:
    plan = here.plan()
    gone = here.option("b/x/k2").identity._replace(key=b"another")
    for served in (None, gone):
        assert preferring(list(plan.options), served) == list(plan.options)


# What is tried


def test_never_the_same_deployment_and_key_twice(here: Routing) -> None:
    assert tried(here.plan(), here.now_ns) == [*ORDER, "c/big"]
    assert tried(here.plan("two"), here.now_ns) == ["b/x/k1", "b/x/k2"]


def test_what_rests_or_is_busy_is_passed_over(here: Routing) -> None:
    here.fail("a/x/k1", AUTH)
    here.fail("a/x/k3", RATE)
    here.begin("c/x")
    here.fleet.provider("b").disabled = True
    assert tried(here.plan(), here.now_ns) == ["a/x/k2"]


def test_after_a_failure_of_the_provider_its_other_keys_come_last(here: Routing) -> None:
    plan = here.plan()
    choice = plan.next(here.now_ns)
    assert choice is not None
    plan.provider_failed(choice.option)
    assert tried(plan, here.now_ns) == ["b/x/k1", "b/x/k2", "c/x", "c/big", "a/x/k2", "a/x/k3"]


def test_what_cannot_be_asked_is_left_out_with_its_cause(here: Routing) -> None:
    for name in ("a/x/k1", "a/x/k2", "a/x/k3"):
        here.fail(name, AUTH)
    plan = here.plan()
    assert plan.cause(here.now_ns) is not None
    plan.leave_out(plan.candidates[0])
    assert plan.cause(here.now_ns) is None
    assert names(plan) == ["b/x/k1", "b/x/k2", "c/x", *FALLBACKS]


def test_one_that_others_wait_for_is_not_asked(here: Routing) -> None:
    plan = here.plan()
    choice = plan.next(here.now_ns, {"a"}.__contains__)
    assert choice is not None
    assert shown(choice.option) == "b/x/k1"
    assert plan.next(here.now_ns, {"a", "b", "c"}.__contains__) is None


def test_turning_to_others_leaves_nothing_else_and_never_repeats(here: Routing) -> None:
    plan, big = here.plan(), here.plan("big")
    plan.leave_out(plan.candidates[0])
    assert plan.next(here.now_ns) is not None
    plan.turn_to(list(big.options))
    assert names(plan) == ["b/x/k2", "c/big"]
    assert tried(plan, here.now_ns) == ["b/x/k2", "c/big"]
    plan.turn_to(list(big.options))
    assert names(plan) == []


# Waiting


def test_when_to_look_again() -> None:
    here = Routing("""
    providers:
      a: {base_url: https://a.example/v1, api_keys: [{key: k1, rpm: 1}, {key: k2, concurrency: 1}]}
    models: {m: {routes: [a/x]}}
    """)
    plan = here.plan()
    assert plan.is_worth_waiting(here.now_ns)
    assert plan.look_again_ns(here.now_ns) == here.now_ns
    here.succeed("a/x/k1")
    attempt = here.begin("a/x/k2")
    assert plan.is_worth_waiting(here.now_ns)
    assert plan.look_again_ns(here.now_ns) == here.now_ns + 60 * 10**9
    here.fail("a/x/k1", RATE)  # back sooner than its permit: then it is seen what holds
    assert plan.look_again_ns(here.now_ns) == here.now_ns + 5 * 10**9
    here.fleet.provider("a").disabled = True
    assert not plan.is_worth_waiting(here.now_ns)
    assert plan.look_again_ns(here.now_ns) == here.now_ns
    here.fleet.provider("a").disabled = False
    plan.next(here.now_ns)
    here.fail("a/x/k1", failure(ErrorClass.QUOTA))
    here.end(attempt)
    assert plan.look_again_ns(here.now_ns) == here.now_ns


def test_who_is_busy_without_a_rate_says_no_time(here: Routing) -> None:
    here.begin("c/x")
    plan = here.plan("c/x")
    assert plan.look_again_ns(here.now_ns) is None


# Last resorts, and causes


def test_the_last_resort_is_what_is_back_first_and_each_once_in_five_seconds(here: Routing) -> None:
    here.fail("b/x/k1", QUOTA)
    assert here.plan("two").last_resort(here.now_ns) is not None
    here.fail("b/x/k2", RATE)
    plan = here.plan("two")
    choice = plan.last_resort(here.now_ns)
    assert choice is not None
    assert choice.forced
    assert shown(choice.option) == "b/x/k2"
    here.begin("b/x/k2", "two", forced=True)
    assert plan.last_resort(here.now_ns) is None
    here.wait(5)
    choice = plan.last_resort(here.now_ns)
    assert choice is not None
    assert shown(choice.option) == "b/x/k1"


def test_what_is_ready_busy_or_disabled_is_no_last_resort(here: Routing) -> None:
    assert here.plan("two").last_resort(here.now_ns) is None
    here.begin("c/x")
    assert here.plan("c/x").last_resort(here.now_ns) is None
    here.fail("c/x", QUOTA)
    here.fleet.provider("c").disabled = True
    assert here.plan("c/x").last_resort(here.now_ns) is None


def test_the_cause_is_that_of_what_is_back_first_with_its_time(here: Routing) -> None:
    assert here.plan("two").cause(here.now_ns) is None
    here.fail("b/x/k1", failure(ErrorClass.RATE, "slow", after_s=60))
    here.fail("b/x/k2", failure(ErrorClass.RATE, "fast", after_s=20))
    here.wait(5)
    plan = here.plan("two")
    cause = plan.cause(here.now_ns)
    assert cause is not None
    assert (cause.code, cause.retry_after_s, cause.error_class) == ("fast", 15, ErrorClass.RATE)
    while plan.last_resort(here.now_ns):  # also of what has been tried
        pass
    here.wait(15)
    here.begin("b/x/k2", "two")
    cause = plan.cause(here.now_ns)
    assert cause is not None
    assert (cause.code, cause.retry_after_s) == ("fast", 5)  # it is being tried
