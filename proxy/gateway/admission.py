"""Whether a request is let in: all checks first, then everything is taken, in one turn of the loop.

`check` checks; between it and `Admitted.take` nothing is awaited.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from proxy.core.buckets import Taken
from proxy.core.entities import AdmittedExchange
from proxy.core.errors import BadRequest, InsufficientQuota, PermissionRefused, RateLimited, RequestRefused
from proxy.core.pricing import Price
from proxy.core.quoting import quoted
from proxy.core.routing import Deployment, Resolution
from proxy.gateway.clock import Clock, Instant
from proxy.gateway.keystate import KeyState
from proxy.gateway.request import ClientRequest
from proxy.gateway.snapshot import Snapshot

NOTHING_TAKEN = Taken(0, "")


class Candidate(NamedTuple):
    """A deployment that may answer, with its price fixed at admission; None: it has none."""

    deployment: Deployment
    price: Price | None


@dataclass(slots=True)
class Admitted:
    """A request that is let in: what was decided, and then taken, for it."""

    id: str
    created_ms: int
    started_ns: int  # monotonic
    request: ClientRequest
    key: KeyState
    snapshot: Snapshot
    resolution: Resolution
    candidates: tuple[Candidate, ...]
    #: The estimate of the input that the key's limits are to give; 0 where none asks for it.
    tokens: int
    now: Instant
    #: What the limits gave, corrected at settlement.
    taken: Taken = NOTHING_TAKEN

    def estimated_input(self) -> int:
        """Return the estimate of the input in LLM tokens: the one that was taken, else a fresh one."""
        return self.tokens or self.request.estimated_input(self.candidates[0].deployment.model)

    def take(self) -> None:
        """Take from the key's limits what the request needs; settling the exchange gives back."""
        self.taken = self.key.limiter.take(self.tokens, self.now.monotonic_ns, self.now.day)

    def row(self) -> AdmittedExchange:
        """Return what the database keeps of it until it is settled."""
        return AdmittedExchange(
            id=self.id,
            created_ms=self.created_ms,
            day=self.taken.day,
            key_id=self.key.key.id,
            account=self.key.account.name,
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

    Raises BadRequest, PermissionRefused, RequestRefused (unknown model), InsufficientQuota,
    RateLimited, Unavailable.
    """
    resolution, candidates = candidates_of(request, key, snapshot)
    tokens = _tokens_to_take(request, key, candidates[0].deployment.model)
    now = clock.instant()
    refusal = key.limiter.refusal(tokens, *now)
    if refusal is not None:
        raise RateLimited(
            refusal.code,
            refusal.message,
            retry_after_s=refusal.retry_after_s,
            should_retry=refusal.retry_after_s is not None,
        )
    return Admitted(
        id=request_id,
        created_ms=clock.now_ms(),
        started_ns=now.monotonic_ns,
        request=request,
        key=key,
        snapshot=snapshot,
        resolution=resolution,
        candidates=candidates,
        tokens=tokens,
        now=now,
    )


def candidates_of(
    request: ClientRequest, key: KeyState, snapshot: Snapshot
) -> tuple[Resolution, tuple[Candidate, ...]]:
    """Return the deployments that this key may use, with their prices, in the order of the route.

    Raises BadRequest, PermissionRefused, RequestRefused, InsufficientQuota.
    """
    resolution = snapshot.catalog.resolve(request.model, request.pinned)
    # an allowed alias allows its target: the name that the client wrote is what counts
    if not key.allows_model(request.model):
        raise PermissionRefused(
            "model_not_allowed", f"This API key may not use the model {quoted(request.model)}.", param="model"
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
            f"No provider of the model {quoted(request.model)} has the endpoint {request.endpoint.path}.",
            status=404,
            param="model",
        )
    candidates = tuple([Candidate(item, snapshot.price_of(resolution.model, item)) for item in servable])
    if snapshot.rejects_unpriced and any(candidate.price is None for candidate in candidates):
        raise InsufficientQuota(
            "model_not_priced",
            f"The model {quoted(request.model)} has no price, and this gateway serves none without "
            "(billing.unpriced: reject).",
            param="model",
        )
    return resolution, candidates


def _tokens_to_take(request: ClientRequest, key: KeyState, model: str) -> int:
    """Return the estimated input, if any limit of the key wants to know it."""
    limits = key.limits
    if limits.tpm is None and limits.tpd is None and limits.max_context is None:
        return 0
    tokens = request.estimated_input(model)
    if limits.max_context is not None and tokens > limits.max_context:
        raise BadRequest(
            "context_length_exceeded",
            f"This request's prompt is too long: about {tokens:,} tokens, and this API key may send "
            f"{limits.max_context:,} in one request (max_context).",
        )
    return tokens
