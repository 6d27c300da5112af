"""What would become of a request, told without doing it. docs/api.md, "Dry run" """

from collections import Counter
from dataclasses import replace
from typing import Any

from proxy.core.buckets import Window, duration
from proxy.core.errors import BadRequest, SluiceError, UpstreamRefused
from proxy.core.money import decimal_text
from proxy.gateway.admission import Admitted
from proxy.gateway.clock import Clock
from proxy.gateway.configview import price_object
from proxy.gateway.costing import Candidate, worst_of
from proxy.gateway.crossing import Passing
from proxy.gateway.explaining import left_out, tried_in_order
from proxy.gateway.fleet import Fleet
from proxy.gateway.passages import prepare
from proxy.gateway.planning import Plan
from proxy.gateway.views import quota_object

Json = dict[str, Any]


_CANDIDATE = ("provider", "model", "provider_key", "state", "reason")


def report(admitted: Admitted, plan: Plan, fleet: Fleet, passing: Passing, clock: Clock) -> Json:
    """Return who would be asked, what the limits leave, and what it may cost. Takes and counts nothing.

    Raises what a real request gets when no deployment can be asked: BadRequest or UpstreamRefused.
    """
    # What is left out in translation is counted where something is sent.
    passing = replace(passing, counts=Counter())
    tried = [(item, _refusal(admitted, item, passing)) for item in plan.candidates]
    ready = [candidate for candidate, refusal in tried if refusal is None]
    if not ready:
        raise next(refusal for _, refusal in tried if refusal is not None)
    refusals = {id(item): refusal.message for item, refusal in tried if refusal is not None}
    worst = worst_of(
        admitted.request,
        admitted.key,
        admitted.snapshot,
        admitted.candidates,
        admitted.estimated_input(),
    )
    return {
        "model": admitted.request.model,
        "candidates": [
            {name: row[name] for name in _CANDIDATE}
            for row in (
                *tried_in_order(plan.options, refusals, fleet, clock),
                *left_out(admitted.resolution, plan.options, admitted.key, admitted.request.endpoint),
            )
        ],
        "limits": _limits(admitted, clock),
        "price": price_object(ready[0].price),
        "estimate": {
            "input_tokens": worst.input_tokens,
            "output_tokens": worst.output_tokens,
            "cost": decimal_text(worst.nanos),
        },
        "available": decimal_text(admitted.funds.available_nanos(admitted.created_ms)),
    }


def _refusal(admitted: Admitted, candidate: Candidate, passing: Passing) -> SluiceError | None:
    """Return why a deployment cannot be asked this request; None if it can."""
    try:
        prepare(admitted, candidate, passing)
    except (BadRequest, UpstreamRefused) as refusal:
        return refusal
    return None


def _limits(admitted: Admitted, clock: Clock) -> Json:
    requests, tokens = admitted.key.limiter.windows(*admitted.now)
    quota = admitted.key.quota_state(admitted.now.day, clock.zone)
    return {
        "requests": requests and _window(requests),
        "tokens": tokens and _window(tokens),
        "quota": quota and quota_object(quota),
    }


def _window(window: Window) -> Json:
    return {
        "limit": window.limit,
        "remaining": window.remaining,
        "reset": duration(window.resets_in_s),
    }
