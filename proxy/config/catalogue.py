"""What providers' models cost and hold: lists that ship with the program, and lists that were imported.

Both have one form, that of `catalogue.json`: a list for each provider, region and currency, a row for
each model. A row without `price` is of a model whose price nobody dependable has said, which is not
the same as a free one. docs/prices.md
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from proxy.config.presets import PRESETS
from proxy.config.prices import AMOUNTS, parse_price
from proxy.config.problems import Wrong
from proxy.core.pricing import Price

#: Where a price comes from that the configuration does not give.
SHIPPED, IMPORTED = "catalogue", "imported"

# The same hosts, and so the same lists, under two names.
_SAME = {("zhipu", "intl"): ("zai", "intl"), ("zai", "cn"): ("zhipu", "cn")}

# Anthropic's names without a date stand for one dated model each, at one price. Elsewhere the
# dated ones may differ: gpt-4o-2024-05-13 costs twice what gpt-4o does.
_DATED_ALIKE = frozenset({"anthropic"})
_DATE = re.compile(r"-20[0-9]{6}\Z")

#: More than any provider has.
MOST_TIERS = 16
_FOLLOWING = {"cached_input": "input", "cache_write": "input", "reasoning": "output"}

Text = Annotated[str, Meta(min_length=1, max_length=200)]
Day = Annotated[str, Meta(pattern=r"^20[0-9]{2}-[01][0-9]-[0-3][0-9]\Z")]
Code = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Tokens = Annotated[int, Meta(ge=1, le=10**9)]
# Decimal text: no float comes near it, and no exponent either.
Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?\Z")]


class TierTerms(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True, kw_only=True):
    """Amounts per million tokens, `per_request` each."""

    above_input_tokens: Tokens
    input: Amount | None = None
    output: Amount | None = None
    cached_input: Amount | None = None
    cache_write: Amount | None = None
    reasoning: Amount | None = None
    per_request: Amount | None = None


class PriceTerms(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True, kw_only=True):
    """As a price of the configuration, per million tokens."""

    input: Amount | None = None
    output: Amount | None = None
    cached_input: Amount | None = None
    cache_write: Amount | None = None
    reasoning: Amount | None = None
    per_request: Amount | None = None
    tiers: Annotated[tuple[TierTerms, ...], Meta(max_length=MOST_TIERS)] = ()


class Row(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True, kw_only=True):
    """One model of a list, by the provider's own name; `source` and `date` are the list's unless given."""

    id: Text
    context_window: Tokens | None = None
    max_output: Tokens | None = None
    category: Text | None = None
    price: PriceTerms | None = None
    source: Text | None = None
    date: Day | None = None
    note: Text | None = None


class PriceList(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True, kw_only=True):
    """What one provider publishes in one region ("" where it has none) and currency.

    `date` is the day on which the source showed it.
    """

    preset: str
    region: str = ""
    currency: Code
    source: Text
    date: Day
    models: Annotated[tuple[Row, ...], Meta(max_length=10_000)]


class Offer(NamedTuple):
    """A price, where it comes from (SHIPPED, IMPORTED), who said so, and when."""

    price: Price
    origin: str
    source: str
    date: str
    note: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one model. `offers` has one price for each currency; none: unpriced."""

    model: str
    context_window: int | None
    max_output: int | None
    category: str | None
    offers: tuple[Offer, ...]


class Catalogue:
    """Entries by preset, region and the provider's own name of the model."""

    def __init__(self, lists: Sequence[PriceList], origin: str) -> None:
        """Raises Wrong, its path relative to the lists."""
        self._rows: dict[tuple[str, str], dict[str, Entry]] = {}
        seen: set[tuple[str, ...]] = set()
        for index, one in enumerate(lists):
            _check_place(one, index)
            place = (one.preset, one.region)
            rows = self._rows.setdefault(_SAME.get(place, place), {})
            for number, row in enumerate(one.models):
                path = (index, "models", number)
                key = (*_SAME.get(place, place), one.currency, row.id)
                if key in seen:
                    raise Wrong(f"{row.id} stands above already", *path, "id")
                seen.add(key)
                rows[row.id] = _entry(one, row, origin, rows.get(row.id), path)

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def find(self, preset: str, region: str, model: str) -> Entry | None:
        """Return what is known of a model; another region's row never counts."""
        rows = self.rows(preset, region)
        return rows.get(model) or rows.get(usual_id(preset, model))

    def rows(self, preset: str, region: str) -> Mapping[str, Entry]:
        """Return all that is known of a preset's models in a region, "" where it has none."""
        return self._rows.get(_SAME.get((preset, region), (preset, region)), _NO_ROWS)


_NO_ROWS: Mapping[str, Entry] = MappingProxyType({})

NOTHING_IMPORTED = Catalogue((), IMPORTED)


@cache
def shipped_catalogue() -> Catalogue:
    """Return what ships with the program; it takes some milliseconds, once."""
    data = files("proxy.config").joinpath("catalogue.json").read_bytes()
    return Catalogue(msgspec.json.decode(data, type=tuple[PriceList, ...]), SHIPPED)


def usual_id(preset: str, model: str) -> str:
    """Return the name under which lists have a model."""
    plain = model.removeprefix("models/")  # in front of every name in Google's own list
    return _DATE.sub("", plain) if preset in _DATED_ALIKE else plain


def _check_place(one: PriceList, index: int) -> None:
    preset = PRESETS.get(one.preset)
    if preset is None or preset.name != one.preset:
        raise Wrong(f"there is no preset {one.preset}", index, "preset")
    if one.region not in (preset.regions or ("",)):
        raise Wrong(f"{one.preset} has no such region", index, "region")


def _entry(one: PriceList, row: Row, origin: str, other: Entry | None, path: tuple[str | int, ...]) -> Entry:
    """Return the entry of a row, together with that of the same model in another currency."""
    offers = other.offers if other else ()
    if row.price is not None:
        try:
            price = whole_price(row.price, one.currency)
        except Wrong as error:
            raise Wrong(str(error), *path, "price", *error.path) from None
        offers += (Offer(price, origin, row.source or one.source, row.date or one.date, row.note),)
    if other is not None:
        return replace(other, offers=offers)
    return Entry(row.id, row.context_window, row.max_output, row.category, offers)


def whole_price(terms: PriceTerms, currency: str) -> Price:
    """Return the price that a row means. Raises Wrong, its path relative to the price."""
    base = _amounts(terms)
    tiers = [_tier(tier, base) for tier in terms.tiers]
    return parse_price(currency=currency, per="1M", tiers=tiers, **base)


def _tier(terms: TierTerms, base: Mapping[str, Decimal]) -> dict[str, Decimal | int]:
    """Return a tier; a class that the whole price does not set apart follows the tier's own price.

    Otherwise it would be taken from the base: with input at 6 instead of 1, caches would still cost 1.
    """
    amounts = _amounts(terms)
    for name, follows in _FOLLOWING.items():
        if name not in base and follows in amounts:
            amounts.setdefault(name, amounts[follows])
    return {"above_input_tokens": terms.above_input_tokens, **amounts}


def _amounts(terms: PriceTerms | TierTerms) -> dict[str, Decimal]:
    given = {name: getattr(terms, name) for name in AMOUNTS}
    return {name: Decimal(text) for name, text in given.items() if text is not None}
