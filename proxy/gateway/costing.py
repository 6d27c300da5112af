"""What a request may cost at most, and whether its key may spend that. docs/billing.md, "Holds" """

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import NamedTuple

from proxy.core import pricing
from proxy.core.entities import Usage
from proxy.core.errors import InsufficientQuota, PermissionRefused
from proxy.core.funding import Worst, held_output
from proxy.core.moments import rfc3339
from proxy.core.money import display_amount, price_terms
from proxy.core.pricing import ONE, Price, Ratio
from proxy.core.quoting import quoted
from proxy.core.routing import Deployment, Model
from proxy.gateway.keystate import KeyState
from proxy.gateway.request import ClientRequest
from proxy.gateway.snapshot import Snapshot

MOST_NANOS = 10**18


class Candidate(NamedTuple):
    """A deployment that may answer, with its price fixed at admission; None: it has none.

    `factor` turns the price into what the account is charged: discount times exchange rate.
    """

    deployment: Deployment
    price: Price | None
    factor: Ratio
    #: The entry of `models:` that it serves, and the name of that; None for `provider/model`.
    model: Model | None = None
    served_name: str | None = None
    #: 0 for the model asked for, else its place among the fallback models, 1 for the first.
    fallback: int = 0
    #: What one unit of the price's currency is worth in the billing currency.
    rate: Ratio = ONE

    @property
    def rank(self) -> tuple[int, int]:
        """Where it stands: candidates of one rank are equals but for their weights."""
        return self.fallback, self.deployment.priority

    def cost_nanos(self, usage: Usage) -> int:
        """Return what it charges; nothing without a price.

        A billion at most: prices and exchange rates could be set so that SQLite's integers end before.
        """
        return 0 if self.price is None else min(pricing.cost(usage, self.price, self.factor), MOST_NANOS)

    def terms(self, usage: Usage) -> Mapping[str, str] | None:
        """Return the price that applies to an exchange with this usage, as its receipt shows it."""
        if self.price is None:
            return None
        return price_terms(self.price.at(usage.input_tokens), self.rate)

    @property
    def free(self) -> bool:
        return self.price is None or self.price.is_free or not self.factor.num


def worst_of(
    request: ClientRequest,
    key: KeyState,
    snapshot: Snapshot,
    candidates: Sequence[Candidate],
    input_tokens: int,
) -> Worst:
    """Return the most that a request is expected to take, at the price of its dearest candidate."""
    output_tokens = 0
    if request.endpoint.generates:
        bounds = (
            snapshot.max_output_of(candidates[0].model, candidates[0].deployment),
            key.limits.max_output,
        )
        longest = min((bound for bound in bounds if bound is not None), default=None)
        asked = request.max_output
        if asked is not None and longest is not None:
            asked = min(asked, longest)
        output_tokens = held_output(asked, longest)
    usage = Usage(input_tokens, output_tokens)
    nanos = max(candidate.cost_nanos(usage) for candidate in candidates)
    return Worst(input_tokens, output_tokens, nanos, all(candidate.free for candidate in candidates))


def check_priced(name: str, key: KeyState, snapshot: Snapshot, candidates: Sequence[Candidate]) -> None:
    """Raise InsufficientQuota (model_not_priced) for a model without a price, where that matters."""
    if all(candidate.price is not None for candidate in candidates):
        return
    if snapshot.rejects_unpriced:
        why = "this gateway serves none without (billing.unpriced: reject)"
    elif key.key.quota is not None:
        why = "this API key has a quota, against which nothing could be counted"
    else:
        return
    raise InsufficientQuota(
        "model_not_priced", f"The model {quoted(name)} has no price, and {why}.", param="model"
    )


def check_quota(key: KeyState, worst: Worst, day: str, zone: tzinfo, currency: str) -> None:
    """Raise PermissionRefused (quota_exceeded) when the key's quota is spent, or held by what runs.

    One last request may exceed it; what costs nothing always passes.
    """
    quota = key.quota_state(day, zone)
    if quota is None or worst.free:
        return
    running = key.spending.running_nanos
    if quota.spent_nanos + running < quota.quota.amount_nanos:
        return
    amount, period = display_amount(quota.quota.amount_nanos, currency), quota.quota.period
    spent = f"{display_amount(quota.spent_nanos, currency)} of its quota of {amount}"
    resets_at = None if quota.resets_ms is None else rfc3339(quota.resets_ms)
    when = f"It begins anew at {resets_at}." if resets_at else "It does not begin anew."
    if running:
        when = f"Running requests may take {display_amount(running, currency)} more. {when}"
    raise PermissionRefused(
        "quota_exceeded",
        f"This API key has spent {spent} ({'in total' if period == 'total' else f'per {period}'}), and this "
        f"request may cost up to {display_amount(worst.nanos, currency)}. {when}",
        details={"resets_at": resets_at},
    )
