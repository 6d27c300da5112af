"""What differs between two configurations, in the words of their file; secrets are never shown.

Pure: a reload logs and answers it. docs/operations.md, "Reload"
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from proxy.config.problems import Place, clipped, dotted
from proxy.config.schema import Config, Provider, ProviderKey
from proxy.core.money import decimal_text, plain_price, ratio_text
from proxy.core.pricing import Price, Ratio
from proxy.core.rewrite import Overrides
from proxy.core.routing import Deployment, Model
from proxy.core.secret import Secret

# Of a list that changed, so many entries are named on either side.
_MOST_NAMED = 10
_PRICED = ("input", "output", "cached_input", "cache_write", "reasoning", "per_request")
# Where the file has another name, and what it does not have: such values come with a preset.
_NAMES = {"keys": "api_keys", "deployments": "routes"}
_DERIVED = {
    Config: {"path", "source"},
    Provider: {
        *("name", "auth", "paths", "lists_models", "reasoning_apart", "free", "other_regions"),
        "missing_variables",
    },
    Model: {"name"},
}
_NANOS = "_nanos"


class Change(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that differs. `detail` says how, on one line; it may be empty."""

    path: str
    change: Change
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.path} {self.change}"
        return f"{text}: {self.detail}" if self.detail else text


def differences(old: Config, new: Config) -> tuple[Difference, ...]:
    """Return what differs, in the order of the file's keys."""
    return tuple(_of_records((), old, new))


def _of_records(path: Place, old: Any, new: Any) -> Iterator[Difference]:
    derived = _DERIVED.get(type(new), set())
    for field in fields(new):
        if field.name not in derived:
            name = _NAMES.get(field.name, field.name)
            before, after = getattr(old, field.name), getattr(new, field.name)
            if name.endswith(_NANOS):
                name = name.removesuffix(_NANOS)
                before, after = _amount(before), _amount(after)
            # A plan's limits stand beside its other keys.
            here = path if name == "limits" and path else (*path, name)
            yield from _of(here, before, after)


def _of(path: Place, old: Any, new: Any) -> Iterator[Difference]:
    if old == new:
        return
    match old, new:
        case Provider(), Provider():
            yield from _of_activity(path, old, new)
            yield from _of_records(path, old, new)
        case Price(), Price():
            yield Difference(dotted(path), Change.CHANGED, _price_change(old, new))
        case (Overrides(), _) | (_, Overrides()):
            yield Difference(dotted(path), _change(old, new))
        case Ratio(), Ratio():  # these are tuples, too
            yield Difference(dotted(path), Change.CHANGED, _arrow(old, new))
        case Mapping(), Mapping():
            yield from _of_mappings(path, old, new)
        case tuple(), tuple():
            yield from _of_lists(path, old, new)
        case _ if is_dataclass(old) and type(old) is type(new):
            yield from _of_records(path, old, new)
        case _:
            yield _of_values(path, old, new)


def _of_mappings(path: Place, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for name in {**old, **new}:
        if name not in new:
            yield Difference(dotted((*path, name)), Change.REMOVED, _described(old[name]))
        elif name not in old:
            yield Difference(dotted((*path, name)), Change.ADDED, _described(new[name]))
        else:
            yield from _of((*path, name), old[name], new[name])


def _of_lists(path: Place, old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[Difference]:
    first = next(iter(new or old))
    if isinstance(first, Deployment):
        yield from _of_routes(path, old, new)
    elif isinstance(first, ProviderKey):
        detail = f"{len(old)} → {len(new)} keys" if len(old) != len(new) else ""
        yield Difference(dotted(path), Change.CHANGED, detail)
    else:
        added = [item for item in new if item not in old]
        removed = [item for item in old if item not in new]
        signed = [*_signed("+", added), *_signed("-", removed)]
        yield Difference(dotted(path), Change.CHANGED, ", ".join(signed) or "another order")


def _of_routes(path: Place, old: tuple[Deployment, ...], new: tuple[Deployment, ...]) -> Iterator[Difference]:
    before = {f"{route.provider}/{route.model}": route for route in old}
    after = {f"{route.provider}/{route.model}": route for route in new}
    found = list(_of_mappings(path, before, after))
    yield from found
    if not found:
        yield Difference(dotted(path), Change.CHANGED, "another order")


def _of_activity(path: Place, old: Provider, new: Provider) -> Iterator[Difference]:
    if old.active and not new.active:
        yield Difference(dotted(path), Change.CHANGED, _inactive(new))
    elif new.active and not old.active:
        yield Difference(dotted(path), Change.CHANGED, "is active now")


def _of_values(path: Place, old: Any, new: Any) -> Difference:
    secret = isinstance(old, Secret) or isinstance(new, Secret)
    composed = isinstance(old, Price) or isinstance(new, Price) or is_dataclass(old) or is_dataclass(new)
    if secret or composed:
        detail = "" if secret else _described(old if new is None else new)
        return Difference(dotted(path), _change(old, new), detail)
    return Difference(dotted(path), Change.CHANGED, _arrow(old, new))


def _change(old: object, new: object) -> Change:
    if old is None:
        return Change.ADDED
    return Change.REMOVED if new is None else Change.CHANGED


def _described(value: Any) -> str:
    """Return what is worth telling of something that came or went."""
    match value:
        case Provider():
            return "" if value.active else _inactive(value)
        case Model(alias=str(alias)):
            return f"alias of {clipped(alias)}"
        case Model():
            return ", ".join(_named([f"{route.provider}/{route.model}" for route in value.deployments]))
        case Price():
            terms = (f"{name} {plain_price(getattr(value, name))}" for name in _PRICED)
            return f"{', '.join(terms)} {value.currency} per 1M"
        case Secret() | Mapping():
            return ""
        case Ratio():
            return _shown(value)
        case tuple():
            return ", ".join(_named(value))
        case _ if is_dataclass(value):
            return ""
        case _:
            return _shown(value)


def _price_change(old: Price, new: Price) -> str:
    changes = [
        f"{name} {plain_price(before)} → {plain_price(after)}"
        for name in _PRICED
        if (before := getattr(old, name)) != (after := getattr(new, name))
    ]
    if old.tiers != new.tiers:
        changes.append("tiers")
    currency = _arrow(old.currency, new.currency) if old.currency != new.currency else new.currency
    return f"{', '.join(changes)} ({currency} per 1M)".lstrip()


def _inactive(provider: Provider) -> str:
    return f"is inactive: {', '.join(provider.missing_variables)} empty"


def _signed(sign: str, items: list[Any]) -> list[str]:
    return [sign + name for name in _named(items)]


def _named(items: Any) -> list[str]:
    names = [_shown(item) for item in items[:_MOST_NAMED]]
    if more := len(items) - len(names):
        names.append(f"… {more} more")
    return names


def _arrow(old: object, new: object) -> str:
    return f"{_shown(old)} → {_shown(new)}"


def _amount(nanos: int | None) -> str | None:
    return None if nanos is None else decimal_text(nanos)


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case Ratio():
            return ratio_text(value)
        case str() | PurePath():
            return clipped(str(value)) or '""'
        case int():
            return str(value)
        case tuple():
            return f"[{', '.join(_named(value))}]"
    return "…"  # nothing else is shown by accident
