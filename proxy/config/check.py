"""What `check` tells about a valid configuration: who would answer what, and what looks wrong."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from proxy.config.problems import dotted
from proxy.config.rules import resolve, serves, unknown
from proxy.config.schema import Config, Provider
from proxy.config.urls import host_of, is_private
from proxy.core.pricing import Price
from proxy.core.routing import Deployment, Model

#: Returns the price of a preset's model by the built-in table, None where it holds none.
ListPrice = Callable[[str, str], Price | None]

# Other headers are secrets to us, but harmless in clear: HTTP-Referer, for example.
_TELLING = ("auth", "key", "token", "secret", "cookie")


@dataclass(frozen=True, slots=True)
class ProviderState:
    """`reason` says why an inactive provider is inactive."""

    name: str
    preset: str | None
    protocol: str
    base_url: str | None
    keys: int
    active: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class RouteState:
    """`priced` is None where the model is known only from a request: behind a wildcard."""

    model: str
    provider: str
    upstream_model: str
    priority: int
    weight: int
    active: bool
    priced: bool | None


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind` is unpriced, free_output, key_in_clear, unreachable or plain_http."""

    kind: str
    line: int | None
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Findings:
    providers: tuple[ProviderState, ...]
    routes: tuple[RouteState, ...]
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def findings(config: Config, list_price: ListPrice = lambda _preset, _model: None) -> Findings:
    """Return what there is to say about a configuration; accounts are not looked at."""
    routes = tuple(
        _route_state(model, deployment, config, list_price)
        for model in config.models.values()
        for deployment in model.deployments
    )
    found = (
        *_unpriced(config, list_price),
        *_free_output(config),
        *_in_clear(config),
        *_unreachable(config),
        *_plain_http(config),
    )
    return Findings(
        tuple(map(_provider_state, config.providers.values())),
        routes,
        tuple(sorted(found, key=lambda finding: finding.line or 0)),
    )


def _provider_state(provider: Provider) -> ProviderState:
    return ProviderState(
        provider.name,
        provider.preset,
        provider.protocol,
        provider.base_url,
        len(provider.keys),
        provider.active,
        None if provider.active else _why_inactive(provider),
    )


def _why_inactive(provider: Provider) -> str:
    names = provider.missing_variables
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} empty"


def _route_state(model: Model, deployment: Deployment, config: Config, list_price: ListPrice) -> RouteState:
    return RouteState(
        model.name,
        deployment.provider,
        deployment.model,
        deployment.priority,
        deployment.weight,
        _why_skipped(deployment, config) is None,
        _is_priced(model, deployment, config, list_price),
    )


def _is_priced(model: Model, deployment: Deployment, config: Config, list_price: ListPrice) -> bool | None:
    provider = config.providers[deployment.provider]
    if deployment.price or model.price or provider.free:
        return True
    if "*" in deployment.model:
        return None
    return list_price(provider.preset or "", deployment.model) is not None


def _unpriced(config: Config, list_price: ListPrice) -> Iterator[Finding]:
    effect = "requests are refused" if config.billing.unpriced == "reject" else "it counts as free"
    for name, model in config.models.items():
        for index, route in enumerate(model.deployments):
            if _is_priced(model, route, config, list_price) is False:
                message = f"{route.provider}/{route.model} has no price: {effect}"
                yield _finding(config, "unpriced", message, "models", name, "routes", index)


def _free_output(config: Config) -> Iterator[Finding]:
    for name, model in config.models.items():
        if model.price and model.price.input and not model.price.output and model.category != "embedding":
            message = "only input has a price: right for embeddings (then say category: embedding)"
            yield _finding(config, "free_output", message, "models", name, "price")


def _in_clear(config: Config) -> Iterator[Finding]:
    for path in config.source.secrets_in_clear:
        name = str(path[-1]).lower()
        if path[-2:-1] == ("headers",) and not any(word in name for word in _TELLING):
            continue
        yield _finding(config, "key_in_clear", "stands in the file in clear: use ${VAR} or file:PATH", *path)


def _unreachable(config: Config) -> Iterator[Finding]:
    for name, model in config.models.items():
        provider, slash, _ = name.partition("/")
        hidden = "*" in name and slash and provider in config.providers
        if hidden and config.providers[provider].models is None:
            message = f"never reached: {provider}/… is the provider itself, which comes before wildcards"
            yield _finding(config, "unreachable", message, "models", name)
        elif reasons := _why_unanswered(model, config):
            message = f"never answered: {', '.join(reasons)}"
            yield _finding(config, "unreachable", message, "models", name)
    for section in ("fallbacks", "context_fallbacks"):
        for name, targets in getattr(config, section).items():
            if resolve(name, config) is None:
                yield _finding(config, "unreachable", unknown("model", name, config.models), section, name)
            for index, target in enumerate(targets):
                if resolve(target, config) is None:
                    message = unknown("model", target, config.models)
                    yield _finding(config, "unreachable", message, section, name, index)


def _why_unanswered(model: Model, config: Config) -> list[str]:
    """Return why each of a model's routes is skipped; empty if one is not."""
    target: Model | Deployment | None = model
    while isinstance(target, Model) and target.alias is not None:
        target = resolve(target.alias, config)
    deployments = target.deployments if isinstance(target, Model) else (target,) if target else ()
    reasons = [_why_skipped(deployment, config) for deployment in deployments]
    return [] if None in reasons else list(dict.fromkeys(filter(None, reasons)))


def _why_skipped(deployment: Deployment, config: Config) -> str | None:
    provider = config.providers[deployment.provider]
    if not provider.active:
        return f"{provider.name} is inactive ({_why_inactive(provider)})"
    if "*" not in deployment.model and not serves(provider, deployment.model):
        return f"the models of {provider.name} do not include {deployment.model}"
    return None


def _plain_http(config: Config) -> Iterator[Finding]:
    for provider in config.providers.values():
        for key in ("base_url", "messages_base_url", "responses_base_url"):
            url = getattr(provider, key)
            if url and url.startswith("http://") and not is_private(host_of(url)):
                message = "keys and prompts travel unencrypted to a public host: use https://"
                yield _finding(config, "plain_http", message, "providers", provider.name, key)
                break


def _finding(config: Config, kind: str, message: str, *path: str | int) -> Finding:
    return Finding(kind, config.line(*path), dotted(path), message)
