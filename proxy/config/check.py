"""What `check` tells about a valid configuration: who would answer what, and what looks wrong."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from proxy.config.catalogue import NOTHING_IMPORTED, Catalogue
from proxy.config.facts import Facts
from proxy.config.problems import dotted
from proxy.config.rules import resolve, serves, unknown
from proxy.config.schema import Config, Provider
from proxy.config.urls import host_of, is_private
from proxy.core.routing import Deployment, Model

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
    """`kind` is unpriced, free_output, key_in_clear, unreachable, plain_http or no_funds."""

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


def findings(
    config: Config, imported: Catalogue = NOTHING_IMPORTED, without_funds: Iterable[str] = ()
) -> Findings:
    """Return what there is to say about a configuration.

    Of the database come `imported`, the price lists that it holds, and `without_funds`, the accounts
    that have none.
    """
    facts = Facts(config, imported)
    routes = tuple(
        _route_state(model, deployment, config, facts)
        for model in config.models.values()
        for deployment in model.deployments
    )
    found = (
        *_unpriced(config, facts),
        *_without_rate(config, facts),
        *_free_output(config),
        *_in_clear(config),
        *_unreachable(config),
        *_plain_http(config),
        *_no_funds(config, without_funds),
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


def _route_state(model: Model, deployment: Deployment, config: Config, facts: Facts) -> RouteState:
    return RouteState(
        model.name,
        deployment.provider,
        deployment.model,
        deployment.priority,
        deployment.weight,
        _why_skipped(deployment, config) is None,
        _is_priced(model, deployment, config, facts),
    )


def _is_priced(model: Model, deployment: Deployment, config: Config, facts: Facts) -> bool | None:
    provider = config.providers[deployment.provider]
    if deployment.price or model.price or provider.free:
        return True
    if "*" in deployment.model:
        return None
    return facts.of(deployment.provider, deployment.model).offer is not None


def _unpriced(config: Config, facts: Facts) -> Iterator[Finding]:
    effect = "requests are refused" if config.billing.unpriced == "reject" else "it counts as free"
    for name, model in config.models.items():
        for index, route in enumerate(model.deployments):
            if _is_priced(model, route, config, facts) is False:
                currency = facts.of(route.provider, route.model).without_rate
                why = f"a price in {currency}, without a rate" if currency else "no price"
                message = f"{route.provider}/{route.model} has {why}: {effect}"
                yield _finding(config, "unpriced", message, "models", name, "routes", index)


def _without_rate(config: Config, facts: Facts) -> Iterator[Finding]:
    for name, provider in config.providers.items():
        for currency in sorted(facts.without_rate(name)) if provider.active else ():
            message = (
                f"its price list is in {currency}, and counts only with billing.exchange_rates: "
                f"{{{currency}: …}}, what 1 {currency} is worth in {config.billing.currency}"
            )
            yield _finding(config, "unpriced", message, "providers", name)


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


def _no_funds(config: Config, accounts: Iterable[str]) -> Iterator[Finding]:
    if config.billing.mode == "prepaid":
        for account in accounts:
            message = f"the account {account} has no funds: only what is free answers it"
            yield _finding(config, "no_funds", message, "billing", "mode")


def _finding(config: Config, kind: str, message: str, *path: str | int) -> Finding:
    return Finding(kind, config.line(*path), dotted(path), message)
