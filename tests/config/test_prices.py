"""Prices from decimals."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.prices import MOST, parse_price
from proxy.config.problems import Wrong
from proxy.core.pricing import NANOS, Price

AMOUNTS = st.decimals(0, 1000, places=12)


@given(AMOUNTS, AMOUNTS, st.decimals(0, MOST, places=9))
def test_amounts_per_thousand_are_exact(input: Decimal, output: Decimal, each: Decimal) -> None:
    price = parse_price(currency="CNY", per="1K", input=input, output=output, per_request=each)
    assert Fraction(price.input, NANOS) == Fraction(input) * 1000
    assert Fraction(price.output, NANOS) == Fraction(output) * 1000
    assert Fraction(price.per_request, NANOS) == Fraction(each)


@given(st.decimals(0, 1000, places=9))
def test_both_units_mean_the_same(amount: Decimal) -> None:
    per_million = parse_price(currency="USD", per="1M", input=amount)
    assert parse_price(currency="USD", per="1K", input=amount / 1000) == per_million


def test_what_is_left_out_is_filled_in() -> None:
    assert parse_price(currency="USD", per="1M", input=Decimal(2), output=Decimal(3)) == Price(
        "USD", 2 * NANOS, 3 * NANOS, 2 * NANOS, 2 * NANOS, 3 * NANOS
    )
    assert parse_price(currency="USD", per="1M", per_request=Decimal("0.04")) == Price(
        "USD", 0, 0, 0, 0, 0, 40_000_000
    )


def test_what_a_tier_leaves_out_is_as_effective_in_the_base() -> None:
    price = parse_price(
        currency="USD",
        per="1M",
        input=Decimal(1),
        output=Decimal(2),
        tiers=[
            {"above_input_tokens": 10, "input": Decimal(3)},
            {"above_input_tokens": 20, "output": Decimal(9)},
        ],
    )
    assert price.at(10) == price
    assert price.at(11) == Price("USD", 3 * NANOS, 2 * NANOS, NANOS, NANOS, 2 * NANOS)
    assert price.at(21) == Price("USD", NANOS, 9 * NANOS, NANOS, NANOS, 2 * NANOS)


@pytest.mark.parametrize(
    ("amounts", "path"),
    [
        ({"per": "1G", "input": Decimal(1)}, ("per",)),
        ({"per": "1M"}, ("input",)),
        ({"per": "1M", "inputs": Decimal(1)}, ("inputs",)),
        ({"per": "1M", "input": Decimal(-1)}, ("input",)),
        ({"per": "1M", "input": Decimal(MOST) + 1}, ("input",)),
        ({"per": "1K", "input": Decimal(MOST)}, ("input",)),
        ({"per": "1M", "input": Decimal("1e-10")}, ("input",)),
        ({"per": "1K", "input": Decimal("1e-13")}, ("input",)),
        ({"per": "1K", "per_request": Decimal("1e-10")}, ("per_request",)),
        (
            {"per": "1M", "input": Decimal(1), "tiers": [{"above_input_tokens": 1, "output": Decimal(-1)}]},
            ("tiers", 0, "output"),
        ),
    ],
)
def test_a_price_that_is_none_is_refused(amounts: dict[str, object], path: tuple[str | int, ...]) -> None:
    with pytest.raises(Wrong) as raised:
        parse_price(currency="USD", **amounts)  # type: ignore[arg-type]  # wrong on purpose
    assert raised.value.path == path
