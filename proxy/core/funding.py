"""What an account has, what is held of it, and which of its funds pay: pure decisions.

Funds are used in this order: token grants, subscription credit, wallet. Money is `int` nanos,
grants are counted in LLM tokens, times are Unix milliseconds. docs/billing.md, "Funds"
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from proxy.core.globs import allows

#: Output that a hold reserves for a request which does not say how long its answer may be.
USUAL_OUTPUT = 4096
#: No more than this is held for the output of one request, however long it may be.
MOST_HELD_OUTPUT = 8192


class Grant(msgspec.Struct, frozen=True):
    """LLM tokens given to an account. `models`: globs of the names they pay for; None: all."""

    id: str
    tokens: int
    left: int
    created_ms: int
    models: tuple[str, ...] | None = None
    expires_ms: int | None = None

    def pays(self, model: str, at_ms: int) -> bool:
        """Return whether it pays for what was admitted then, under the name that the client wrote."""
        return (self.expires_ms is None or at_ms < self.expires_ms) and allows(self.models, model)


class Subscription(msgspec.Struct, frozen=True):
    """Credit for a period, and the plan that replaces the account's for as long."""

    plan: str
    credit_nanos: int
    left_nanos: int
    started_ms: int
    expires_ms: int

    def runs(self, at_ms: int) -> bool:
        return at_ms < self.expires_ms


class Funds(msgspec.Struct, frozen=True):
    """The balances of one account. `grants` stand in the order in which they are used."""

    grants: tuple[Grant, ...] = ()
    subscription: Subscription | None = None
    wallet_nanos: int = 0

    def grants_for(self, model: str, at_ms: int) -> Iterator[Grant]:
        return (grant for grant in self.grants if grant.pays(model, at_ms))

    def credit_nanos(self, at_ms: int) -> int:
        """Return what the subscription can still pay for what was admitted then."""
        subscription = self.subscription
        return subscription.left_nanos if subscription is not None and subscription.runs(at_ms) else 0

    def money_nanos(self, at_ms: int) -> int:
        return self.credit_nanos(at_ms) + self.wallet_nanos


class Hold(msgspec.Struct, frozen=True):
    """Funds reserved for one running exchange: tokens of grants, by their ids, and money."""

    grants: tuple[tuple[str, int], ...] = ()
    nanos: int = 0

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.grants)


class Payment(msgspec.Struct, frozen=True):
    """Who paid for one exchange: tokens of grants, by their ids, then money."""

    grants: tuple[tuple[str, int], ...] = ()
    subscription_nanos: int = 0
    wallet_nanos: int = 0

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.grants)


NOTHING_PAID = Payment()


class Worst(NamedTuple):
    """The most that a request is expected to take: LLM tokens, and nanos at the dearest candidate's price.

    `free`: no candidate has a price above 0.
    """

    input_tokens: int
    output_tokens: int
    nanos: int
    free: bool

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Shortage(NamedTuple):
    """Why funds do not suffice: the error's code, and the money left, with the credit, that is not held."""

    code: str
    left_nanos: int


def held_output(asked: int | None, max_output: int | None) -> int:
    """Return how many output tokens a hold reserves: what is asked for, else what the model can give."""
    return min(asked or max_output or USUAL_OUTPUT, MOST_HELD_OUTPUT)


def reserve(
    funds: Funds,
    held_tokens: Mapping[str, int],
    held_nanos: int,
    worst: Worst,
    *,
    model: str,
    now_ms: int,
    credit_limit_nanos: int,
) -> Hold | Shortage:
    """Return what to hold for a request, or why it cannot be let in.

    `held_tokens`, by grant, and `held_nanos` are what other exchanges hold. Grants hold first; what
    they leave open is held in money. docs/billing.md, "Holds"
    """
    grants, missing = _from_grants(
        ((grant.id, grant.left - held_tokens.get(grant.id, 0)) for grant in funds.grants_for(model, now_ms)),
        worst.tokens,
    )
    hold = Hold(grants, _share(worst.nanos, missing, worst.tokens))
    if grants or worst.free:
        return hold
    if not worst.nanos and any(
        grant.left > held_tokens.get(grant.id, 0) for grant in funds.grants_for(model, now_ms)
    ):
        return hold  # how many tokens it takes is told only afterwards
    money = funds.money_nanos(now_ms) + credit_limit_nanos
    left = money - held_nanos
    if left > 0 and (left >= hold.nanos or money < hold.nanos):
        return hold  # it fits; or it is larger than all there is, and the last that is let in
    # Without the other holds it would be let in: by money, or by tokens that are held.
    waits = money > 0 or any(grant.left for grant in funds.grants_for(model, now_ms) if worst.tokens)
    return Shortage("in_flight_budget_exhausted" if waits else "insufficient_balance", max(left, 0))


def pay(funds: Funds, *, model: str, admitted_ms: int, tokens: int, cost_nanos: int) -> Payment:
    """Return who pays for an exchange: of what there is now, what had not expired when it was admitted.

    Grants pay their share of the tokens; the same share of the cost is not charged. The rest is
    the subscription's, as far as its credit goes, then the wallet's.

    Source: docs/billing.md, "Who pays"
    """
    grants, missing = _from_grants(
        ((grant.id, grant.left) for grant in funds.grants_for(model, admitted_ms)), tokens
    )
    nanos = _share(cost_nanos, missing, tokens)
    subscription = min(nanos, funds.credit_nanos(admitted_ms))
    return Payment(grants, subscription, nanos - subscription)


def _from_grants(grants: Iterator[tuple[str, int]], tokens: int) -> tuple[tuple[tuple[str, int], ...], int]:
    """Return what each grant, in its turn, gives of `tokens`, and what they leave open."""
    given = []
    for id, left in grants:
        part = min(left, tokens)
        if part > 0:
            given.append((id, part))
            tokens -= part
    return tuple(given), tokens


def _share(nanos: int, part: int, whole: int) -> int:
    """Return `part` of `whole` of an amount, rounded half up; all of it where there is no whole."""
    if part == whole:
        return nanos
    return (2 * nanos * part + whole) // (2 * whole)
