"""Whether a request is let in: all checks first, then everything is taken, in one turn of the loop.

`check` checks; between it and `Admitted.take` nothing is awaited.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from proxy.core.buckets import Taken
from proxy.core.entities import AdmittedExchange
from proxy.core.errors import (
    BadRequest,
    InsufficientQuota,
    PermissionRefused,
    RateLimited,
    RequestRefused,
    SluiceError,
)
from proxy.core.funding import Hold, Worst
from proxy.core.pricing import ONE, Ratio
from proxy.core.quoting import quoted
from proxy.core.routing import Deployment, Resolution
from proxy.gateway.clock import Clock, Instant
from proxy.gateway.costing import Candidate, check_priced, check_quota, worst_of
from proxy.gateway.funds import AccountFunds
from proxy.gateway.keystate import KeyState
from proxy.gateway.request import ClientRequest
from proxy.gateway.snapshot import Snapshot

NOTHING_TAKEN = Taken(0, "")


@dataclass(slots=True)
class Admitted:
    """A request that is let in: what was decided, and then taken, for it."""

    id: str
    created_ms: int
    started_ns: int  # monotonic
    request: ClientRequest
    key: KeyState
    #: The account at admission, which is charged, and its funds.
    account: str
    funds: AccountFunds
    discount: Ratio
    snapshot: Snapshot
    resolution: Resolution
    candidates: tuple[Candidate, ...]
    #: Of other models, for when these all fail, and for when the request is too long for them.
    fallbacks: tuple[Candidate, ...]
    context_fallbacks: tuple[Candidate, ...]
    now: Instant
    #: The estimate of the input; None until somebody wants to know it.
    estimate: int | None
    #: What the key's quota counts while the request runs, in nanos.
    worst_nanos: int
    #: What its funds reserve; None: nothing is paid, because billing only tracks.
    hold: Hold | None
    #: What the limits gave, corrected at settlement.
    taken: Taken = NOTHING_TAKEN

    def estimated_input(self) -> int:
        """Return the estimate of the input in LLM tokens."""
        if self.estimate is None:
            self.estimate = self.request.estimated_input(self.candidates[0].deployment.model)
        return self.estimate

    def take(self) -> None:
        """Take what the request needs: of the key's limits and quota, of the account's funds."""
        self.taken = self.key.limiter.take(self.estimate or 0, self.now.monotonic_ns, self.now.day)
        self.key.spending.running_nanos += self.worst_nanos
        if self.hold is not None:
            self.funds.take(self.id, self.created_ms, self.hold)

    def settle(self, tokens: int, cost_nanos: int, now_ns: int) -> None:
        """Correct limits and quota to what the exchange really took; funds follow with the commit."""
        self.key.limiter.settle(self.taken, tokens, now_ns)
        self.key.spending.running_nanos -= self.worst_nanos
        self.key.spending.add(self.taken.day, cost_nanos)

    def give_back(self, now_ns: int) -> None:
        """Take everything back, as if the request had never been admitted."""
        self.key.limiter.undo(self.taken, now_ns)
        self.key.spending.running_nanos -= self.worst_nanos
        if self.hold is not None:
            self.funds.give_back(self.id)

    def row(self) -> AdmittedExchange:
        """Return what the database keeps of it until it is settled."""
        return AdmittedExchange(
            id=self.id,
            created_ms=self.created_ms,
            day=self.taken.day,
            key_id=self.key.key.id,
            account=self.account,
            dialect=self.request.endpoint.dialect,
            endpoint=self.request.endpoint.path,
            stream=self.request.stream,
            model=self.request.model,
        )


def check_address(key: KeyState, address: str) -> None:
    """Raise PermissionRefused unless the key may be used from this address."""
    if key.networks is None:
        return
    try:
        parsed = ip_address(address)
    except ValueError:
        parsed = None
    if parsed is None or not any(parsed in network for network in key.networks):
        raise PermissionRefused("ip_not_allowed", f"This API key may not be used from {address}.")


def check(
    request: ClientRequest, key: KeyState, snapshot: Snapshot, clock: Clock, request_id: str
) -> Admitted:
    """Check whether a request may run now, or raise the error that says why not. Takes nothing.

    Raises BadRequest, PermissionRefused, RequestRefused (unknown model), InsufficientQuota, RateLimited.
    """
    resolution, candidates = candidates_of(request, key, snapshot)
    now, now_ms = clock.instant(), clock.now_ms()
    estimate = _estimate(request, key, snapshot, candidates[0].deployment.model)
    refusal = key.limiter.refusal(estimate or 0, *now)
    if refusal is not None:
        raise RateLimited(
            refusal.code,
            refusal.message,
            retry_after_s=refusal.retry_after_s,
            should_retry=refusal.retry_after_s is not None,
        )
    worst_nanos, hold = 0, None
    config = snapshot.config
    fallbacks = fallbacks_of(request, key, snapshot, resolution, config.fallbacks)
    context_fallbacks = fallbacks_of(request, key, snapshot, resolution, config.context_fallbacks)
    if estimate is not None and (snapshot.prepaid or key.key.quota is not None):
        worst = worst_of(request, key, snapshot, candidates, estimate)
        worst_nanos, hold = worst.nanos, _hold(worst, request, key, snapshot, clock)
        if worst.free and (fallbacks or context_fallbacks) and not _can_pay(request, key, snapshot, clock):
            fallbacks, context_fallbacks = _free(fallbacks), _free(context_fallbacks)
    return Admitted(
        id=request_id,
        created_ms=now_ms,
        started_ns=now.monotonic_ns,
        request=request,
        key=key,
        account=key.account.name,
        funds=key.funds,
        discount=key.discount,
        snapshot=snapshot,
        resolution=resolution,
        candidates=candidates,
        fallbacks=fallbacks,
        context_fallbacks=context_fallbacks,
        now=now,
        estimate=estimate,
        worst_nanos=worst_nanos,
        hold=hold,
    )


def _hold(
    worst: Worst, request: ClientRequest, key: KeyState, snapshot: Snapshot, clock: Clock
) -> Hold | None:
    """Return what the account holds for a request; None where nothing is paid.

    Raises PermissionRefused (quota_exceeded), InsufficientQuota.
    """
    billing = snapshot.config.billing
    check_quota(key, worst, clock.today().name, clock.zone, billing.currency)
    if not snapshot.prepaid:
        return None
    return key.funds.check(
        worst,
        model=request.model,
        now_ms=clock.now_ms(),
        credit_limit_nanos=billing.credit_limit_nanos,
        currency=billing.currency,
    )


def _can_pay(request: ClientRequest, key: KeyState, snapshot: Snapshot, clock: Clock) -> bool:
    """Return whether something that costs could be asked, too: a free model opens no other."""
    try:
        _hold(Worst(1, 0, 1, free=False), request, key, snapshot, clock)
    except (PermissionRefused, InsufficientQuota):
        return False
    return True


def _free(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    return tuple(candidate for candidate in candidates if candidate.free)


def candidates_of(
    request: ClientRequest, key: KeyState, snapshot: Snapshot
) -> tuple[Resolution, tuple[Candidate, ...]]:
    """Return the deployments that this key may use, with their prices, in the order of the route.

    Raises BadRequest, PermissionRefused, RequestRefused, InsufficientQuota.
    """
    resolution = snapshot.catalog.resolve(request.model, request.pinned)
    return resolution, _candidates(request, key, snapshot, resolution)


def _candidates(
    request: ClientRequest, key: KeyState, snapshot: Snapshot, resolution: Resolution, fallback: int = 0
) -> tuple[Candidate, ...]:
    # an allowed alias allows its target: the name that the client wrote is what counts
    if not key.allows_model(resolution.name):
        raise PermissionRefused(
            "model_not_allowed",
            f"This API key may not use the model {quoted(resolution.name)}.",
            param="model",
        )
    allowed = [item for item in resolution.deployments if key.allows_provider(item.provider)]
    if not allowed:
        providers = ", ".join(sorted({item.provider for item in resolution.deployments}))
        raise PermissionRefused(
            "provider_not_allowed", f"This API key may not use the provider of this model ({providers})."
        )
    servable = [item for item in allowed if snapshot.serves(item.provider, request.endpoint)]
    if not servable:
        raise RequestRefused(
            "not_found",
            f"No provider of the model {quoted(resolution.name)} has the endpoint {request.endpoint.path}.",
            status=404,
            param="model",
        )
    candidates = tuple([_priced(item, key, snapshot, resolution, fallback) for item in servable])
    check_priced(resolution.name, key, snapshot, candidates)
    return candidates


def fallbacks_of(
    request: ClientRequest,
    key: KeyState,
    snapshot: Snapshot,
    resolution: Resolution,
    configured: Mapping[str, tuple[str, ...]],
) -> tuple[Candidate, ...]:
    """Return what other models may answer instead: those that the key may use, in their order.

    A client that pins a provider wants no other.
    """
    if not configured or request.pinned is not None:
        return ()
    found: list[Candidate] = []
    for name in resolution.names:
        for place, model in enumerate(configured.get(name, ()), 1):
            with suppress(SluiceError):  # not for this key, or not for anybody now: the next one
                other = snapshot.catalog.resolve(model)
                found += _candidates(request, key, snapshot, other, fallback=place)
        if name in configured:
            break
    return tuple(found)


def _priced(
    deployment: Deployment, key: KeyState, snapshot: Snapshot, resolution: Resolution, fallback: int
) -> Candidate:
    price = snapshot.price_of(resolution.model, deployment)
    rate = ONE if price is None else snapshot.exchange_rate(price.currency)
    factor = ONE if price is None else key.discount.times(rate)
    return Candidate(deployment, price, factor, resolution.model, resolution.served_name, fallback, rate)


def _estimate(request: ClientRequest, key: KeyState, snapshot: Snapshot, model: str) -> int | None:
    """Return the estimated input if anything wants to know it: a limit, a quota, or funds."""
    limits = key.limits
    wanted = limits.tpm is not None or limits.tpd is not None or limits.max_context is not None
    if not wanted and key.key.quota is None and not snapshot.prepaid:
        return None
    tokens = request.estimated_input(model)
    if limits.max_context is not None and tokens > limits.max_context:
        raise BadRequest(
            "context_length_exceeded",
            f"This request's prompt is too long: about {tokens:,} tokens, and this API key may send "
            f"{limits.max_context:,} in one request (max_context).",
        )
    return tokens
