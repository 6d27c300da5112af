"""The configuration in force as the admin API shows it: whole, secrets masked."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

from proxy.config.schema import Config
from proxy.core.money import decimal_text, price_terms, ratio_text
from proxy.core.pricing import Price, Ratio
from proxy.core.secret import Secret

_NANOS = "_nanos"


def config_object(config: Config) -> dict[str, Any]:
    """Return the configuration as JSON values, under the names of its file.

    Secrets show their last four characters at most; amounts are decimal text.
    """
    shown: dict[str, Any] = _shown(config)
    del shown["source"]
    return shown


def price_object(price: Price | None) -> dict[str, Any] | None:
    """Return a price per million tokens as decimal text in its own currency; None when unpriced."""
    if price is None:
        return None
    tiers = [
        {"above_input_tokens": tier.above_input_tokens, **price_terms(tier.price)} for tier in price.tiers
    ]
    return {**price_terms(price), "tiers": tiers}


def _shown(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.masked()
    if isinstance(value, Price):
        return price_object(value)
    if isinstance(value, Ratio):
        return ratio_text(value)
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value):
        members = ((field.name, getattr(value, field.name)) for field in fields(value))
        return dict(_member(name, member) for name, member in members)
    if isinstance(value, Mapping):
        return {name: _shown(member) for name, member in value.items()}
    if isinstance(value, tuple):
        return [_shown(member) for member in value]
    return value


def _member(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith(_NANOS):
        return name.removesuffix(_NANOS), None if value is None else decimal_text(value)
    return name, _shown(value)
