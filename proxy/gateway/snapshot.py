"""One configuration, made ready for use. A request keeps the one it began with to its end."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from proxy.config.catalogue import NOTHING_IMPORTED, Catalogue
from proxy.config.facts import Facts
from proxy.config.schema import Config
from proxy.core.pricing import ONE, Price, Ratio
from proxy.core.routing import Catalog, Deployment, Model
from proxy.gateway.request import Endpoint
from proxy.upstream.providers import ProviderClient


class PriceOrigin(NamedTuple):
    """Where a price comes from: configuration, imported, catalogue or free; and its day, of a list's."""

    source: str
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The configuration in force, with its names resolved and its providers ready to be called."""

    config: Config
    catalog: Catalog
    providers: Mapping[str, ProviderClient]
    #: Zero, in the billing currency.
    free: Price
    imported: Catalogue
    facts: Facts

    @classmethod
    def build(cls, config: Config, imported: Catalogue = NOTHING_IMPORTED) -> "Snapshot":
        """Make a configuration ready, with the price lists that were imported."""
        return cls(
            config,
            Catalog(config.models, config.providers),
            {name: ProviderClient(provider) for name, provider in config.providers.items()},
            Price(config.billing.currency, 0, 0, 0, 0, 0),
            imported,
            Facts(config, imported),
        )

    @property
    def prepaid(self) -> bool:
        """Whether accounts need funds."""
        return self.config.billing.mode == "prepaid"

    def with_imported(self, imported: Catalogue) -> "Snapshot":
        """Return the same with other imported price lists."""
        return replace(self, imported=imported, facts=Facts(self.config, imported))

    @property
    def rejects_unpriced(self) -> bool:
        return self.config.billing.unpriced == "reject"

    def serves(self, provider: str, endpoint: Endpoint) -> bool:
        """Return whether a provider has an endpoint, or one from which its answers can be translated."""
        supports = self.providers[provider].supports
        return supports(endpoint.path) or (
            endpoint.converses and (supports("chat/completions") or supports("messages"))
        )

    def price_of(self, model: Model | None, deployment: Deployment) -> Price | None:
        """Return what a deployment costs: its own price, its model's, or a list's; None when nobody said."""
        configured = _configured(model, deployment)
        if configured is not None:
            return configured
        offer = self.facts.of(deployment.provider, deployment.model).offer
        if offer is not None:
            return offer.price
        return self.free if self.config.providers[deployment.provider].free else None

    def price_origin_of(self, model: Model | None, deployment: Deployment) -> PriceOrigin | None:
        """Return where the price of a deployment comes from; None where it has none."""
        if _configured(model, deployment) is not None:
            return PriceOrigin("configuration")
        offer = self.facts.of(deployment.provider, deployment.model).offer
        if offer is not None:
            return PriceOrigin(offer.origin, offer.date)
        return PriceOrigin("free") if self.config.providers[deployment.provider].free else None

    def max_output_of(self, model: Model | None, deployment: Deployment) -> int | None:
        """Return the most output of a deployment, in LLM tokens: as configured, else a list's."""
        if model is not None and model.max_output is not None:
            return model.max_output
        return self.facts.of(deployment.provider, deployment.model).max_output

    def context_window_of(self, model: Model | None, deployment: Deployment) -> int | None:
        """Return how many LLM tokens fit into a deployment: as configured, else a list's."""
        if model is not None and model.context_window is not None:
            return model.context_window
        return self.facts.of(deployment.provider, deployment.model).context_window

    def category_of(self, model: Model | None, deployment: Deployment) -> str | None:
        """Return the category of a deployment: as configured, else a list's."""
        if model is not None and model.category is not None:
            return model.category
        return self.facts.of(deployment.provider, deployment.model).category

    def exchange_rate(self, currency: str) -> Ratio:
        """Return what one unit of `currency` is worth in the billing currency."""
        billing = self.config.billing
        return ONE if currency == billing.currency else billing.exchange_rates[currency]


def _configured(model: Model | None, deployment: Deployment) -> Price | None:
    if deployment.price is not None or model is None:
        return deployment.price
    return model.price
