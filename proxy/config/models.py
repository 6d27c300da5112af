"""A model as the file gives it, completed with its routes and prices."""

from collections.abc import Mapping
from typing import Any

from proxy.config.prices import parse_price
from proxy.config.problems import Wrong
from proxy.config.schema import Billing
from proxy.core.pricing import Price
from proxy.core.routing import Deployment, Model

Given = Mapping[str, Any]


def complete_model(name: str, given: Given, *, billing: Billing) -> Model:
    """Return a model entry. Raises Wrong, its path relative to the model."""
    if "alias" in given:
        if more := next((key for key in given if key != "alias"), None):
            raise Wrong("an alias has the routes and properties of its target, none of its own", more)
        return Model(name, alias=given["alias"])
    if "routes" not in given:
        raise Wrong("is required, or alias", "routes")
    deployments: list[Deployment] = []
    for index, route in enumerate(given["routes"]):
        try:
            deployment = _deployment(name, route, billing)
        except Wrong as error:
            raise Wrong(str(error), "routes", index, *error.path) from None
        if any(
            (other.provider, other.model) == (deployment.provider, deployment.model) for other in deployments
        ):
            raise Wrong("the same provider and model stand above", "routes", index)
        deployments.append(deployment)
    return Model(
        name,
        tuple(deployments),
        category=given.get("category"),
        context_window=given.get("context_window"),
        max_output=given.get("max_output"),
        price=_price(given, billing),
    )


def _deployment(name: str, route: str | Given, billing: Billing) -> Deployment:
    if isinstance(route, str):
        provider, _, upstream = route.partition("/")
        route = {"provider": provider, "model": upstream}
    deployment = Deployment(
        route["provider"],
        route.get("model", name),
        route.get("priority", 1),
        route.get("weight", 1),
        _price(route, billing),
        route.get("overrides"),
    )
    if "*" in deployment.model and "*" not in name:
        raise Wrong("only a route of a model with * can hold one: it stands for what was matched")
    return deployment


def _price(given: Given, billing: Billing) -> Price | None:
    if "price" not in given:
        return None
    try:
        price = parse_price(**{"currency": billing.currency, **given["price"]})
    except Wrong as error:
        raise Wrong(str(error), "price", *error.path) from None
    if price.currency != billing.currency and price.currency not in billing.exchange_rates:
        raise Wrong(f"no rate for {price.currency} in billing.exchange_rates", "price", "currency")
    return price
