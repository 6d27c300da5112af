"""What must hold between the parts of a configuration."""

from collections.abc import Iterable, Iterator

from proxy.config.problems import Place, hint, quoted
from proxy.config.schema import Config, Provider
from proxy.config.urls import host_of, is_any, is_loopback, path_of, port_of
from proxy.core.globs import allows, star_part
from proxy.core.routing import Deployment, Model

# A server that others can reach is open to guessing without end; 32 characters cannot be guessed.
SHORTEST_ADMIN_KEY = 32

_OWN_PATHS = ("", "/v1", "/api/v1")

Contradiction = tuple[Place, str]


def contradictions(config: Config) -> Iterator[Contradiction]:
    """Yield where and why parts of a configuration do not go together."""
    yield from _secrets(config)
    yield from _plans(config)
    yield from _own_address(config)
    yield from _routes(config)
    yield from _aliases(config)
    yield from _fallbacks(config)


def resolve(name: str, config: Config) -> Model | Deployment | None:
    """Return what a name leads to: its entry, else `provider/model`, else the longest wildcard."""
    if name in config.models:
        return config.models[name]
    provider, _, upstream = name.partition("/")
    if upstream and provider in config.providers and serves(config.providers[provider], upstream):
        return Deployment(provider, upstream)
    matching = [
        pattern for pattern in config.models if "*" in pattern and star_part(pattern, name) is not None
    ]
    return config.models[max(matching, key=len)] if matching else None


def serves(provider: Provider, upstream_model: str) -> bool:
    """Return whether a provider's own allow list lets a model pass."""
    return allows(provider.models, upstream_model)


def _secrets(config: Config) -> Iterator[Contradiction]:
    admin_key = config.admin_key
    if admin_key is None:
        return
    host = config.server.host
    if not is_loopback(host) and len(admin_key.reveal()) < SHORTEST_ADMIN_KEY:
        yield (
            ("admin_key",),
            f"server.host {host} can be reached from elsewhere: use {SHORTEST_ADMIN_KEY} characters or more, "
            "or leave it empty for a generated key",
        )
    if admin_key == config.api_key:
        yield ("api_key",), "it is the same as admin_key"


def _plans(config: Config) -> Iterator[Contradiction]:
    default = config.limits.default_plan
    if default is not None and default not in config.plans:
        yield ("limits", "default_plan"), unknown("plan", default, config.plans)
    for name, plan in config.plans.items():
        for index, provider in enumerate(plan.providers or ()):
            if provider not in config.providers:
                path = ("plans", name, "providers", index)
                yield path, unknown("provider", provider, config.providers)


def _own_address(config: Config) -> Iterator[Contradiction]:
    for name, provider in config.providers.items():
        for key in ("base_url", "messages_base_url", "responses_base_url"):
            url = getattr(provider, key)
            if url is not None and _is_own(url, config):
                yield ("providers", name, key), "this is the address of this server itself"


def _is_own(url: str, config: Config) -> bool:
    """Return whether a request to `url` would come back here, directly or through a name of ours."""
    host, port, server = host_of(url), port_of(url), config.server
    here = host == server.host or (is_loopback(host) and (is_loopback(server.host) or is_any(server.host)))
    if host in server.allowed_hosts:
        # A reverse proxy before it listens on the usual ports; below other paths are other servers.
        return port == server.port or (port in (80, 443) and path_of(url) in _OWN_PATHS)
    return here and port == server.port


def _routes(config: Config) -> Iterator[Contradiction]:
    for name, model in config.models.items():
        for index, deployment in enumerate(model.deployments):
            if deployment.provider not in config.providers:
                path = ("models", name, "routes", index)
                yield path, unknown("provider", deployment.provider, config.providers)


def _aliases(config: Config) -> Iterator[Contradiction]:
    for name, model in config.models.items():
        chain = [name]
        while model.alias is not None:
            target = resolve(model.alias, config)
            if target is None and model.name == name:
                yield ("models", name, "alias"), unknown("model", model.alias, config.models)
            if not isinstance(target, Model):
                break
            chain.append(target.name)
            if target.name == name:
                yield ("models", name, "alias"), f"the alias leads back to itself: {' → '.join(chain)}"
            if target.name in chain[:-1]:
                break
            model = target


def _fallbacks(config: Config) -> Iterator[Contradiction]:
    for section in ("fallbacks", "context_fallbacks"):
        for name, targets in getattr(config, section).items():
            for index, target in enumerate(targets):
                if target == name:
                    yield (section, name, index), "a model cannot fall back to itself"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"there is no {what} {quoted(name)}{hint(name, known)}"
