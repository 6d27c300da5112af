"""Billing and plans as the file gives them, completed with what depends on other keys."""

from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any

from proxy.config.problems import Wrong
from proxy.config.schema import Billing, Plan, SubscriptionOffer, ratio
from proxy.core.entities import Limits
from proxy.core.pricing import NANOS

Given = Mapping[str, Any]

_LIMITS = tuple(field.name for field in fields(Limits))


def complete_billing(
    *, exchange_rates: Mapping[str, Decimal] | None = None, credit_limit: Decimal = Decimal(0), **given: Any
) -> Billing:
    """Return the billing section. Raises Wrong."""
    rates = exchange_rates or {}
    if given.get("mode") == "prepaid":
        given.setdefault("unpriced", "reject")
    billing = Billing(
        exchange_rates={currency: ratio(rate) for currency, rate in rates.items()},
        credit_limit_nanos=_nanos(credit_limit),
        **given,
    )
    for currency, rate in rates.items():
        if not rate:
            raise Wrong("a rate must be above 0", "exchange_rates", currency)
        if currency == billing.currency and rate != 1:
            raise Wrong("the billing currency's own rate is 1", "exchange_rates", currency)
    return billing


def complete_plan(name: str, given: Given) -> Plan:
    offer = given.get("subscription")
    return Plan(
        name,
        Limits(**{limit: given[limit] for limit in _LIMITS if limit in given}),
        models=given.get("models"),
        providers=given.get("providers"),
        discount=ratio(given.get("discount", Decimal(1))),
        subscription=offer
        and SubscriptionOffer(_nanos(offer["price"]), _nanos(offer["credit"]), offer["days"]),
    )


def _nanos(amount: Decimal) -> int:
    """Return an amount of at most nine places, which the reading has ensured, in nanos."""
    numerator, denominator = amount.as_integer_ratio()
    return numerator * NANOS // denominator
