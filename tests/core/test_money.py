"""Amounts as text."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.money import (
    decimal_text,
    display_amount,
    display_price,
    parse_amount,
    plain_price,
    price_terms,
    ratio_text,
)
from proxy.core.pricing import NANOS, Price, Ratio

MOST = 10**18 - 1
AMOUNTS = st.integers(-MOST, MOST)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "0.000000000"),
        (12_300_000, "0.012300000"),
        (-1, "-0.000000001"),
        (5 * NANOS, "5.000000000"),
        (-1_500_000_000, "-1.500000000"),
    ],
)
def test_exact_text_has_nine_places(nanos: int, text: str) -> None:
    assert decimal_text(nanos) == text


@given(AMOUNTS)
def test_exact_text_is_read_back(nanos: int) -> None:
    assert parse_amount(decimal_text(nanos)) == nanos
    assert Decimal(decimal_text(nanos)) * NANOS == nanos


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("5", 5 * NANOS), ("-0.25", -NANOS // 4), ("0.000000001", 1), ("-0", 0), ("007", 7 * NANOS)],
)
def test_amounts_are_read(text: str, nanos: int) -> None:
    assert parse_amount(text) == nanos


@pytest.mark.parametrize(
    "text",
    [
        "", " 5", "5 ", "5\n", "+5", "--5", ".5", "5.", "1e3", "1,000", "1_000", "0x10", "NaN", "Infinity",
        "0.0000000001", "1000000000", "٥", "½", "5.0.0", "$5",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_amount(text)


def test_a_refusal_quotes_only_the_beginning() -> None:
    with pytest.raises(ValueError, match="not an amount") as caught:
        parse_amount("9" * 1000)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("nanos", "currency", "text"),
    [
        (50 * NANOS, "CNY", "¥50.00"),
        (1_234_567_890, "USD", "$1.23"),
        (1_235_000_000, "USD", "$1.24"),
        (3_100_000_000, "EUR", "EUR 3.10"),
        (-3_100_000_000, "EUR", "-EUR 3.10"),
        (-5_000_000, "USD", "-$0.005"),
        (0, "USD", "$0.00"),
        (10_000_000, "USD", "$0.01"),
        (9_999_999, "USD", "$0.01"),
        (1_234_567, "USD", "$0.001235"),
        (1_234_500, "USD", "$0.001235"),
        (2_000_000, "CNY", "¥0.002"),
        (1, "USD", "$0.000000001"),
        (1234 * NANOS, "USD", "$1234.00"),
    ],
)
def test_amounts_for_people(nanos: int, currency: str, text: str) -> None:
    assert display_amount(nanos, currency) == text


@given(AMOUNTS)
def test_amounts_for_people_are_near_the_exact_one(nanos: int) -> None:
    shown = Decimal(display_amount(nanos, "USD").replace("$", ""))
    exact = Decimal(nanos) / NANOS
    allowed = Decimal("0.005") if abs(exact) >= Decimal("0.01") else abs(exact) / 2000
    assert abs(shown - exact) <= allowed


@pytest.mark.parametrize(
    ("nanos_per_mtok", "per_thousand", "per_million"),
    [
        (2 * NANOS, "¥0.002/1K", "2"),
        (8 * NANOS, "¥0.008/1K", "8"),
        (NANOS // 4, "¥0.00025/1K", "0.25"),
        (1, "¥0.000000000001/1K", "0.000000001"),
        (0, "¥0.00/1K", "0"),
        (20 * NANOS, "¥0.02/1K", "20"),
        (100 * NANOS, "¥0.10/1K", "100"),
    ],
)
def test_prices(nanos_per_mtok: int, per_thousand: str, per_million: str) -> None:
    assert display_price(nanos_per_mtok, "CNY") == per_thousand
    assert plain_price(nanos_per_mtok) == per_million


@pytest.mark.parametrize("text", ["1", "0.8", "0.14", "7.2", "100"])
def test_a_factor_is_shown_as_the_decimal_it_was(text: str) -> None:
    assert ratio_text(Ratio(*Decimal(text).as_integer_ratio())) == text


def test_the_terms_of_a_price() -> None:
    price = Price("CNY", 2 * NANOS, 8 * NANOS, NANOS // 5, 2 * NANOS, 8 * NANOS, NANOS // 100)
    assert price_terms(price) == {
        "currency": "CNY",
        "per": "1M",
        "input": "2",
        "output": "8",
        "cached_input": "0.2",
        "cache_write": "2",
        "reasoning": "8",
        "per_request": "0.01",
    }
    assert price_terms(price, Ratio(7, 50))["exchange_rate"] == "0.14"
