"""What an account has while requests run: holds, and what becomes of them."""

import asyncio

import pytest

from proxy.core.errors import InsufficientQuota
from proxy.core.funding import Funds, Grant, Hold, Subscription, Worst
from proxy.gateway.funds import AccountFunds
from proxy.store.errors import LedgerUnavailable
from proxy.store.usage import Settled

NOW = 1000
UNIT = 10**9


def grant(left: int, id: str = "g", expires_ms: int | None = None) -> Grant:
    return Grant(id, 1000, left, 0, None, expires_ms)


def credit(left: int, expires_ms: int = NOW + 1) -> Subscription:
    return Subscription("pro", 1000, left, 0, expires_ms)


def account(*grants: Grant, wallet: int = 0, subscription: Subscription | None = None) -> AccountFunds:
    return AccountFunds("team", Funds(grants, subscription, wallet))


def check(funds: AccountFunds, nanos: int, tokens: int = 10, credit_limit: int = 0) -> Hold:
    return funds.check(
        Worst(tokens, 0, nanos, False),
        model="fast",
        now_ms=NOW,
        credit_limit_nanos=credit_limit,
        currency="USD",
    )


def refused(funds: AccountFunds, nanos: int, tokens: int = 10, credit_limit: int = 0) -> InsufficientQuota:
    with pytest.raises(InsufficientQuota) as raised:
        check(funds, nanos, tokens, credit_limit)
    return raised.value


def finished(outcome: Settled | Exception | None) -> asyncio.Future[Settled]:
    """Return a commit that ended so; None: it was cancelled."""
    commit: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
    if outcome is None:
        commit.cancel()
    elif isinstance(outcome, Exception):
        commit.set_exception(outcome)
    else:
        commit.set_result(outcome)
    return commit


class TestHolding:
    def test_checking_takes_nothing(self) -> None:
        funds = account(grant(4), wallet=5)
        holds = {check(funds, 10) for _ in range(3)}
        assert holds == {Hold((("g", 4),), 6)}
        assert (funds.held_nanos, funds.available_nanos(NOW)) == (0, 5)

    def test_what_is_taken_is_held_until_it_is_given_back(self) -> None:
        funds = account(grant(25), grant(5, "h"), wallet=20)
        for id in ("a", "b", "c"):
            funds.take(id, NOW, check(funds, 10))
        assert check(funds, 10) == Hold((), 10)
        funds.take("d", NOW, check(funds, 10))
        assert (funds.held_nanos, funds.available_nanos(NOW)) == (10, 10)
        funds.give_back("a")
        assert check(funds, 10) == Hold((("g", 10),), 0)
        funds.give_back("c")
        assert check(funds, 20, 20) == Hold((("g", 15), ("h", 5)), 0)
        for id in ("b", "d"):
            funds.give_back(id)
        assert (funds.held_nanos, funds.available_nanos(NOW)) == (0, 20)
        assert check(funds, 60, 60) == Hold((("g", 25), ("h", 5)), 30)

    def test_only_what_was_taken_can_be_given_back_and_once(self) -> None:
        funds = account(wallet=9)
        funds.take("a", NOW, Hold((), 5))
        funds.give_back("a")
        with pytest.raises(KeyError):
            funds.give_back("a")
        assert funds.held_nanos == 0

    def test_available_may_be_below_zero(self) -> None:
        funds = account(wallet=-7, subscription=credit(3))
        assert funds.available_nanos(NOW) == -4
        assert funds.available_nanos(NOW + 1) == -7

    def test_a_subscription_brings_its_plan_while_it_runs(self) -> None:
        assert account().subscribed_plan(NOW) is None
        funds = account(subscription=credit(3))
        assert (funds.subscribed_plan(NOW), funds.subscribed_plan(NOW + 1)) == ("pro", None)


class TestRefusals:
    def test_nothing_is_left(self) -> None:
        error = refused(account(wallet=-UNIT), UNIT // 4, 1234)
        assert (error.status, error.code, error.retry_after_s) == (402, "insufficient_balance", None)
        assert error.should_retry is False
        assert error.message == (
            'The account "team" has $0.00 left, and this request may cost up to $0.25 '
            "(about 1,234 tokens). It must be topped up."
        )

    def test_running_requests_hold_what_is_there(self) -> None:
        funds = account(wallet=3 * UNIT)
        funds.take("a", NOW, check(funds, 2 * UNIT))
        error = refused(funds, 2 * UNIT)
        assert (error.status, error.code, error.retry_after_s) == (402, "in_flight_budget_exhausted", 1)
        assert error.should_retry is True
        assert error.message == (
            'The account "team" has $1.00 that running requests do not hold, and this request may cost up to '
            "$2.00 (about 10 tokens). Please try again when one of them has ended."
        )

    def test_the_credit_limit_counts_as_left(self) -> None:
        funds = account(wallet=-UNIT)
        assert check(funds, UNIT, credit_limit=2 * UNIT) == Hold((), UNIT)
        funds.take("a", NOW, Hold((), UNIT // 2))
        assert "has $0.50 that" in refused(funds, UNIT, credit_limit=2 * UNIT).message


class TestSettled:
    async def test_the_hold_ends_and_what_is_left_holds(self) -> None:
        funds = account(grant(4), wallet=9)
        funds.take("a", NOW, check(funds, 10))
        funds.take("b", NOW, Hold((), 2))
        funds.settled("a", finished(Settled(True, Funds((), None, 3))))
        assert (funds.left, funds.held_nanos) == (Funds((), None, 3), 2)

    async def test_one_that_was_settled_before_ends_its_hold_too(self) -> None:
        funds = account(wallet=9)
        funds.take("a", NOW, check(funds, 5))
        funds.settled("a", finished(Settled(False, None)))
        assert (funds.left, funds.held_nanos) == (Funds((), None, 9), 0)

    @pytest.mark.parametrize("outcome", [None, LedgerUnavailable(), ValueError("a bad record")], ids=repr)
    async def test_one_that_was_not_written_keeps_its_hold(self, outcome: Exception | None) -> None:
        funds = account(wallet=9)
        funds.take("a", NOW, check(funds, 5))
        funds.settled("a", finished(outcome))
        assert (funds.left.wallet_nanos, funds.held_nanos, funds.available_nanos(NOW)) == (9, 5, 4)


class TestExpired:
    @pytest.mark.parametrize(
        ("funds", "expired"),
        [
            (account(), False),
            (account(wallet=-5), False),
            (account(grant(1)), False),
            (account(grant(1, expires_ms=NOW + 1)), False),
            (account(grant(1, expires_ms=NOW)), True),
            (account(grant(1), grant(1, "h", NOW)), True),
            (account(subscription=credit(0, NOW + 1)), False),
            (account(subscription=credit(0, NOW)), True),
            (account(grant(1, expires_ms=NOW + 1), subscription=credit(0, NOW)), True),
        ],
    )
    def test_with_nothing_running(self, funds: AccountFunds, expired: bool) -> None:
        assert funds.expired(NOW) is expired

    def test_what_runs_may_still_be_paid_with_what_was_valid_when_it_began(self) -> None:
        funds = account(grant(5, expires_ms=NOW - 100), subscription=credit(5, NOW - 50))
        funds.take("before", NOW - 101, Hold())
        funds.take("between", NOW - 51, Hold())
        funds.take("at the end", NOW - 50, Hold())
        assert not funds.expired(NOW)
        funds.give_back("before")
        assert not funds.expired(NOW)
        funds.give_back("between")
        assert funds.expired(NOW)  # what began at the end has it no more
