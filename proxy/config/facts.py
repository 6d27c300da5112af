"""What is known of the models of a configuration's providers: imported lists first, then shipped ones."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from proxy.config.catalogue import (
    NOTHING_IMPORTED,
    Catalogue,
    Entry,
    Offer,
    shipped_catalogue,
    usual_id,
)
from proxy.config.schema import Billing, Config, Provider
from proxy.core.pricing import Price


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the lists say of one provider's model.

    `offer` is the price that counts: in the billing currency, or in one that has an exchange rate.
    Where there are only others, `without_rate` is the currency of one.
    """

    context_window: int | None = None
    max_output: int | None = None
    category: str | None = None
    offer: Offer | None = None
    without_rate: str | None = None


NOTHING_KNOWN = ModelFacts()


class Facts:
    """Facts by provider and upstream model, made once for a configuration and its imported lists."""

    def __init__(self, config: Config, imported: Catalogue = NOTHING_IMPORTED) -> None:
        self._presets = {
            name: provider.preset for name, provider in config.providers.items() if provider.preset
        }
        self._models = {
            name: dict(_facts(config.providers[name], preset, config.billing, imported))
            for name, preset in self._presets.items()
        }

    def of(self, provider: str, model: str) -> ModelFacts:
        """Return what is known of a model, NOTHING_KNOWN in the end: two look-ups in dictionaries."""
        models = self._models.get(provider)
        if not models:
            return NOTHING_KNOWN
        found = models.get(model)
        return found or models.get(usual_id(self._presets[provider], model), NOTHING_KNOWN)

    def without_rate(self, provider: str) -> set[str]:
        """Return the currencies without exchange rate in which models of a provider are priced."""
        facts = self._models.get(provider, {}).values()
        return {one.without_rate for one in facts if one.without_rate}


def listed_models(provider: Provider) -> tuple[str, ...]:
    """Return the names of a provider's models that ship with the program."""
    return tuple(shipped_catalogue().rows(provider.preset or "", provider.region or ""))


def _facts(
    provider: Provider, preset: str, billing: Billing, imported: Catalogue
) -> Iterator[tuple[str, ModelFacts]]:
    region = provider.region or ""
    shipped, taken = shipped_catalogue().rows(preset, region), imported.rows(preset, region)
    for model in {**shipped, **taken}:
        first, second = taken.get(model, _NO_ENTRY), shipped.get(model, _NO_ENTRY)
        offers = _offers(first, second)
        offer = _in_use(offers, billing)
        yield (
            model,
            ModelFacts(
                first.context_window or second.context_window,
                first.max_output or second.max_output,
                first.category or second.category,
                offer,
                offers[0].price.currency if offers and offer is None else None,
            ),
        )


_NO_ENTRY = Entry("", None, None, None, ())


def _offers(imported: Entry, shipped: Entry) -> list[Offer]:
    """Return the prices of a model, one for each currency.

    An imported price takes the place of a shipped one in its currency. Where there are only shipped
    ones in others it is left out: the provider bills in those, and it would be a conversion of them.
    """
    by_currency: Mapping[str, Offer] = {offer.price.currency: offer for offer in shipped.offers}
    ours = {offer.price.currency: offer for offer in imported.offers}
    if not by_currency:
        return list(ours.values())
    return [ours.get(currency, offer) for currency, offer in by_currency.items()]


def _in_use(offers: Iterable[Offer], billing: Billing) -> Offer | None:
    usable = [_in_any_currency(offer, billing) for offer in offers]
    usable = [offer for offer in usable if _has_rate(offer, billing)]
    own = (offer for offer in usable if offer.price.currency == billing.currency)
    return next(own, usable[0] if usable else None)


def _in_any_currency(offer: Offer, billing: Billing) -> Offer:
    """Return what costs nothing as costing nothing in the billing currency: that needs no rate."""
    if not offer.price.is_free:
        return offer
    return offer._replace(price=Price(billing.currency, 0, 0, 0, 0, 0))


def _has_rate(offer: Offer, billing: Billing) -> bool:
    return offer.price.currency == billing.currency or offer.price.currency in billing.exchange_rates
