"""From the name that a client wrote to the deployments that can answer it."""

from dataclasses import dataclass

from proxy.core.pricing import Price


@dataclass(frozen=True, slots=True)
class Deployment:
    """One provider's one upstream model. `model` may still hold `*`, filled in by resolution.

    `price` overrides the model's for this route alone.
    """

    provider: str
    model: str
    priority: int = 1
    weight: int = 1
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of `models:`. `name` may hold one wildcard; an alias has a target and no routes."""

    name: str
    deployments: tuple[Deployment, ...] = ()
    alias: str | None = None
    category: str | None = None
    context_window: int | None = None
    max_output: int | None = None
    price: Price | None = None
