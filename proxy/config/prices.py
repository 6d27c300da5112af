"""Prices of the file and of the model table: decimals per 1K or 1M tokens, as exact integers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from proxy.config.problems import Wrong
from proxy.core.pricing import NANOS, Price, Tier

#: The amounts of a price; each is per `per` tokens, except `per_request`.
AMOUNTS = ("input", "output", "cached_input", "cache_write", "reasoning", "per_request")
PER = {"1K": 1_000, "1M": 1}

#: The dearest token or request costs one unit of its currency million times: a price beyond is a
#: slip, and the cost of the largest exchange (10⁹ tokens) still fits in SQLite's 64 bits.
MOST = 1_000_000

_ABOVE = "above_input_tokens"


def parse_price(
    *,
    currency: str,
    per: str,
    tiers: Sequence[Mapping[str, Decimal | int]] = (),
    **amounts: Decimal,
) -> Price:
    """Return a price in nanos per million tokens; nothing is rounded.

    What `input` or `output` leaves open costs 0; one of `input`, `output`, `per_request` must be
    given. A tier is a mapping with `above_input_tokens` and the amounts that differ.

    Raises Wrong: no such key, nothing priced, an amount that is negative, too large, or finer
    than a nano per million tokens.
    """
    if per not in PER:
        raise Wrong("expected 1K or 1M: the price is per so many tokens", "per")
    given = {name: _nanos(name, value, per) for name, value in amounts.items()}
    if not given.keys() & {"input", "output", "per_request"}:
        raise Wrong("is required, or output, or per_request", "input")
    input_nanos, output_nanos = given.get("input", 0), given.get("output", 0)
    base = Price(
        currency,
        input_nanos,
        output_nanos,
        given.get("cached_input", input_nanos),
        given.get("cache_write", input_nanos),
        given.get("reasoning", output_nanos),
        given.get("per_request", 0),
    )
    return replace(base, tiers=_tiers(base, tiers, per)) if tiers else base


def _tiers(base: Price, tiers: Sequence[Mapping[str, Decimal | int]], per: str) -> tuple[Tier, ...]:
    """Return the tiers; what one leaves out it takes from the base, as it is effective there."""
    whole: list[Tier] = []
    for index, tier in enumerate(tiers):
        try:
            changes = {name: _nanos(name, value, per) for name, value in tier.items() if name != _ABOVE}
        except Wrong as error:
            raise Wrong(str(error), "tiers", index, *error.path) from None
        above = int(tier[_ABOVE])
        if whole and above <= whole[-1].above_input_tokens:
            raise Wrong("tiers must stand in the order of their thresholds", "tiers", index, _ABOVE)
        whole.append(Tier(above, _changed(base, changes)))
    return tuple(whole)


def _changed(price: Price, amounts: Mapping[str, int]) -> Price:
    return replace(price, **amounts)  # type: ignore[arg-type]  # AMOUNTS are the fields that hold integers


def _nanos(name: str, value: Decimal | int, per: str) -> int:
    """Return one amount in nanos: per million tokens, or per request."""
    if name not in AMOUNTS:
        raise Wrong(f"a price has no {name}", name)
    factor = 1 if name == "per_request" else PER[per]
    digits = 12 if factor > 1 else 9
    numerator, denominator = value.as_integer_ratio()
    nanos, rest = divmod(numerator * NANOS * factor, denominator)
    if rest:
        raise Wrong(f"at most {digits} digits after the point fit exactly", name)
    if not 0 <= nanos <= MOST * NANOS:
        raise Wrong(f"expected 0 to {MOST} per million tokens, or per request", name)
    return nanos
