"""Prices and the one function that turns usage into money.

Money is `int` nanos: 10⁻⁹ of a currency. docs/adr/0001-money.md
"""

from dataclasses import dataclass
from typing import NamedTuple

from proxy.core.entities import Usage

NANOS = 10**9
TOKENS_PER_PRICE = 10**6


class Ratio(NamedTuple):
    """An exact factor: a discount, an exchange rate, or their product."""

    num: int
    den: int

    def times(self, other: "Ratio") -> "Ratio":
        return Ratio(self.num * other.num, self.den * other.den)


ONE = Ratio(1, 1)


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs, in nanos of `currency` per million tokens (`per_request`: nanos each).

    Absent classes are already filled in: cached input and cache writes cost `input`,
    reasoning costs `output`. `tiers` are in the order of their thresholds.
    """

    currency: str
    input: int
    output: int
    cached_input: int
    cache_write: int
    reasoning: int
    per_request: int = 0
    tiers: "tuple[Tier, ...]" = ()

    @property
    def is_free(self) -> bool:
        return not (
            self.input
            or self.output
            or self.cached_input
            or self.cache_write
            or self.reasoning
            or self.per_request
            or any(not tier.price.is_free for tier in self.tiers)
        )

    def at(self, input_tokens: int) -> "Price":
        """Return the price of an exchange with so much input: one tier's, for all of it."""
        price = self
        for tier in self.tiers:
            if input_tokens > tier.above_input_tokens:
                price = tier.price
        return price


class Tier(NamedTuple):
    """A price for exchanges with more input; whole, what it left out taken from the base price."""

    above_input_tokens: int
    price: Price


def cost(usage: Usage, price: Price, factor: Ratio) -> int:
    """Return the charge for one exchange, in nanos of the billing currency, rounded half up once.

    `factor` is discount × exchange rate. Cached input is billed at `price.cached_input`, cache
    writes at `price.cache_write`, reasoning at `price.reasoning`, what remains at `price.input`
    and `price.output`.

    Source: docs/billing.md, "The formula"
    """
    price = price.at(usage.input_tokens)
    plain_input = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    plain_output = usage.output_tokens - usage.reasoning_tokens
    tokens = (
        plain_input * price.input
        + usage.cached_tokens * price.cached_input
        + usage.cache_write_tokens * price.cache_write
        + plain_output * price.output
        + usage.reasoning_tokens * price.reasoning
    )
    num = (tokens + price.per_request * TOKENS_PER_PRICE) * factor.num
    den = TOKENS_PER_PRICE * factor.den
    return (2 * num + den) // (2 * den)
