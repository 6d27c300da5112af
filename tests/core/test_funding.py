"""Who pays, and who is let in: tables of cases, and the same decisions in exact fractions."""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from math import floor

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.funding import (
    NOTHING_PAID,
    Funds,
    Grant,
    Hold,
    Payment,
    Shortage,
    Subscription,
    Worst,
    held_output,
    pay,
    reserve,
)

NOW = 1000


def grant(left: int, id: str = "g", **fields: object) -> Grant:
    return msgspec.structs.replace(Grant(id, 10**9, left, 0), **fields)


def credit(left: int, expires_ms: int = NOW + 1) -> Subscription:
    return Subscription("pro", 10**9, left, 0, expires_ms)


def worst(nanos: int, input_tokens: int = 10, output_tokens: int = 0, *, free: bool = False) -> Worst:
    return Worst(input_tokens, output_tokens, nanos, free)


def asked(
    funds: Funds,
    wanted: Worst,
    *,
    held_tokens: Mapping[str, int] | None = None,
    held_nanos: int = 0,
    credit_limit: int = 0,
) -> Hold | Shortage:
    return reserve(
        funds,
        held_tokens or {},
        held_nanos,
        wanted,
        model="fast",
        now_ms=NOW,
        credit_limit_nanos=credit_limit,
    )


def paid(funds: Funds, tokens: int, cost_nanos: int, admitted_ms: int = NOW) -> Payment:
    return pay(funds, model="fast", admitted_ms=admitted_ms, tokens=tokens, cost_nanos=cost_nanos)


class TestWhatPays:
    @pytest.mark.parametrize(
        ("models", "expires_ms", "pays"),
        [
            (None, None, True),
            (None, NOW + 1, True),
            (None, NOW, False),
            (None, NOW - 1, False),
            (("fa*",), None, True),
            (("slow", "fast"), None, True),
            (("slow",), None, False),
            ((), None, False),
            (("fast",), NOW, False),
        ],
    )
    def test_a_grant_pays_for_its_models_until_it_expires(
        self, models: tuple[str, ...] | None, expires_ms: int | None, pays: bool
    ) -> None:
        assert grant(1, models=models, expires_ms=expires_ms).pays("fast", NOW) is pays

    def test_a_subscription_runs_up_to_its_end(self) -> None:
        assert [credit(1, expires_ms=end).runs(NOW) for end in (NOW - 1, NOW, NOW + 1)] == [
            False,
            False,
            True,
        ]

    def test_money_is_running_credit_and_the_wallet(self) -> None:
        assert Funds().money_nanos(NOW) == 0
        assert Funds((), credit(5), -2).money_nanos(NOW) == 3
        assert Funds((), credit(5, expires_ms=NOW), -2).money_nanos(NOW) == -2

    def test_holds_and_payments_count_their_tokens(self) -> None:
        parts = (("a", 3), ("b", 4))
        assert (Hold(parts).tokens, Payment(parts).tokens, Hold().tokens, NOTHING_PAID.tokens) == (7, 7, 0, 0)
        assert worst(0, 3, 5).tokens == 8


@pytest.mark.parametrize("value", [grant(1), credit(1), Funds(), Hold(), Payment()], ids=repr)
def test_what_says_who_has_what_is_never_changed(value: msgspec.Struct) -> None:
    assert value.__struct_config__.frozen


@pytest.mark.parametrize(
    ("asked_for", "max_output", "held"),
    [
        (None, None, 4096),
        (None, 100, 100),
        (None, 8192, 8192),
        (None, 100_000, 8192),
        (1, None, 1),
        (1, 100, 1),
        (500, 100, 500),  # who asks for more than there is was clamped before
        (8192, None, 8192),
        (8193, None, 8192),
    ],
)
def test_held_output(asked_for: int | None, max_output: int | None, held: int) -> None:
    assert held_output(asked_for, max_output) == held


class TestPayment:
    @pytest.mark.parametrize(
        ("funds", "tokens", "cost", "payment"),
        [
            pytest.param(Funds(), 10, 0, Payment(), id="nothing to pay"),
            pytest.param(Funds(), 10, 7, Payment(wallet_nanos=7), id="the wallet goes below zero"),
            pytest.param(Funds((), credit(7), 9), 10, 7, Payment((), 7), id="credit alone"),
            pytest.param(Funds((), credit(6), 9), 10, 7, Payment((), 6, 1), id="credit, then wallet"),
            pytest.param(Funds((), credit(9, NOW), 9), 10, 7, Payment((), 0, 7), id="expired credit"),
            pytest.param(Funds((grant(10),)), 10, 7, Payment((("g", 10),)), id="a grant, whole"),
            pytest.param(Funds((grant(11),)), 10, 7, Payment((("g", 10),)), id="a grant, some of it"),
            pytest.param(Funds((grant(5),)), 10, 7, Payment((("g", 5),), 0, 4), id="half is rounded up"),
            pytest.param(Funds((grant(9),)), 10, 4, Payment((("g", 9),)), id="below half is rounded down"),
            pytest.param(Funds((grant(4),)), 10, 0, Payment((("g", 4),)), id="tokens that cost nothing"),
            pytest.param(Funds((grant(4),)), 0, 7, Payment((), 0, 7), id="money without tokens"),
            pytest.param(
                Funds((grant(3, "a"), grant(3, "b"), grant(3, "c")), credit(1), 0),
                5,
                10,
                Payment((("a", 3), ("b", 2))),
                id="one grant after the other",
            ),
            pytest.param(
                Funds((grant(500),), credit(100_000), 0),
                1078,
                240_520,
                Payment((("g", 500),), 100_000, 28_962),
                id="the example in docs/billing.md",
            ),
        ],
    )
    def test_cases(self, funds: Funds, tokens: int, cost: int, payment: Payment) -> None:
        assert paid(funds, tokens, cost) == payment

    def test_grants_for_other_models_do_not_pay(self) -> None:
        funds = Funds(
            (grant(5, "a", models=("slow",)), grant(0, "b"), grant(5, "c", expires_ms=NOW)), None, 9
        )
        assert paid(funds, 10, 7) == Payment((), 0, 7)

    def test_what_was_valid_at_admission_pays(self) -> None:
        funds = Funds((grant(5, expires_ms=NOW),), credit(2, expires_ms=NOW), 0)
        assert paid(funds, 10, 8, NOW - 1) == Payment((("g", 5),), 2, 2)
        assert paid(funds, 10, 8, NOW) == Payment((), 0, 8)


class TestReservation:
    @pytest.mark.parametrize(
        ("funds", "held", "limit", "wanted", "outcome"),
        [
            pytest.param(Funds(wallet_nanos=7), 0, 0, worst(7), Hold((), 7), id="fits exactly"),
            pytest.param(Funds(wallet_nanos=7), 2, 0, worst(5), Hold((), 5), id="fits beside others"),
            pytest.param(
                Funds(wallet_nanos=7),
                3,
                0,
                worst(5),
                Shortage("in_flight_budget_exhausted", 4),
                id="would fit without others",
            ),
            pytest.param(
                Funds(wallet_nanos=7),
                1,
                0,
                worst(7),
                Shortage("in_flight_budget_exhausted", 6),
                id="would fit exactly without others",
            ),
            pytest.param(
                Funds(wallet_nanos=7),
                7,
                0,
                worst(5),
                Shortage("in_flight_budget_exhausted", 0),
                id="all is held",
            ),
            pytest.param(
                Funds(wallet_nanos=7),
                9,
                0,
                worst(8),
                Shortage("in_flight_budget_exhausted", 0),
                id="more than all is held",
            ),
            pytest.param(Funds(wallet_nanos=7), 0, 0, worst(8), Hold((), 8), id="larger than all there is"),
            pytest.param(Funds(wallet_nanos=7), 6, 0, worst(8), Hold((), 8), id="larger, and the last one"),
            pytest.param(Funds((), credit(5), 2), 0, 0, worst(7), Hold((), 7), id="credit and wallet"),
            pytest.param(Funds((), credit(5), -4), 0, 0, worst(1), Hold((), 1), id="credit and debts"),
            pytest.param(Funds(), 0, 0, worst(1), Shortage("insufficient_balance", 0), id="nothing there"),
            pytest.param(
                Funds(),
                0,
                0,
                worst(0),
                Shortage("insufficient_balance", 0),
                id="nothing, for less than a nano",
            ),
            pytest.param(
                Funds((), credit(5, NOW), 0),
                0,
                0,
                worst(1),
                Shortage("insufficient_balance", 0),
                id="expired credit",
            ),
            pytest.param(
                Funds(wallet_nanos=-3), 0, 0, worst(1), Shortage("insufficient_balance", 0), id="debts"
            ),
            pytest.param(
                Funds(), 4, 0, worst(1), Shortage("insufficient_balance", 0), id="nothing, and that is held"
            ),
            pytest.param(Funds(wallet_nanos=-3), 0, 4, worst(1), Hold((), 1), id="within the credit limit"),
            pytest.param(
                Funds(wallet_nanos=-4),
                0,
                4,
                worst(1),
                Shortage("insufficient_balance", 0),
                id="at the credit limit",
            ),
            pytest.param(
                Funds(wallet_nanos=-3),
                1,
                4,
                worst(1),
                Shortage("in_flight_budget_exhausted", 0),
                id="others hold the rest of the limit",
            ),
            pytest.param(Funds(wallet_nanos=-9), 0, 0, worst(0, free=True), Hold(), id="free, with debts"),
            pytest.param(Funds(wallet_nanos=7), 9, 0, worst(0, free=True), Hold(), id="free, all is held"),
            pytest.param(Funds(wallet_nanos=7), 0, 0, worst(7, 0), Hold((), 7), id="money without tokens"),
        ],
    )
    def test_money(
        self, funds: Funds, held: int, limit: int, wanted: Worst, outcome: Hold | Shortage
    ) -> None:
        assert asked(funds, wanted, held_nanos=held, credit_limit=limit) == outcome

    @pytest.mark.parametrize(
        ("funds", "held", "wanted", "outcome"),
        [
            pytest.param(Funds((grant(10),)), {}, worst(7), Hold((("g", 10),)), id="covered"),
            pytest.param(Funds((grant(5),)), {}, worst(7), Hold((("g", 5),), 4), id="covered in part"),
            pytest.param(Funds((grant(1),), None, -9), {}, worst(10), Hold((("g", 1),), 9), id="one token"),
            pytest.param(
                Funds((grant(9),)), {"g": 8}, worst(10), Hold((("g", 1),), 9), id="one that is left"
            ),
            pytest.param(
                Funds((grant(9),)),
                {"g": 9},
                worst(10),
                Shortage("in_flight_budget_exhausted", 0),
                id="tokens that others hold",
            ),
            pytest.param(
                Funds((grant(9),)),
                {"g": 12},
                worst(10),
                Shortage("in_flight_budget_exhausted", 0),
                id="more held than there is",
            ),
            pytest.param(
                Funds((grant(9), grant(2, "h"))),
                {"g": 9},
                worst(10),
                Hold((("h", 2),), 8),
                id="the next grant",
            ),
            pytest.param(
                Funds((grant(9, models=("slow",)), grant(9, "h", expires_ms=NOW))),
                {},
                worst(10),
                Shortage("insufficient_balance", 0),
                id="grants for others",
            ),
            pytest.param(
                Funds((grant(9),)), {}, worst(10, 0), Shortage("insufficient_balance", 0), id="without tokens"
            ),
            pytest.param(Funds((grant(9),), None, 1), {"g": 9}, worst(1), Hold((), 1), id="money instead"),
            pytest.param(
                Funds((grant(6),)), {}, worst(7, 3, 4), Hold((("g", 6),), 1), id="input and output together"
            ),
            pytest.param(
                Funds((grant(4),)),
                {},
                worst(0, free=True),
                Hold((("g", 4),)),
                id="free ones hold tokens, too",
            ),
        ],
    )
    def test_tokens(
        self, funds: Funds, held: dict[str, int], wanted: Worst, outcome: Hold | Shortage
    ) -> None:
        before = dict(held)
        assert asked(funds, wanted, held_tokens=held) == outcome
        assert held == before  # nothing is taken


# -- properties

TOKENS = st.integers(0, 2000)
NANOS = st.integers(0, 10**6)
MODELS = st.sampled_from([None, ("fast",), ("slow",), ("*",)])
EXPIRIES = st.sampled_from([None, NOW - 1, NOW, NOW + 1, NOW + 2])


@st.composite
def all_funds(draw: st.DrawFn) -> Funds:
    grants = tuple(
        grant(draw(st.integers(1, 1500)), str(index), models=draw(MODELS), expires_ms=draw(EXPIRIES))
        for index in range(draw(st.integers(0, 4)))
    )
    subscription = draw(st.none() | st.builds(credit, NANOS, expires_ms=st.sampled_from([NOW, NOW + 1])))
    return Funds(grants, subscription, draw(st.integers(-(10**6), 10**6)))


@given(all_funds(), TOKENS, NANOS)
def test_a_payment_is_what_the_formula_says(funds: Funds, tokens: int, cost: int) -> None:
    payment = paid(funds, tokens, cost)
    usable = [each for each in funds.grants if each.pays("fast", NOW)]
    given_tokens = min(tokens, sum(each.left for each in usable))
    money = floor(Fraction(cost * (tokens - given_tokens), tokens) + Fraction(1, 2)) if tokens else cost
    assert payment.tokens == given_tokens
    assert payment.subscription_nanos == min(money, funds.credit_nanos(NOW))
    assert payment.subscription_nanos + payment.wallet_nanos == money
    assert payment.subscription_nanos >= 0 <= payment.wallet_nanos


@given(all_funds(), TOKENS, NANOS)
def test_a_grant_is_touched_only_when_those_before_it_are_empty(funds: Funds, tokens: int, cost: int) -> None:
    payment = paid(funds, tokens, cost)
    taken = dict(payment.grants)
    usable = [each for each in funds.grants if each.pays("fast", NOW)]
    assert len(taken) == len(payment.grants)
    assert set(taken) <= {each.id for each in usable}
    for index, each in enumerate(usable):
        assert 0 <= taken.get(each.id, 0) <= each.left
        if taken.get(each.id):
            assert all(taken[earlier.id] == earlier.left for earlier in usable[:index])
    if payment.wallet_nanos:
        assert payment.subscription_nanos == funds.credit_nanos(NOW)
        assert payment.tokens == min(tokens, sum(each.left for each in usable))


@given(all_funds(), st.dictionaries(st.sampled_from("0123"), st.integers(0, 2000)), NANOS, NANOS, TOKENS)
def test_a_hold_is_never_less_than_what_is_then_paid(
    funds: Funds, held_tokens: dict[str, int], held_nanos: int, nanos: int, tokens: int
) -> None:
    hold = asked(funds, worst(nanos, tokens), held_tokens=held_tokens, held_nanos=held_nanos)
    if isinstance(hold, Shortage):
        assert hold.left_nanos >= 0
        return
    for id, part in hold.grants:
        (used,) = [each for each in funds.grants if each.id == id]
        assert used.pays("fast", NOW)
        assert 0 < part <= used.left - held_tokens.get(id, 0)
    payment = paid(funds, tokens, nanos)
    assert hold.tokens <= payment.tokens <= tokens
    assert hold.nanos >= payment.subscription_nanos + payment.wallet_nanos


@given(all_funds(), NANOS, NANOS, TOKENS, st.dictionaries(st.sampled_from("0123"), TOKENS))
def test_free_requests_are_never_refused(
    funds: Funds, held_nanos: int, credit_limit: int, tokens: int, held_tokens: dict[str, int]
) -> None:
    hold = asked(
        funds,
        worst(0, tokens, free=True),
        held_nanos=held_nanos,
        held_tokens=held_tokens,
        credit_limit=credit_limit,
    )
    assert isinstance(hold, Hold)
    assert hold.nanos == 0


@given(all_funds(), NANOS, NANOS, NANOS, st.integers(1, 2000))
def test_a_refusal_names_the_holds_of_others_only_when_they_are_to_blame(
    funds: Funds, held_nanos: int, credit_limit: int, nanos: int, tokens: int
) -> None:
    wanted = worst(nanos, tokens)
    held_tokens = {each.id: each.left for each in funds.grants}
    alone = asked(funds, wanted, credit_limit=credit_limit)
    beside = asked(funds, wanted, held_tokens=held_tokens, held_nanos=held_nanos, credit_limit=credit_limit)
    if isinstance(alone, Shortage):
        assert alone.code == "insufficient_balance"
        assert funds.money_nanos(NOW) <= -credit_limit
        assert isinstance(beside, Shortage)
        assert beside.code == "insufficient_balance"
    elif isinstance(beside, Shortage):
        assert beside.code == "in_flight_budget_exhausted"


class Till:
    """An account with money alone, as admission and settlement use it one after the other."""

    def __init__(self, money: int, credit_limit: int) -> None:
        self.funds = Funds(wallet_nanos=money)
        self.credit_limit = credit_limit
        self.holds: list[int] = []

    def admit(self, nanos: int) -> bool:
        hold = asked(self.funds, worst(nanos), held_nanos=sum(self.holds), credit_limit=self.credit_limit)
        if isinstance(hold, Hold):
            self.holds.append(hold.nanos)
        return isinstance(hold, Hold)

    def settle(self, index: int) -> None:
        wallet = self.funds.wallet_nanos - self.holds.pop(index)
        self.funds = msgspec.structs.replace(self.funds, wallet_nanos=wallet)


@given(
    st.integers(0, 50),
    st.integers(1, 100),
    st.data(),
    st.integers(0, 20),
)
def test_money_for_n_requests_admits_n_and_one_overdraft_at_most(
    n: int, price: int, data: st.DataObject, credit_limit: int
) -> None:
    rest = data.draw(st.integers(0, price - 1))
    till = Till(n * price + rest - credit_limit, credit_limit)
    admitted = 0
    while len(till.holds) < n + 2:
        if till.admit(price):
            admitted += 1
        elif till.holds:
            till.settle(data.draw(st.integers(0, len(till.holds) - 1)))
        else:
            break
    assert admitted == n + (rest > 0)
    assert -credit_limit - price < till.funds.wallet_nanos <= -credit_limit


def test_money_for_fifty_admits_fifty_of_a_thousand_at_once() -> None:
    till = Till(5 * 10**9, 0)
    assert Counter(till.admit(10**8) for _ in range(1000)) == {True: 50, False: 950}


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 3)), max_size=30),
    st.data(),
)
def test_the_wallet_is_overdrawn_once_whatever_comes_in_whatever_order(
    money: int, arrivals: list[tuple[int, int]], data: st.DataObject
) -> None:
    till = Till(money, 0)
    admitted: list[int] = []
    for nanos, settled in arrivals:
        if till.admit(nanos):
            assert sum(admitted) < money  # something was left for it
            admitted.append(nanos)
        for _ in range(min(settled, len(till.holds))):
            till.settle(data.draw(st.integers(0, len(till.holds) - 1)))
    while till.holds:
        till.settle(0)
    assert till.funds.wallet_nanos == money - sum(admitted)
    assert sum(admitted[:-1]) < money or not admitted


@given(st.integers(1, 1000), st.integers(1, 100), st.integers(-1000, 0))
def test_unheld_tokens_admit_one_request_larger_than_themselves(tokens: int, size: int, wallet: int) -> None:
    """A grant for N requests admits these, and one more for what is left over, without any money."""
    funds, held = Funds((grant(tokens),), None, wallet), 0
    admitted = 0
    while isinstance(hold := asked(funds, worst(size, size), held_tokens={"g": held}), Hold):
        admitted += 1
        held += hold.tokens
        assert hold.nanos == size - hold.tokens
    assert admitted == -(-tokens // size)
    assert held == tokens
    assert hold == Shortage("in_flight_budget_exhausted", 0)


def test_unheld_tokens_admit_what_tells_its_tokens_only_afterwards() -> None:
    funds, unknown = Funds((grant(5),)), worst(0, input_tokens=0)
    terms = {"model": "m", "now_ms": NOW, "credit_limit_nanos": 0}
    assert reserve(funds, {}, 0, unknown, **terms) == Hold()  # type: ignore[arg-type]  # of several types
    assert isinstance(reserve(funds, {"g": 5}, 0, unknown, **terms), Shortage)  # type: ignore[arg-type]
    dear = worst(7, input_tokens=0)  # a price per request, which tokens do not pay
    assert isinstance(reserve(funds, {}, 0, dear, **terms), Shortage)  # type: ignore[arg-type]
