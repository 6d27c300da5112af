"""The models that exist: those of `models:`, and those of each provider as `provider/model`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from proxy.config.facts import listed_models
from proxy.config.schema import Provider
from proxy.core.entities import Usage
from proxy.core.errors import PermissionRefused, SluiceError
from proxy.core.globs import Globs
from proxy.core.moments import rfc3339
from proxy.core.money import display_price, plain_price
from proxy.core.pricing import ONE, TOKENS_PER_PRICE, Price, Ratio, cost
from proxy.core.quoting import quoted
from proxy.core.routing import Deployment, Model, Resolution
from proxy.gateway.clock import Clock
from proxy.gateway.configview import price_object
from proxy.gateway.keystate import KeyState
from proxy.gateway.snapshot import Snapshot
from proxy.upstream.providers import ProviderClient

Json = dict[str, Any]

logger = logging.getLogger("sluice.directory")

ASK_S = 2.0
KEPT_NS = 300 * 10**9
# A provider that did not answer is not asked at every listing, nor left out for minutes.
FAILURE_KEPT_NS = 30 * 10**9
# What the echo provider is called with in listings; it answers to any name.
_ECHO_MODELS = ("echo",)
_NOTHING_KNOWN = dict.fromkeys(("category", "context_window", "max_output_tokens", "pricing"))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a provider said when it was asked, and until when that is believed (monotonic)."""

    provider: Provider
    models: tuple[str, ...]
    until_ns: int


class Directory:
    """Lists models with providers, limits and prices, each list from one configuration.

    `ask` returns the names of a provider's models, or raises SluiceError.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        ask: Callable[[ProviderClient], Awaitable[list[str]]],
        clock: Clock,
    ) -> None:
        self._snapshot = snapshot
        self._ask = ask
        self._clock = clock
        self._created_ms = clock.now_ms()
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[ProviderClient, asyncio.Task[tuple[str, ...]]] = {}

    async def listing(self, key: KeyState, provider: str | None, category: str | None) -> list[Json]:
        """Return the models that the key may use, of one provider or category where given."""
        snapshot = self._snapshot()
        items = []
        for resolution in await self._resolutions(snapshot):
            deployments = _allowed(resolution, key)
            if deployments and key.allows_model(resolution.name):
                item = self._item(snapshot, resolution.name, resolution.model, deployments)
                if provider in (None, *item["providers"]) and category in (None, item["category"]):
                    items.append(item)
        return items

    def one(self, key: KeyState, name: str) -> Json:
        """Return one model.

        Raises RequestRefused (404, with near names) for an unknown one, PermissionRefused for one
        that the key may not use.
        """
        snapshot = self._snapshot()
        resolution = snapshot.catalog.resolve(name)
        deployments = _allowed(resolution, key)
        if not deployments or not key.allows_model(name):
            raise PermissionRefused(
                "model_not_allowed", f"This API key may not use the model {quoted(name)}."
            )
        return self._item(snapshot, name, resolution.model, deployments)

    async def entries(self) -> list[Json]:
        """Return every model with its routes, for administrators: wildcards and unusable ones too."""
        snapshot = self._snapshot()
        models = snapshot.config.models
        resolutions = {resolution.name: resolution for resolution in await self._resolutions(snapshot)}
        return [
            self._entry(snapshot, name, models.get(name), resolutions.get(name))
            for name in dict.fromkeys([*models, *resolutions])
        ]

    async def _resolutions(self, snapshot: Snapshot) -> list[Resolution]:
        """Return what can be called by name; entries with a wildcard are no names."""
        providers = [provider for provider in snapshot.providers.values() if provider.config.active]
        models = await asyncio.gather(*map(self._models_of, providers))
        names = [name for name in snapshot.config.models if "*" not in name]
        for provider, found in zip(providers, models, strict=True):
            names += [f"{provider.name}/{model}" for model in found]
        resolutions = []
        for name in dict.fromkeys(names):
            try:
                resolutions.append(snapshot.catalog.resolve(name))
            except SluiceError as error:
                logger.debug("not listed: %s", error.message)
        return resolutions

    async def _models_of(self, provider: ProviderClient) -> Iterable[str]:
        """Return a provider's models: its allow list, else what it says when asked, else what is listed."""
        models = provider.config.models
        if models is None:
            return await self._asked(provider)
        if any("*" in model for model in models):
            allowed = Globs(models)
            exact = (model for model in models if "*" not in model)
            return dict.fromkeys((*exact, *filter(allowed.allows, await self._asked(provider))))
        return models

    async def _asked(self, provider: ProviderClient) -> tuple[str, ...]:
        """Return what a provider answered within the last minutes, or ask it; never raises."""
        if provider.config.protocol == "echo":
            return _ECHO_MODELS
        if not provider.config.lists_models:
            return listed_models(provider.config)
        answer = self._answers.get(provider.name)
        if (
            answer is not None
            and answer.provider == provider.config
            and self._clock.monotonic_ns() < answer.until_ns
        ):
            return answer.models
        # A provider of the same name in another configuration may be another one.
        task = self._asking.get(provider)
        if task is None:
            task = self._asking[provider] = asyncio.create_task(self._ask_now(provider, answer))
            task.add_done_callback(lambda _: self._asking.pop(provider))
        return await asyncio.shield(task)

    async def _ask_now(self, provider: ProviderClient, before: _Answer | None) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(ASK_S):
                models = tuple(await self._ask(provider))
            kept_ns = KEPT_NS
        except (SluiceError, TimeoutError) as error:
            logger.info(
                "%s did not say which models it has: %s", provider.name, str(error) or "no answer in time"
            )
            known = before is not None and before.provider == provider.config
            models = before.models if before is not None and known else listed_models(provider.config)
            kept_ns = FAILURE_KEPT_NS
        self._answers[provider.name] = _Answer(provider.config, models, self._clock.monotonic_ns() + kept_ns)
        return models

    def _item(
        self, snapshot: Snapshot, name: str, model: Model | None, deployments: Sequence[Deployment]
    ) -> Json:
        """Return a model as OpenAI's and Anthropic's lists show it, and what else is known of it."""
        providers = list(dict.fromkeys(deployment.provider for deployment in deployments))
        known = _known(snapshot, model, deployments[0]) if deployments else dict(_NOTHING_KNOWN)
        return {
            "id": name,
            "object": "model",
            "type": "model",
            "display_name": name,
            "created": self._created_ms // 1000,
            "created_at": rfc3339(self._created_ms),
            "owned_by": next(iter(providers), None),
            "provider": next(iter(providers), None),
            "providers": providers,
            **known,
        }

    def _entry(
        self, snapshot: Snapshot, name: str, configured: Model | None, resolution: Resolution | None
    ) -> Json:
        if resolution is None:  # a wildcard, or without any active provider
            model, deployments = configured, configured.deployments if configured else ()
        else:
            skipped = (item.deployment for item in resolution.skipped)
            model, deployments = resolution.model, (*resolution.deployments, *skipped)
        return {
            **self._item(snapshot, name, model, deployments),
            **_origin(snapshot, model, deployments[0] if deployments else None),
            "alias": configured and configured.alias,
            "routes": [_route(snapshot, model, deployment) for deployment in deployments],
        }


def first_name(snapshot: Snapshot, key: KeyState | None = None) -> str:
    """Return a model that can be called, by a key if one is given, for an example.

    Of a provider without a list of models, only the echo's name is known. Examples are chats.
    """
    models_here = snapshot.config.models.items()
    names = [name for name, model in models_here if "*" not in name and model.category != "embedding"]
    for provider in snapshot.config.providers.values():
        models = provider.models or (_ECHO_MODELS if provider.protocol == "echo" else ("MODEL",))
        names += [f"{provider.name}/{model}" for model in models if "*" not in model]
    for name in names:
        with suppress(SluiceError):
            resolution = snapshot.catalog.resolve(name)
            if key is None or (_allowed(resolution, key) and key.allows_model(name)):
                return resolution.name
    return "MODEL"


def _allowed(resolution: Resolution, key: KeyState) -> tuple[Deployment, ...]:
    return tuple(item for item in resolution.deployments if key.allows_provider(item.provider))


def _known(snapshot: Snapshot, model: Model | None, deployment: Deployment) -> Json:
    """Return what is said of a model by the configuration, else by lists: of its first deployment."""
    price = snapshot.price_of(model, deployment)
    return {
        "category": snapshot.category_of(model, deployment),
        "context_window": snapshot.context_window_of(model, deployment),
        "max_output_tokens": snapshot.max_output_of(model, deployment),
        "pricing": price and _pricing(snapshot, price),
    }


def _origin(snapshot: Snapshot, model: Model | None, deployment: Deployment | None) -> Json:
    origin = deployment and snapshot.price_origin_of(model, deployment)
    return {"price_source": origin and origin.source, "price_date": origin and origin.date}


def _route(snapshot: Snapshot, model: Model | None, deployment: Deployment) -> Json:
    return {
        "provider": deployment.provider,
        "model": deployment.model,
        "priority": deployment.priority,
        "weight": deployment.weight,
        "active": snapshot.config.providers[deployment.provider].active,
        "price": price_object(snapshot.price_of(model, deployment)),
        **_origin(snapshot, model, deployment),
    }


def _pricing(snapshot: Snapshot, price: Price) -> Json:
    """Return a price for people and, per million tokens, for programs; converted, where that differs."""
    billing = snapshot.config.billing.currency
    converted = {"currency": billing, **_per_million(price, snapshot.exchange_rate(price.currency))}
    return {
        "input": display_price(price.input, price.currency),
        "output": display_price(price.output, price.currency),
        "cached_input": display_price(price.cached_input, price.currency),
        "currency": price.currency,
        **_per_million(price, ONE),
        "converted": None if price.currency == billing else converted,
    }


def _per_million(price: Price, rate: Ratio) -> Json:
    million, price = TOKENS_PER_PRICE, replace(price, per_request=0, tiers=())
    usages = {
        "input_per_million": Usage(input_tokens=million),
        "output_per_million": Usage(output_tokens=million),
        "cached_input_per_million": Usage(input_tokens=million, cached_tokens=million),
    }
    return {name: plain_price(cost(usage, price, rate)) for name, usage in usages.items()}
