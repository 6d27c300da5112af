"""Who would be asked for a model, in which order, and why: for dry runs and for `explain`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from proxy.core.health import Condition
from proxy.core.moments import rfc3339
from proxy.core.routing import Deployment, Resolution
from proxy.gateway.clock import Clock
from proxy.gateway.fleet import Fleet, Standing
from proxy.gateway.keystate import KeyState
from proxy.gateway.planning import Option
from proxy.gateway.request import Endpoint

Json = dict[str, Any]

#: What cannot be asked at all.
SKIPPED = "skipped"

_WHY = {
    Condition.BUSY: "at its own limit",
    Condition.RESTING: "its key rests",
    Condition.OPEN: "its breaker is open",
    Condition.TRYING: "one request tries whether it works again",
    Condition.DISABLED: "disabled by an administrator",
}


def tried_in_order(
    options: Iterable[Option], refusals: Mapping[int, str], fleet: Fleet, clock: Clock
) -> list[Json]:
    """Return the options, those first that may be asked now.

    `refusals` says by the `id` of a candidate why it cannot be asked this request.
    """
    rows = []
    for option in options:
        refusal = refusals.get(id(option.candidate))
        if refusal is not None:
            rows.append(_row(option.candidate.deployment, option.key.masked, SKIPPED, refusal))
            continue
        standing = option.standing(fleet, clock.monotonic_ns())
        reason = why(standing, clock)
        row = _row(option.candidate.deployment, option.key.masked, standing.condition.value, reason)
        row["fallback"] = option.candidate.served_name if option.candidate.fallback else None
        rows.append(row)
    order = (Condition.READY, Condition.BUSY)
    return sorted(rows, key=lambda row: order.index(row["state"]) if row["state"] in order else len(order))


def left_out(
    resolution: Resolution, options: Iterable[Option], key: KeyState, endpoint: Endpoint
) -> Iterator[Json]:
    """Yield the deployments of a name that are no options, and why."""
    asked = {id(option.candidate.deployment) for option in options}
    for deployment in resolution.deployments:
        if id(deployment) in asked:
            continue
        if key.allows_provider(deployment.provider):
            reason = f"{deployment.provider} has no endpoint {endpoint.path}"
        else:
            reason = f"this API key may not use the provider {deployment.provider}"
        yield _row(deployment, None, SKIPPED, reason)
    for skipped in resolution.skipped:
        yield _row(skipped.deployment, None, SKIPPED, skipped.reason)


def why(standing: Standing, clock: Clock) -> str | None:
    """Return in words why something may not be asked now; None if it may."""
    if standing.ready:
        return None
    text = _WHY[standing.condition]
    if standing.cause is not None:
        text += f" after {standing.cause.code}"
    if standing.until_ns is not None:
        text += f", until {rfc3339(clock.unix_ms(standing.until_ns))}"
    return text


def _row(deployment: Deployment, key: str | None, state: str, reason: str | None) -> Json:
    return {
        "provider": deployment.provider,
        "model": deployment.model,
        "provider_key": key,
        "state": state,
        "reason": reason,
        "priority": deployment.priority,
        "weight": deployment.weight,
        "fallback": None,
    }
