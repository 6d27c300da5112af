"""How deployments and keys stand: with every failure, over every rest, and by hand."""

from itertools import pairwise

import pytest

from proxy.core.errors import ErrorClass, UpstreamFailure
from proxy.core.health import Condition
from proxy.gateway import fleet as fleet_module
from proxy.gateway.snapshot import Snapshot
from tests.support.configuration import configuration
from tests.support.routing import Routing, failure

AUTH, QUOTA, RATE, SERVER = (
    failure(kind) for kind in (ErrorClass.AUTH, ErrorClass.QUOTA, ErrorClass.RATE, ErrorClass.SERVER)
)
TEXT = """
providers:
  a:
    base_url: https://a.example/v1
    api_keys: [k1, {key: k2, rpm: 2, concurrency: 2}]
  b: {base_url: https://b.example/v1, concurrency: 1}
  c: {base_url: https://c.example/v1, api_keys: [k1, k2, k3]}
models:
  m: {routes: [a/x, b/x, c/x]}
  n: {routes: [a/y]}
"""


@pytest.fixture
def here() -> Routing:
    return Routing(TEXT)


def rested_s(here: Routing, name: str, model: str = "m") -> float:
    standing = here.standing(name, model)
    assert standing.condition in (Condition.RESTING, Condition.OPEN)
    assert standing.until_ns is not None
    return (standing.until_ns - here.now_ns) / 10**9


# Busy


def test_a_provider_is_busy_at_its_concurrency(here: Routing) -> None:
    attempt = here.begin("b/x")
    assert here.standing("b/x") == (Condition.BUSY, None, None)
    here.end(attempt)
    assert here.standing("b/x").ready


def test_a_key_is_busy_at_its_concurrency_whatever_the_model(here: Routing) -> None:
    attempts = [here.begin("a/x/k2"), here.begin("a/y/k2", "n")]
    here.wait(3600)
    assert here.standing("a/x/k2") == (Condition.BUSY, None, None)
    assert here.standing("a/y/k2", "n").condition is Condition.BUSY
    assert here.standing("a/x/k1").ready
    here.end(attempts[0])
    assert here.standing("a/x/k2").ready


def test_a_key_is_busy_until_its_next_permit(here: Routing) -> None:
    for _ in range(2):
        here.succeed("a/x/k2")
    assert here.standing("a/x/k2") == (Condition.BUSY, here.now_ns + 30 * 10**9, None)
    here.wait(29.999)
    assert not here.standing("a/x/k2").ready
    here.wait(0.001)
    assert here.standing("a/x/k2").ready


def test_a_reload_keeps_what_is_known_and_takes_new_limits(here: Routing) -> None:
    here.succeed("a/x/k2")
    here.fail("c/x/k2", AUTH)
    here.snapshot = Snapshot.build(configuration(TEXT.replace("rpm: 2", "rpm: 1")))
    assert here.standing("a/x/k2").condition is Condition.BUSY
    assert here.standing("c/x/k2").condition is Condition.RESTING


# Resting


@pytest.mark.parametrize(
    ("error", "rest_s", "longer_s"),
    [(AUTH, 600, 1200), (QUOTA, 3600, 3600), (RATE, 5, 10), (failure(ErrorClass.RATE, after_s=42), 42, 42)],
    ids=["auth", "quota", "rate", "rate that asks"],
)  # fmt: skip
def test_a_key_rests_longer_each_time(
    here: Routing, error: UpstreamFailure, rest_s: float, longer_s: float
) -> None:
    here.fail("c/x/k1", error)
    assert here.standing("c/x/k1") == (Condition.RESTING, here.now_ns + rest_s * 10**9, error)
    assert here.standing("c/x/k2").ready
    here.wait(rest_s)
    assert here.standing("c/x/k1").ready
    here.fail("c/x/k1", error)
    assert rested_s(here, "c/x/k1") == longer_s


def test_a_refused_key_rests_for_all_models_and_a_slowed_one_for_its_own(here: Routing) -> None:
    here.fail("a/x/k1", RATE)
    assert not here.standing("a/x/k1").ready
    assert here.standing("a/y/k1", "n").ready
    here.fail("a/y/k2", AUTH, "n")
    assert not here.standing("a/x/k2").ready


def test_each_rest_keeps_its_own_cause_and_the_longest_is_told(here: Routing) -> None:
    slow = failure(ErrorClass.RATE, "slow", 7200)
    here.fail("a/x/k1", slow)
    here.fail("a/y/k1", QUOTA, "n")
    assert here.standing("a/x/k1").cause is slow
    assert here.standing("a/y/k1", "n").cause is QUOTA


def test_one_request_tries_and_its_success_opens_to_all(here: Routing) -> None:
    here.fail("c/x/k1", RATE)
    here.wait(5)
    attempt = here.begin("c/x/k1")
    assert here.standing("c/x/k1") == (Condition.TRYING, None, RATE)
    here.fleet.answered(attempt)
    assert here.standing("c/x/k1").ready
    here.end(attempt)
    here.fail("c/x/k1", RATE)
    assert rested_s(here, "c/x/k1") == 5


def test_a_trial_that_tells_nothing_lets_another_one_try(here: Routing) -> None:
    here.fail("c/x/k1", AUTH)
    here.wait(600)
    here.end(here.begin("c/x/k1"))
    assert here.standing("c/x/k1").ready
    here.begin("c/x/k1")
    assert here.standing("c/x/k1").condition is Condition.TRYING


def test_others_that_end_during_a_trial_let_nobody_else_try(here: Routing) -> None:
    before = [here.begin("c/x/k1") for _ in range(3)]
    here.wait(1)
    here.fail("c/x/k1", RATE)
    here.wait(5)
    here.begin("c/x/k1")
    here.end(before.pop())
    assert here.standing("c/x/k1").condition is Condition.TRYING
    here.fleet.answered(before[0])
    assert here.standing("c/x/k1").condition is Condition.TRYING
    here.fleet.failed(before[1], RATE, here.now_ns)
    assert here.standing("c/x/k1").condition is Condition.TRYING


@pytest.mark.parametrize("error", [AUTH, RATE, SERVER], ids=["auth", "rate", "server"])
def test_answers_that_were_under_way_end_no_rest(here: Routing, error: UpstreamFailure) -> None:
    before = here.begin("c/x/k1")
    here.wait(1)
    for attempt in [here.begin("c/x/k1") for _ in range(5)]:
        here.fleet.failed(attempt, error, here.now_ns)
        here.end(attempt)
    rest_s = rested_s(here, "c/x/k1")
    here.fleet.answered(before)
    here.end(before)
    assert rested_s(here, "c/x/k1") == rest_s


def test_failures_at_once_count_as_one(here: Routing) -> None:
    for attempt in [here.begin("c/x/k1") for _ in range(20)]:
        here.fleet.failed(attempt, AUTH, here.now_ns)
        here.end(attempt)
        here.wait(1)
    assert rested_s(here, "c/x/k1") == 580


def test_the_last_key_rests_shortly(here: Routing) -> None:
    here.fail("c/x/k1", AUTH)
    here.fail("c/x/k2", QUOTA)
    assert (rested_s(here, "c/x/k1"), rested_s(here, "c/x/k2")) == (600, 3600)
    for rest_s, longer_s in pairwise([30, 60, 120]):
        here.fail("c/x/k3", QUOTA)
        assert rested_s(here, "c/x/k3") == rest_s
        here.wait(rest_s)
        assert longer_s > rest_s
    here.wait(600)
    here.fail("c/x/k3", AUTH)  # k1 may be tried again
    assert rested_s(here, "c/x/k3") == 2400


def test_an_only_key_is_no_last_one(here: Routing) -> None:
    here.fail("b/x", AUTH)
    assert rested_s(here, "b/x") == 600


def test_the_next_key_that_may_be_asked(here: Routing) -> None:
    option = here.option("c/x/k1")
    provider, deployment = option.provider, option.candidate.deployment
    assert here.fleet.ready_key(provider, deployment, here.now_ns) is provider.keys[0]
    here.fail("c/x/k1", AUTH)
    assert here.fleet.ready_key(provider, deployment, here.now_ns) is provider.keys[1]
    here.fleet.provider("c").disabled = True
    assert here.fleet.ready_key(provider, deployment, here.now_ns) is None


# Breakers


def test_a_breaker_is_of_one_deployment_with_all_its_keys(here: Routing) -> None:
    for key in ("k1", "k2", "k1", "k1", "k1"):
        assert here.standing("a/x/k1").ready
        here.fail(f"a/x/{key}", SERVER)
    assert here.standing("a/x/k1") == (Condition.OPEN, here.now_ns + 30 * 10**9, SERVER)
    assert rested_s(here, "a/x/k2") == 30
    assert here.standing("a/y/k1", "n").ready
    here.wait(30)
    here.begin("a/x/k1")
    assert here.standing("a/x/k2").condition is Condition.TRYING


def test_a_call_counts_once_however_often_it_is_told_of(here: Routing) -> None:
    for _ in range(4):
        attempt = here.begin("c/x/k1")
        here.fleet.answered(attempt)
        here.fleet.answered(attempt)
        here.end(attempt)
    for _ in range(4):
        here.fail("c/x/k1", SERVER)
    here.succeed("c/x/k1")
    assert here.standing("c/x/k1").ready
    here.fail("c/x/k1", SERVER)  # five of ten
    assert here.standing("c/x/k1").condition is Condition.OPEN


def test_answers_that_break_off_count_as_failures_in_a_row(here: Routing) -> None:
    for _ in range(5):
        attempt = here.begin("c/x/k1")
        here.fleet.answered(attempt)
        here.fleet.failed(attempt, SERVER, here.now_ns)
        here.end(attempt)
    assert here.standing("c/x/k1").condition is Condition.OPEN


@pytest.mark.parametrize(
    "kind", [ErrorClass.REQUEST, ErrorClass.CONTEXT_LENGTH, ErrorClass.MODERATION], ids=str
)
def test_an_error_of_the_request_counts_against_nobody(here: Routing, kind: ErrorClass) -> None:
    for _ in range(4):
        here.fail("c/x/k1", SERVER)
    for _ in range(20):
        here.fail("c/x/k1", failure(kind))
    for _ in range(4):
        here.fail("c/x/k1", SERVER)
    assert here.standing("c/x/k1").ready


# Forced


def test_what_rests_may_be_forced_once_in_five_seconds(here: Routing) -> None:
    here.fail("c/x/k1", QUOTA)
    deployment = here.option("c/x/k1").candidate.deployment
    assert here.fleet.may_be_forced(deployment, here.now_ns)
    here.fail("c/x/k1", QUOTA, forced=True)
    here.wait(4.999)
    assert not here.fleet.may_be_forced(deployment, here.now_ns)
    here.wait(0.001)
    assert here.fleet.may_be_forced(deployment, here.now_ns)


def test_what_was_forced_makes_no_rest_longer_but_may_end_it(here: Routing) -> None:
    here.fail("c/x/k1", QUOTA)
    for _ in range(10):
        here.fail("c/x/k1", QUOTA, forced=True)
        here.wait(5)
    assert rested_s(here, "c/x/k1") == 3550
    attempt = here.begin("c/x/k1", forced=True)
    here.wait(4000)  # ends after the rest
    here.fleet.failed(attempt, QUOTA, here.now_ns)
    assert here.standing("c/x/k1").ready
    here.fail("c/x/k1", QUOTA)
    here.succeed("c/x/k1", forced=True)
    assert here.standing("c/x/k1").ready


# By hand


def test_a_disabled_provider_is_not_asked(here: Routing) -> None:
    here.fleet.provider("c").disabled = True
    assert here.standing("c/x/k1") == (Condition.DISABLED, None, None)
    here.fleet.provider("c").disabled = False
    assert here.standing("c/x/k1").ready


def test_a_reset_ends_all_rests_of_one_provider(here: Routing) -> None:
    here.fail("a/x/k1", AUTH)
    for name in ("c/x/k1", "c/x/k2"):
        here.fail(name, AUTH)
    here.fail("c/x/k3", RATE)
    for _ in range(5):
        here.fail("c/x/k3", SERVER)
    here.fail("c/x/k3", SERVER, forced=True)
    here.fleet.reset("c")
    assert all(here.standing(f"c/x/k{number}").ready for number in (1, 2, 3))
    assert here.fleet.may_be_forced(here.option("c/x/k3").candidate.deployment, here.now_ns)
    assert here.fleet.deployments_of("c")["x"].cause is None
    assert not here.standing("a/x/k1").ready
    here.fail("c/x/k1", AUTH)
    assert rested_s(here, "c/x/k1") == 600


# Bounds


def test_what_is_known_of_models_is_bounded(here: Routing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MOST_MODELS", 3)
    for _ in range(5):
        here.fail("c/x/k1", SERVER)
    for number in range(9):
        name = f"c/m{number}"
        here.fail(f"{name}/k1", RATE, name)
        here.fail(f"{name}/k1", SERVER, name)
        here.fleet.deployment("c", "x")  # asked for all the time
    assert list(here.fleet.deployments_of("c")) == ["m7", "m8", "x"]
    assert not here.standing("c/x/k1").ready
    assert list(here.fleet.provider("c").keys[here.option("c/x/k1").key.digest].paces) == ["m6", "m7", "m8"]
