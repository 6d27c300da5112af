"""The models that exist: those of `models:`, and those of each provider as `provider/model`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from proxy.config.schema import Provider
from proxy.core.errors import PermissionRefused, SluiceError
from proxy.core.globs import Globs
from proxy.core.moments import rfc3339
from proxy.core.money import display_price, plain_price
from proxy.core.pricing import Price
from proxy.core.quoting import quoted
from proxy.core.routing import Deployment, Model, Resolution
from proxy.gateway.clock import Clock
from proxy.gateway.configview import price_object
from proxy.gateway.keystate import KeyState
from proxy.gateway.snapshot import Snapshot

Json = dict[str, Any]

logger = logging.getLogger("sluice.directory")

ASK_S = 2.0
KEPT_NS = 300 * 10**9
# A provider that did not answer is not asked at every listing, nor left out for minutes.
FAILURE_KEPT_NS = 30 * 10**9
# What the echo provider is called with in listings; it answers to any name.
_ECHO_MODELS = ("echo",)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a provider said when it was asked, and until when that is believed (monotonic)."""

    provider: Provider
    models: tuple[str, ...]
    until_ns: int


class Directory:
    """Lists models with providers, limits and prices.

    `ask` returns the names of a provider's models, or raises SluiceError.
    """

    def __init__(
        self, snapshot: Callable[[], Snapshot], ask: Callable[[str], Awaitable[list[str]]], clock: Clock
    ) -> None:
        self._snapshot = snapshot
        self._ask = ask
        self._clock = clock
        self._created_ms = clock.now_ms()
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def listing(self, key: KeyState, provider: str | None, category: str | None) -> list[Json]:
        """Return the models that the key may use, of one provider or category where given."""
        items = []
        for resolution in await self._resolutions():
            deployments = _allowed(resolution, key)
            if deployments and key.allows_model(resolution.name):
                item = self._item(resolution.name, resolution.model, deployments)
                if provider in (None, *item["providers"]) and category in (None, item["category"]):
                    items.append(item)
        return items

    def one(self, key: KeyState, name: str) -> Json:
        """Return one model.

        Raises RequestRefused (404, with near names) for an unknown one, PermissionRefused for one
        that the key may not use.
        """
        resolution = self._snapshot().catalog.resolve(name)
        deployments = _allowed(resolution, key)
        if not deployments or not key.allows_model(name):
            raise PermissionRefused(
                "model_not_allowed", f"This API key may not use the model {quoted(name)}."
            )
        return self._item(name, resolution.model, deployments)

    async def entries(self) -> list[Json]:
        """Return every model with its routes, for administrators: wildcards and unusable ones too."""
        models = self._snapshot().config.models
        resolutions = {resolution.name: resolution for resolution in await self._resolutions()}
        return [
            self._entry(name, models.get(name), resolutions.get(name))
            for name in dict.fromkeys([*models, *resolutions])
        ]

    async def _resolutions(self) -> list[Resolution]:
        """Return what can be called by name; entries with a wildcard are no names."""
        snapshot = self._snapshot()
        providers = [provider for provider in snapshot.config.providers.values() if provider.active]
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

    async def _models_of(self, provider: Provider) -> Iterable[str]:
        """Return a provider's models: its allow list, else what it says when asked."""
        if provider.models is None:
            return await self._asked(provider)
        if any("*" in model for model in provider.models):
            allowed = Globs(provider.models)
            exact = (model for model in provider.models if "*" not in model)
            return dict.fromkeys((*exact, *filter(allowed.allows, await self._asked(provider))))
        return provider.models

    async def _asked(self, provider: Provider) -> tuple[str, ...]:
        """Return what a provider answered within the last minutes, or ask it; never raises."""
        if provider.protocol == "echo":
            return _ECHO_MODELS
        if not provider.lists_models:
            return ()
        answer = self._answers.get(provider.name)
        if (
            answer is not None
            and answer.provider is provider
            and self._clock.monotonic_ns() < answer.until_ns
        ):
            return answer.models
        task = self._asking.get(provider.name)
        if task is None:
            task = self._asking[provider.name] = asyncio.create_task(self._ask_now(provider, answer))
            task.add_done_callback(lambda _: self._asking.pop(provider.name))
        return await asyncio.shield(task)

    async def _ask_now(self, provider: Provider, before: _Answer | None) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(ASK_S):
                models = tuple(await self._ask(provider.name))
            kept_ns = KEPT_NS
        except (SluiceError, TimeoutError) as error:
            logger.info(
                "%s did not say which models it has: %s", provider.name, str(error) or "no answer in time"
            )
            models = before.models if before is not None and before.provider is provider else ()
            kept_ns = FAILURE_KEPT_NS
        self._answers[provider.name] = _Answer(provider, models, self._clock.monotonic_ns() + kept_ns)
        return models

    def _item(self, name: str, model: Model | None, deployments: Sequence[Deployment]) -> Json:
        """Return a model as OpenAI's and Anthropic's lists show it, and what else is known of it."""
        providers = list(dict.fromkeys(deployment.provider for deployment in deployments))
        price = self._snapshot().price_of(model, deployments[0]) if deployments else None
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
            "category": model and model.category,
            "context_window": model and model.context_window,
            "max_output_tokens": model and model.max_output,
            "pricing": price and _pricing(price),
        }

    def _entry(self, name: str, configured: Model | None, resolution: Resolution | None) -> Json:
        if resolution is None:  # a wildcard, or without any active provider
            model, deployments = configured, configured.deployments if configured else ()
        else:
            skipped = (item.deployment for item in resolution.skipped)
            model, deployments = resolution.model, (*resolution.deployments, *skipped)
        return {
            **self._item(name, model, deployments),
            "alias": configured and configured.alias,
            "routes": [self._route(model, deployment) for deployment in deployments],
        }

    def _route(self, model: Model | None, deployment: Deployment) -> Json:
        snapshot = self._snapshot()
        return {
            "provider": deployment.provider,
            "model": deployment.model,
            "priority": deployment.priority,
            "weight": deployment.weight,
            "active": snapshot.config.providers[deployment.provider].active,
            "price": price_object(snapshot.price_of(model, deployment)),
        }


def first_name(snapshot: Snapshot) -> str:
    """Return a model that can be called, for an example; a provider's own names only the echo's."""
    names = [name for name in snapshot.config.models if "*" not in name]
    for provider in snapshot.config.providers.values():
        models = provider.models or (_ECHO_MODELS if provider.protocol == "echo" else ("MODEL",))
        names += [f"{provider.name}/{model}" for model in models if "*" not in model]
    for name in names:
        with suppress(SluiceError):
            return snapshot.catalog.resolve(name).name
    return "MODEL"


def _allowed(resolution: Resolution, key: KeyState) -> tuple[Deployment, ...]:
    return tuple(item for item in resolution.deployments if key.allows_provider(item.provider))


def _pricing(price: Price) -> Json:
    """Return a price for people and, per million tokens, for programs."""
    return {
        "input": display_price(price.input, price.currency),
        "output": display_price(price.output, price.currency),
        "cached_input": display_price(price.cached_input, price.currency),
        "currency": price.currency,
        "input_per_million": plain_price(price.input),
        "output_per_million": plain_price(price.output),
    }
