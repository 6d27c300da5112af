"""From the name that a client wrote to the deployments that can answer it.

A name is looked up as it stands, then as `provider/model`, then under the longest wildcard.
docs/configuration.md, "Models and names"
"""

import difflib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from proxy.core.errors import BadRequest, RequestRefused, SluiceError
from proxy.core.globs import Globs, star_part
from proxy.core.pricing import Price
from proxy.core.quoting import quoted
from proxy.core.rewrite import Overrides


@dataclass(frozen=True, slots=True)
class Deployment:
    """One provider's one upstream model. `model` may still hold `*`, filled in by resolution.

    `price` takes the place of the model's for this route alone. `overrides` are applied to the body
    after the provider's own.
    """

    provider: str
    model: str
    priority: int = 1
    weight: int = 1
    price: Price | None = None
    overrides: Overrides | None = field(default=None, hash=False)  # it holds mappings


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of `models:`. `name` may hold one wildcard; an alias has a target and no routes."""

    name: str
    deployments: tuple[Deployment, ...] = ()
    alias: str | None = None
    category: str | None = None
    context_window: int | None = None
    max_output: int | None = None
    price: Price | None = None


_Deployments = tuple[Deployment, ...]


class RoutedProvider(Protocol):
    """What resolution knows of a provider; `config.schema.Provider` is one."""

    @property
    def models(self) -> tuple[str, ...] | None:
        """The globs of upstream models that it may be asked for; None allows all."""

    @property
    def missing_variables(self) -> tuple[str, ...]:
        """The environment variables whose emptiness keeps it inactive."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A deployment of the model that is not tried, and why."""

    deployment: Deployment
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """Who can answer a name.

    `names` is the name that the client wrote and then the target of each alias on the way;
    `model` is the entry of `models:` at their end, None for a `provider/model`. `deployments`
    stand by priority and are never empty.
    """

    names: tuple[str, ...]
    model: Model | None
    deployments: tuple[Deployment, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def name(self) -> str:
        """The name that the client wrote."""
        return self.names[0]

    @property
    def served_name(self) -> str | None:
        """The name under which `models:` has the model, aliases followed; None for `provider/model`."""
        return None if self.model is None else self.names[-1]


class Catalog:
    """All names that clients may write, with what they lead to. Never changed; a reload makes a new one."""

    def __init__(self, models: Mapping[str, Model], providers: Mapping[str, RoutedProvider]) -> None:
        self._models = {name: model for name, model in models.items() if "*" not in name}
        wildcards = [model for name, model in models.items() if "*" in name]
        self._wildcards = sorted(wildcards, key=lambda model: len(model.name), reverse=True)
        self._providers = providers
        self._allowed = {
            name: Globs(provider.models)
            for name, provider in providers.items()
            if provider.models is not None
        }
        self._ready: dict[str, Resolution] = {}
        for name in self._models:
            with suppress(SluiceError):  # who asks for an unusable one gets its error then
                self._ready[name] = self._resolve(name, None)

    def resolve(self, name: str, pinned_provider: str | None = None) -> Resolution:
        """Return who can answer `name`, only the pinned provider if there is one.

        Raises:
            BadRequest: `invalid_provider` or `provider_model_mismatch`, about the pinned provider.
            RequestRefused: 404 `model_not_found`, with near names, or with the empty variables
                that keep the model's providers inactive.
        """
        if pinned_provider is None and (ready := self._ready.get(name)) is not None:
            return ready
        return self._resolve(name, pinned_provider)

    def near(self, name: str) -> list[str]:
        """Return up to three known names that look like `name`."""
        known = [known for known in self._models if known != name]
        for provider, settings in self._providers.items():
            known += [f"{provider}/{model}" for model in settings.models or () if "*" not in model]
        return difflib.get_close_matches(name[:128], known)

    def _resolve(self, name: str, pinned: str | None) -> Resolution:
        if pinned is not None and pinned not in self._providers:
            message = f"There is no provider {quoted(pinned)}; there are: {', '.join(self._providers)}."
            raise BadRequest("invalid_provider", message, param="provider")
        names, model, deployments = self._follow(name, pinned)
        usable: list[Deployment] = []
        skipped: list[Skipped] = []
        for deployment in sorted(deployments, key=lambda deployment: deployment.priority):
            reason = self._reason_to_skip(deployment, pinned)
            if reason is None:
                usable.append(deployment)
            else:
                skipped.append(Skipped(deployment, reason))
        if not usable:
            raise self._unusable(name, deployments, pinned)
        return Resolution(names, model, tuple(usable), tuple(skipped))

    def _follow(self, name: str, pinned: str | None) -> tuple[tuple[str, ...], Model | None, _Deployments]:
        """Follow aliases: return the names met, the entry at their end, and its deployments."""
        names: tuple[str, ...] = (name,)
        while (found := self._look_up(names[-1])) is not None:
            model, deployments = found
            if model is None or model.alias is None:
                return names, model, deployments
            if model.alias in names:  # a wildcard of aliases that matches its own target
                break
            names += (model.alias,)
        if pinned is None:
            raise self._unknown(name)
        return names, None, (Deployment(pinned, names[-1]),)

    def _look_up(self, name: str) -> tuple[Model | None, _Deployments] | None:
        model = self._models.get(name)
        if model is not None:
            return model, model.deployments
        provider, _, upstream = name.partition("/")
        if upstream and provider in self._providers and self._serves(provider, upstream):
            return None, (Deployment(provider, upstream),)
        for model in self._wildcards:
            part = star_part(model.name, name)
            if part is not None:
                return model, tuple(
                    replace(deployment, model=deployment.model.replace("*", part))
                    for deployment in model.deployments
                )
        return None

    def _serves(self, provider: str, model: str) -> bool:
        globs = self._allowed.get(provider)
        return globs is None or globs.allows(model)

    def _reason_to_skip(self, deployment: Deployment, pinned: str | None) -> str | None:
        provider = deployment.provider
        if pinned is not None and provider != pinned:
            return f"the provider {pinned} is pinned"
        if not self._serves(provider, deployment.model):
            return f"the models of {provider} do not include it"
        if missing := self._providers[provider].missing_variables:
            return f"{provider} is inactive: {_are_empty(missing)}"
        return None

    def _unusable(self, name: str, deployments: _Deployments, pinned: str | None) -> SluiceError:
        """Return the error for a known name of which every deployment is skipped."""
        served = [item for item in deployments if self._serves(item.provider, item.model)]
        if pinned is not None:
            served = [item for item in served if item.provider == pinned]
            if not served:
                message = f"The provider {quoted(pinned)} does not serve the model {quoted(name)}."
                return BadRequest("provider_model_mismatch", message, param="provider")
        if not served:
            return self._unknown(name)
        reasons = {
            item.provider: f"{item.provider} is inactive, because {_are_empty(self._missing(item))}"
            for item in served
        }
        message = f"The model {quoted(name)} cannot be used: {'; '.join(reasons.values())}."
        return RequestRefused("model_not_found", message, param="model")

    def _missing(self, deployment: Deployment) -> tuple[str, ...]:
        return self._providers[deployment.provider].missing_variables

    def _unknown(self, name: str) -> RequestRefused:
        near = " or ".join(map(quoted, self.near(name)))
        advice = f"Did you mean {near}?" if near else "GET /v1/models lists those that exist."
        return RequestRefused("model_not_found", f"There is no model {quoted(name)}. {advice}", param="model")


def _are_empty(variables: tuple[str, ...]) -> str:
    return f"{' and '.join(variables)} {'is' if len(variables) == 1 else 'are'} empty"
