"""One configuration, made ready for use. A request keeps the one it began with to its end."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.config.schema import Config
from proxy.core.pricing import ONE, Price, Ratio
from proxy.core.routing import Catalog, Deployment, Model
from proxy.gateway.request import Endpoint
from proxy.upstream.providers import ProviderClient


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The configuration in force, with its names resolved and its providers ready to be called."""

    config: Config
    catalog: Catalog
    providers: Mapping[str, ProviderClient]
    #: Zero, in the billing currency.
    free: Price

    @classmethod
    def build(cls, config: Config) -> "Snapshot":
        return cls(
            config,
            Catalog(config.models, config.providers),
            {name: ProviderClient(provider) for name, provider in config.providers.items()},
            Price(config.billing.currency, 0, 0, 0, 0, 0),
        )

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
        """Return what a deployment costs: its own price, else its model's; None when nobody said."""
        if deployment.price is not None:
            return deployment.price
        if model is not None and model.price is not None:
            return model.price
        return self.free if self.config.providers[deployment.provider].free else None

    def exchange_rate(self, currency: str) -> Ratio:
        """Return what one unit of `currency` is worth in the billing currency."""
        billing = self.config.billing
        return ONE if currency == billing.currency else billing.exchange_rates[currency]
