"""LiteLLM's price file, `model_prices_and_context_window.json`, as price lists of ours.

It maps names of models to objects: who serves them, what a token of each class costs in US dollars,
how much they take. Whatever is of other providers, or not billed by tokens, is passed over and
counted; an entry of a provider of ours that makes no sense refuses the file. docs/prices.md
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import msgspec

from proxy.config.catalogue import MOST_TIERS, PriceList, PriceTerms, Row, TierTerms, whole_price
from proxy.config.prices import MOST
from proxy.config.problems import clipped

#: What the file has of each provider: our preset and the region whose list it is. Prices that it
#: converted from another currency (volcengine, bigmodel) count only where no list of ours has them.
PLACES: Mapping[str, tuple[str, str]] = {
    "anthropic": ("anthropic", ""),
    "azure": ("azure", ""),
    "bigmodel": ("zhipu", "cn"),
    "cerebras": ("cerebras", ""),
    "dashscope": ("ali", "intl"),
    "deepseek": ("deepseek", ""),
    "fireworks_ai": ("fireworks", ""),
    "fireworks_ai-embedding-models": ("fireworks", ""),
    "gemini": ("gemini", ""),
    "groq": ("groq", ""),
    "minimax": ("minimax", "intl"),
    "mistral": ("mistral", ""),
    "moonshot": ("moonshot", "intl"),
    "openai": ("openai", ""),
    "openrouter": ("openrouter", ""),
    "tencent": ("tencent", "intl"),
    "text-completion-openai": ("openai", ""),
    "together_ai": ("together", ""),
    "volcengine": ("volc", "cn"),
    "xai": ("xai", "intl"),
    "xiaomi_mimo": ("mimo", ""),
    "zai": ("zai", "intl"),
}

#: Why an entry is passed over; the first also when it is of no model at all.
OTHER_PROVIDER = "of providers without a preset"
NOT_BY_TOKENS = "not billed by tokens of text"
NOTHING_SAID = "without price and limits"
TWICE = "the same model under a second name"

_CURRENCY = "USD"
# Entries of other kinds (images, speech, rerank) have prices that do not fit a price per token.
_BY_TOKENS = ("chat", "completion", "responses", "embedding")
# An explanation of the format, not a model.
_EXPLANATION = "sample_spec"

_AMOUNTS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "output_cost_per_reasoning_token": "reasoning",
}
_PER_REQUEST = "input_cost_per_request"
_ABOVE = re.compile(r"(\w+?)_above_([0-9]{1,6})k_tokens")
_MOST_TOKENS = 10**9
_NANO = Decimal("1e-9")
# Of a token, and of a request: above it is a slip, or another unit.
_DEAREST = MOST // 10**6

Entry = Mapping[str, Any]


class UnusablePriceFile(ValueError):
    """The file is not what it should be; the message names the entry."""


@dataclass(frozen=True, slots=True)
class PriceFile:
    """What was read: `entries` of the file, `taken` by preset, `skipped` by reason.

    `unpriced` of those taken have no usable price: none is given, or only zeros, which there also
    stand for unknown. `rounded` counts amounts finer than a nano per million tokens.
    """

    lists: tuple[PriceList, ...]
    entries: int
    taken: Mapping[str, int]
    skipped: Mapping[str, int]
    unpriced: int
    rounded: int


def read_price_file(data: bytes, day: str) -> PriceFile:
    """Return the price lists of a file, dated `day`. Raises UnusablePriceFile."""
    return _Reader(day).read(_decoded(data))


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        entries = msgspec.json.Decoder(float_hook=Decimal).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidOperation, RecursionError) as error:
        raise UnusablePriceFile(f"not JSON that can be read: {error}") from None
    if not isinstance(entries, dict) or not entries:
        raise UnusablePriceFile("not LiteLLM's price file: it is an object with an entry for each model")
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise UnusablePriceFile(f'"{clipped(name)}": expected an object')
    if not any("litellm_provider" in entry for entry in entries.values()):
        raise UnusablePriceFile("not LiteLLM's price file: no entry has a litellm_provider")
    return entries


@dataclass(slots=True)
class _Reader:
    day: str
    rows: dict[tuple[str, str], dict[str, Row]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    rounded: int = 0

    def read(self, entries: Mapping[str, Entry]) -> PriceFile:
        # Names with the provider in front come last: where both are there, they hold.
        for name in sorted(entries, key=lambda name: "/" in name):
            if name != _EXPLANATION:
                try:
                    self._take(name, entries[name])
                except ValueError as error:
                    raise UnusablePriceFile(f'"{clipped(name)}": {error}') from None
        taken = {preset: len(rows) for (preset, _), rows in self.rows.items()}
        unpriced = sum(row.price is None for rows in self.rows.values() for row in rows.values())
        count = len(entries) - (_EXPLANATION in entries)
        return PriceFile(tuple(self._lists()), count, taken, +self.skipped, unpriced, self.rounded)

    def _lists(self) -> Iterator[PriceList]:
        for (preset, region), rows in self.rows.items():
            yield PriceList(
                preset=preset,
                region=region,
                currency=_CURRENCY,
                source="LiteLLM's price file",
                date=self.day,
                models=tuple(rows.values()),
            )

    def _take(self, name: str, entry: Entry) -> None:
        provider = entry.get("litellm_provider")
        if not isinstance(provider, str) or provider not in PLACES:
            self.skipped[OTHER_PROVIDER] += 1
            return
        if entry.get("mode") not in _BY_TOKENS:
            self.skipped[NOT_BY_TOKENS] += 1
            return
        row = self._row(_model(name, provider), entry)
        if row.price is None and row.max_output is None and row.context_window is None:
            self.skipped[NOTHING_SAID] += 1
            return
        rows = self.rows.setdefault(PLACES[provider], {})
        self.skipped[TWICE] += row.id in rows
        rows[row.id] = row

    def _row(self, id: str, entry: Entry) -> Row:
        embedding = entry["mode"] == "embedding"
        return Row(
            id=id,
            context_window=_tokens(entry, "max_input_tokens"),
            max_output=None if embedding else _tokens(entry, "max_output_tokens"),
            category="embedding" if embedding else None,
            price=self._price(entry, embedding=embedding),
        )

    def _price(self, entry: Entry, *, embedding: bool) -> PriceTerms | None:
        """Return what a model costs, None where the file does not say so or says zero throughout."""
        ranges = entry.get("tiered_pricing")
        if ranges:
            first, *rest = _ranges(ranges)
            amounts = self._amounts(first)
            tiers = [TierTerms(above_input_tokens=_threshold(one), **self._amounts(one)) for one in rest]
        else:
            amounts = self._amounts(entry)
            tiers = list(self._tiers_above(entry))
        if per_request := _amount(entry, _PER_REQUEST):
            amounts["per_request"] = self._text(per_request, digits=0)
        if embedding:
            amounts.pop("output", None)
        enough = "input" in amounts and (embedding or "output" in amounts)
        if not (enough or per_request) or not any(map(Decimal, amounts.values())):
            return None
        if len(tiers) > MOST_TIERS:
            raise ValueError(f"has more than {MOST_TIERS} tiers")
        terms = PriceTerms(tiers=tuple(tiers), **amounts)
        whole_price(terms, _CURRENCY)  # raises for what does not go together
        return terms

    def _tiers_above(self, entry: Entry) -> Iterator[TierTerms]:
        """Yield the tiers that stand in members such as `input_cost_per_token_above_200k_tokens`."""
        found: dict[int, dict[str, Any]] = {}
        for member, value in entry.items():
            match = _ABOVE.fullmatch(member)
            if match and match[1] in _AMOUNTS:
                found.setdefault(int(match[2]) * 1000, {})[match[1]] = value
        for above, amounts in sorted(found.items()):
            yield TierTerms(above_input_tokens=_in_bounds(above, "a tier"), **self._amounts(amounts))

    def _amounts(self, entry: Entry) -> dict[str, str]:
        given = {ours: _amount(entry, theirs) for theirs, ours in _AMOUNTS.items()}
        if not given["cache_write"]:
            # Zero means that writing is not billed apart: it costs what input costs.
            del given["cache_write"]
        return {ours: self._text(amount) for ours, amount in given.items() if amount is not None}

    def _text(self, amount: Decimal, digits: int = 6) -> str:
        """Return the price of a token as that of 10^digits, rounded half up to whole nanos."""
        exact = amount.quantize(_NANO.scaleb(-digits), ROUND_HALF_UP)
        self.rounded += exact != amount
        text = f"{exact.scaleb(digits):f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


def _model(name: str, provider: str) -> str:
    """Return the provider's own name of a model: without the prefix by which LiteLLM calls it."""
    prefix = "fireworks_ai" if provider == "fireworks_ai-embedding-models" else provider
    id = name.removeprefix(f"{prefix}/")
    if not 0 < len(id) <= 200 or not id.isprintable():
        raise ValueError("its name cannot be that of a model")
    return id


def _ranges(value: object) -> list[Entry]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("tiered_pricing: expected a list of objects")
    return sorted(value, key=_from)


def _from(one: Entry) -> Decimal:
    """Return where a range of input tokens begins."""
    limits = one.get("range")
    if not isinstance(limits, list) or len(limits) != 2 or not _is_number(limits[0]):
        raise ValueError("tiered_pricing: expected a range of two numbers")
    return Decimal(limits[0])


def _threshold(one: Entry) -> int:
    begin = _from(one)
    return _in_bounds(begin, "tiered_pricing: a range")


def _amount(entry: Entry, member: str) -> Decimal | None:
    """Return an amount as the file has it, per token or request."""
    value = entry.get(member)
    if value is None:
        return None
    if not _is_number(value):
        raise ValueError(f"{member}: expected a number")
    amount = Decimal(value)
    if not 0 <= amount <= _DEAREST:
        raise ValueError(f"{member}: expected 0 to {_DEAREST}")
    return abs(amount)  # -0 is a number of JSON


def _tokens(entry: Entry, member: str) -> int | None:
    value = entry.get(member)
    if not value:
        return None
    if not _is_number(value):
        raise ValueError(f"{member}: expected a number")
    return _in_bounds(value, member)


def _in_bounds(value: int | Decimal, what: str) -> int:
    if not 1 <= value <= _MOST_TOKENS or value != int(value):
        raise ValueError(f"{what}: expected a whole number of tokens, 1 to {_MOST_TOKENS}")
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
