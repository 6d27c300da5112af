"""Providers as an administrator sees and handles them: what rests, why, until when; and ending it by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.core.errors import BadRequest, RequestRefused, UpstreamFailure
from proxy.core.health import Condition, Rest
from proxy.core.moments import rfc3339
from proxy.gateway.clock import Clock
from proxy.gateway.fleet import Cause, DeploymentHealth, KeyHealth
from proxy.gateway.router import Router
from proxy.gateway.snapshot import Snapshot
from proxy.upstream.client import UpstreamClient
from proxy.upstream.probe import probe
from proxy.upstream.providers import ProviderClient, UpstreamKey

Json = dict[str, Any]


class ProviderStates:
    """Shows and changes the states of providers; RequestRefused (404) for one that there is not.

    After each change the requests that wait are looked at: one of them may be served now, or wait in vain.
    """

    def __init__(
        self, snapshot: Callable[[], Snapshot], router: Router, client: UpstreamClient, clock: Clock
    ) -> None:
        self._snapshot = snapshot
        self._fleet = router.fleet
        self._room = router.room
        self._client = client
        self._clock = clock

    def all(self) -> list[Json]:
        """Return every provider of the configuration, inactive ones too."""
        return [self._shown(provider) for provider in self._snapshot().providers.values()]

    def one(self, name: str) -> Json:
        return self._shown(self._provider(name))

    def reset(self, name: str) -> Json:
        """End all rests of a provider and close its breakers."""
        provider = self._provider(name)
        self._fleet.reset(provider.name, self._clock.monotonic_ns())
        self._room.look()
        return self._shown(provider)

    def set_disabled(self, name: str, disabled: bool) -> Json:
        """Take a provider out of every route, or put it back. It holds until the process ends."""
        provider = self._provider(name)
        self._fleet.provider(provider.name).disabled = disabled
        self._room.look()
        return self._shown(provider)

    async def probe(self, name: str) -> Json:
        """Ask a provider with each of its keys, by its cheapest call; what works rests no longer.

        Raises BadRequest for one that is inactive: it has no key to be asked with.
        """
        provider = self._provider(name)
        if not provider.config.active:
            missing = ", ".join(provider.config.missing_variables)
            raise BadRequest("invalid_value", f"The provider {name} is inactive: {missing} is empty.")
        found = await asyncio.gather(*(self._probe(provider, key) for key in provider.keys))
        if any(item["ok"] for item in found):
            self._fleet.close_breakers(provider.name)
            self._room.look()
        return self._shown(provider) | {"probe": list(found)}

    async def _probe(self, provider: ProviderClient, key: UpstreamKey) -> Json:
        began_ns = self._clock.monotonic_ns()
        error: Json | None = None
        try:
            await probe(provider, key, self._models(provider), self._client)
            health = self._fleet.key(provider, key)
            health.rest.open()
            health.paces.clear()
        except UpstreamFailure as failure:
            error = _failure(failure)
        return {
            "key": key.masked,
            "ok": error is None,
            "error": error,
            "ms": (self._clock.monotonic_ns() - began_ns) // 10**6,
        }

    def _provider(self, name: str) -> ProviderClient:
        provider = self._snapshot().providers.get(name)
        if provider is None:
            raise RequestRefused("not_found", f"There is no provider {name}.")
        return provider

    def _models(self, provider: ProviderClient) -> list[str]:
        """Return the models of a provider that routes name, or of which something is known."""
        routed = [
            deployment.model
            for model in self._snapshot().config.models.values()
            for deployment in model.deployments
            if deployment.provider == provider.name and "*" not in deployment.model
        ]
        # Of models that only clients have named, those are told of which something is wrong.
        known = [
            model
            for model, health in self._fleet.deployments_of(provider.name).items()
            if health.breaker.strikes
        ]
        return list(dict.fromkeys(routed + known))

    def _shown(self, provider: ProviderClient) -> Json:
        config, state = provider.config, self._fleet.provider(provider.name)
        known = self._fleet.deployments_of(provider.name)
        keys = [self._key(provider, key) for key in provider.keys]
        return {
            "name": provider.name,
            "preset": config.preset,
            "protocol": config.protocol,
            "base_url": config.base_url,
            "active": config.active,
            "missing_variables": config.missing_variables,
            "state": self._state(provider, keys),
            "running": state.running,
            "concurrency": config.concurrency,
            "keys": keys,
            "deployments": [self._deployment(model, known.get(model)) for model in self._models(provider)],
            "last_hour": [
                {
                    "at": rfc3339(self._clock.unix_ms(part.begin_ns)),
                    "attempts": part.attempts,
                    "failed": part.failed,
                    "first_byte_ms": part.first_byte_ms,
                }
                for part in state.hour.slices(self._clock.monotonic_ns())
            ],
        }

    def _state(self, provider: ProviderClient, keys: list[Json]) -> str:
        if not provider.config.active:
            return "inactive"
        if self._fleet.provider(provider.name).disabled:
            return Condition.DISABLED.value
        ready = any(key["state"] == Condition.READY for key in keys)
        return Condition.READY.value if ready else Condition.RESTING.value

    def _key(self, provider: ProviderClient, key: UpstreamKey) -> Json:
        health: KeyHealth = self._fleet.key(provider, key)
        limits = key.config
        paces = [
            {"model": model, **self._rest(pace, Condition.RESTING)}
            for model, pace in health.paces.items()
            if pace.strikes
        ]
        return {
            "key": key.masked,
            **self._rest(health.rest, Condition.RESTING),
            "cause": self._cause(health.cause),
            "running": health.running,
            "rpm": limits and limits.rpm,
            "concurrency": limits and limits.concurrency,
            "rate_limited": paces,
        }

    def _deployment(self, model: str, health: DeploymentHealth | None) -> Json:
        rest = self._rest(health.breaker if health else Rest(), Condition.OPEN)
        return {"model": model, **rest, "cause": self._cause(health.cause if health else None)}

    def _cause(self, cause: Cause | None) -> Json | None:
        return cause and {**_failure(cause.failure), "at": rfc3339(self._clock.unix_ms(cause.at_ns))}

    def _rest(self, rest: Rest, closed: Condition) -> Json:
        now_ns = self._clock.monotonic_ns()
        if rest.rests(now_ns):
            return {"state": closed.value, "until": rfc3339(self._clock.unix_ms(rest.until_ns))}
        return {"state": (Condition.TRYING if rest.trying else Condition.READY).value, "until": None}


def _failure(failure: UpstreamFailure) -> Json:
    """Return what went wrong; the provider's own words are masked already."""
    return {"class": failure.error_class.value, "code": failure.code, "message": failure.message}
