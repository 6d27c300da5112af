"""Amounts as text: exact decimals for programs, rounded ones with a currency sign for people.

Amounts are `int` nanos, 10⁻⁹ of the currency. docs/adr/0001-money.md
"""

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from proxy.core.pricing import NANOS, ONE, Price, Ratio

_SIGNS = {"CNY": "¥", "USD": "$"}
_CENT = Decimal("0.01")

# Nine digits before the point: sums of many such amounts still fit SQLite's 64-bit integers.
_AMOUNT = re.compile(r"(-?)([0-9]{1,9})(?:\.([0-9]{1,9}))?")


def decimal_text(nanos: int) -> str:
    """Return an amount with all of its nine places: "0.012300000"."""
    units, rest = divmod(abs(nanos), NANOS)
    return f"{'-' if nanos < 0 else ''}{units}.{rest:09d}"


def parse_amount(text: str) -> int:
    """Return the nanos of a decimal amount such as "5", "-0.25" or "0.000000001".

    Raises:
        ValueError: not plain decimal text, more than nine places, or a billion and more.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"not an amount: {text[:40]!r}; write digits below a billion with at most nine decimal places"
        )
    minus, units, fraction = match.groups(default="")
    nanos = int(units) * NANOS + int(fraction.ljust(9, "0"))
    return -nanos if minus else nanos


def display_amount(nanos: int, currency: str) -> str:
    """Return an amount for people: "¥50.00", "$0.001235", "-EUR 3.10".

    Two places; below 0.01 four significant digits, without trailing zeros.
    """
    return _display(Decimal(nanos).scaleb(-9), currency)


def display_price(nanos_per_mtok: int, currency: str) -> str:
    """Return a price for people, per thousand tokens: "¥0.002/1K"."""
    return _display(Decimal(nanos_per_mtok).scaleb(-12), currency) + "/1K"


def plain_price(nanos: int) -> str:
    """Return an exact price, per million tokens or each, as short as it can be: "2", "0.25"."""
    return _without_zeros(decimal_text(nanos))


@lru_cache(maxsize=256)
def ratio_text(ratio: Ratio) -> str:
    """Return a factor that came from a decimal as that decimal: "0.8"."""
    return f"{Decimal(ratio.num) / Decimal(ratio.den):f}"


@lru_cache(maxsize=256)
def price_terms(price: Price, rate: Ratio = ONE) -> Mapping[str, str]:
    """Return a price as receipts show it: each class per million tokens, `per_request` each.

    `exchange_rate` is there where the price is not in the billing currency.
    """
    terms = {"currency": price.currency, "per": "1M"}
    for name in ("input", "output", "cached_input", "cache_write", "reasoning", "per_request"):
        terms[name] = plain_price(getattr(price, name))
    if rate != ONE:
        terms["exchange_rate"] = ratio_text(rate)
    return terms


def _display(amount: Decimal, currency: str) -> str:
    size = abs(amount)
    if size >= _CENT or not size:
        text = f"{size.quantize(_CENT, ROUND_HALF_UP)}"
    else:
        last_place = Decimal((0, (1,), size.adjusted() - 3))
        text = _without_zeros(f"{size.quantize(last_place, ROUND_HALF_UP):f}")
    sign = _SIGNS.get(currency, currency + " ")
    return f"{'-' if amount < 0 else ''}{sign}{text}"


def _without_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".")
