"""Cost, against the same formula in exact fractions."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.core.pricing import NANOS, ONE, Price, Ratio, Tier, cost

COUNTS = st.integers(0, 10**9)
RATES = st.integers(0, 10**15)
PRICES = st.builds(Price, st.just("USD"), RATES, RATES, RATES, RATES, RATES, RATES)
FACTORS = st.builds(Ratio, st.integers(0, 10**9), st.integers(1, 10**9))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, plain = draw(COUNTS), draw(COUNTS), draw(COUNTS)
    reasoning, said = draw(COUNTS), draw(COUNTS)
    return Usage(cached + written + plain, reasoning + said, cached, written, reasoning)


def exact_cost(usage: Usage, price: Price, factor: Ratio) -> Fraction:
    tokens = (
        (usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens) * price.input
        + usage.cached_tokens * price.cached_input
        + usage.cache_write_tokens * price.cache_write
        + (usage.output_tokens - usage.reasoning_tokens) * price.output
        + usage.reasoning_tokens * price.reasoning
    )
    return (Fraction(tokens, 10**6) + price.per_request) * Fraction(factor.num, factor.den)


@given(usages(), PRICES, FACTORS)
def test_cost_is_the_exact_amount_rounded_half_up_once(usage: Usage, price: Price, factor: Ratio) -> None:
    assert cost(usage, price, factor) == floor(exact_cost(usage, price, factor) + Fraction(1, 2))


@pytest.mark.parametrize(
    ("tokens", "nanos_per_mtok", "nanos"),
    [(1, 499_999, 0), (1, 500_000, 1), (1, 1_499_999, 1), (3, 500_000, 2), (0, 10**9, 0)],
    ids=["below", "half", "below one and a half", "one and a half", "nothing"],
)
def test_halves_are_rounded_up(tokens: int, nanos_per_mtok: int, nanos: int) -> None:
    price = Price("USD", nanos_per_mtok, 0, 0, 0, 0)
    assert cost(Usage(input_tokens=tokens), price, ONE) == nanos


def test_each_class_has_its_own_price() -> None:
    price = Price("USD", 1 * NANOS, 10 * NANOS, 100 * NANOS, 1000 * NANOS, 10_000 * NANOS, per_request=7)
    usage = Usage(input_tokens=6, output_tokens=9, cached_tokens=2, cache_write_tokens=3, reasoning_tokens=4)
    assert cost(usage, price, ONE) == 1000 * (1 * 1 + 5 * 10 + 2 * 100 + 3 * 1000 + 4 * 10_000) + 7


@given(usages(), PRICES, FACTORS, st.sampled_from(Usage.__struct_fields__))
def test_more_tokens_never_cost_less(usage: Usage, price: Price, factor: Ratio, field: str) -> None:
    """Parts grow together with the whole they belong to."""
    whole = "output_tokens" if field in ("output_tokens", "reasoning_tokens") else "input_tokens"
    counts = {name: getattr(usage, name) for name in Usage.__struct_fields__}
    for name in {field, whole}:
        counts[name] += 1
    assert cost(Usage(**counts), price, factor) >= cost(usage, price, factor)


@given(usages(), PRICES, FACTORS, FACTORS)
def test_discount_and_exchange_rate_multiply(
    usage: Usage, price: Price, discount: Ratio, exchange: Ratio
) -> None:
    factor = discount.times(exchange)
    assert factor == exchange.times(discount)
    expected = exact_cost(usage, price, ONE) * Fraction(*discount) * Fraction(*exchange)
    assert cost(usage, price, factor) == floor(expected + Fraction(1, 2))


@given(usages(), PRICES)
def test_a_discount_never_costs_more(usage: Usage, price: Price) -> None:
    assert cost(usage, price, Ratio(4, 5)) <= cost(usage, price, ONE)
    assert cost(usage, price, Ratio(0, 1)) == 0


BASE = Price("USD", 10, 20, 10, 10, 20)
HIGH, HIGHER = replace(BASE, input=100), replace(BASE, input=1000)
TIERED = replace(BASE, tiers=(Tier(1000, HIGH), Tier(5000, HIGHER)))


@pytest.mark.parametrize(
    ("input_tokens", "price"),
    [(0, TIERED), (1000, TIERED), (1001, HIGH), (5000, HIGH), (5001, HIGHER), (10**9, HIGHER)],
)
def test_the_tier_is_chosen_by_the_input(input_tokens: int, price: Price) -> None:
    assert TIERED.at(input_tokens) is price


def test_a_tier_holds_for_the_whole_exchange() -> None:
    usage = Usage(input_tokens=2_000_000, output_tokens=1_000_000)
    assert cost(usage, TIERED, ONE) == 2 * 1000 + 20


@pytest.mark.parametrize(
    ("price", "free"),
    [
        (Price("USD", 0, 0, 0, 0, 0), True),
        (Price("USD", 1, 0, 0, 0, 0), False),
        (Price("USD", 0, 1, 0, 0, 0), False),
        (Price("USD", 0, 0, 1, 0, 0), False),
        (Price("USD", 0, 0, 0, 1, 0), False),
        (Price("USD", 0, 0, 0, 0, 1), False),
        (Price("USD", 0, 0, 0, 0, 0, per_request=1), False),
        (Price("USD", 0, 0, 0, 0, 0, tiers=(Tier(10, Price("USD", 0, 0, 0, 0, 0)),)), True),
        (Price("USD", 0, 0, 0, 0, 0, tiers=(Tier(10, BASE),)), False),
    ],
    ids=["nothing", "input", "output", "cached", "written", "reasoning", "per request", "free tier", "tier"],
)
def test_free_is_what_costs_nothing_in_any_tier(price: Price, free: bool) -> None:
    assert price.is_free is free
    if free:
        assert cost(Usage(10**9, 10**9), price, ONE) == 0
