"""A provider as the file gives it, completed with its preset and its keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.config.presets import PRESETS, Preset
from proxy.config.problems import Wrong, hint, named, quoted
from proxy.config.scalars import Unset
from proxy.config.schema import Provider, ProviderKey
from proxy.config.urls import root_of
from proxy.config.values import credential
from proxy.core.secret import Secret

Given = Mapping[str, Any]

# For any server that speaks a known protocol. It needs a key only if it is given one.
_NO_PRESET = Preset("", hosts={}, chat=None)

_ADDRESS_KEYS = ("base_url", "messages_base_url", "responses_base_url", "region", "resource")

# Keys whose values are taken over as they are.
_PLAIN = (
    "headers",
    "models",
    "http_proxy",
    "concurrency",
    "stream_usage",
    "on_disconnect",
    "retry_on_read_timeout",
    "timeouts",
    "repair",
    "overrides",
)


def complete_provider(name: str, given: Given, *, environ: Mapping[str, str], folder: Path) -> Provider:
    """Return a provider with everything filled in that the file leaves to its preset.

    Raises Wrong, its path relative to the provider.
    """
    preset = _preset(name, given)
    keys, missing = _keys(given, preset, environ)
    protocol = given.get("protocol", preset.protocol)
    filled = {
        "stream_usage": preset.stream_usage,
        "repair": preset.repair,
        **{key: given[key] for key in _PLAIN if key in given},
    }
    return Provider(
        name=name,
        preset=preset.name or None,
        protocol=protocol,
        auth=_auth(preset, protocol) if keys or missing else "none",
        keys=keys,
        missing_variables=missing,
        free=preset.local,
        lists_models=preset.lists_models,
        reasoning_apart=preset.reasoning_apart,
        ca_file=_ca_file(given, folder),
        **_addresses(given, preset, protocol),
        **filled,
    )


def _preset(name: str, given: Given) -> Preset:
    """Return the preset that is named, else the one that the provider's own name is."""
    if "preset" in given:
        return PRESETS[given["preset"]]
    if name in PRESETS:
        return PRESETS[name]
    if given.get("protocol") == "echo":
        return PRESETS["echo"]
    if "base_url" in given:
        return _NO_PRESET
    raise Wrong(f"{quoted(name)} is no preset, so preset or base_url is required{hint(name, PRESETS)}")


def _keys(
    given: Given, preset: Preset, environ: Mapping[str, str]
) -> tuple[tuple[ProviderKey, ...], tuple[str, ...]]:
    """Return the keys, or the variables that would have held them."""
    if "api_key" in given and "api_keys" in given:
        raise Wrong("api_key is there too: one of them holds all keys", "api_keys")
    if "api_key" in given:
        listed: list[Given] = [{"key": given["api_key"]}]
    elif "api_keys" in given:
        listed = [key if isinstance(key, Mapping) else {"key": key} for key in given["api_keys"]]
    else:
        return _usual_key(preset, environ)
    unset = {index: key["key"].variable for index, key in enumerate(listed) if isinstance(key["key"], Unset)}
    if len(unset) == len(listed):
        return (), tuple(unset.values())
    for index, variable in unset.items():
        raise Wrong(f"the secret is empty: set {variable}, or remove this key", "api_keys", index)
    return tuple(ProviderKey(**key) for key in listed), ()


def _usual_key(preset: Preset, environ: Mapping[str, str]) -> tuple[tuple[ProviderKey, ...], tuple[str, ...]]:
    """Return the key of the preset's own variables, where a provider is given none."""
    for variable in preset.variables:
        if value := environ.get(variable):
            try:
                return (ProviderKey(Secret(credential(value, f"the value of {variable}"))),), ()
            except ValueError as error:
                raise Wrong(str(error)) from None
    return (), () if preset.local else preset.variables[:1]


def _addresses(given: Given, preset: Preset, protocol: str) -> dict[str, Any]:
    """Return the base URLs of each protocol, the region, and the URLs of odd endpoints."""
    if protocol == "echo":
        for key in _ADDRESS_KEYS:
            if key in given:
                raise Wrong("the echo provider answers here, without any address", key)
        return {}
    host, region = _host(given, preset)
    chat, messages, responses = (
        None if host is None or path is None else host + path
        for path in (preset.chat, preset.messages, preset.responses)
    )
    messages = given.get("messages_base_url", messages)
    responses = given.get("responses_base_url", responses)
    if protocol == "anthropic":
        base = given.get("base_url", messages)
        messages = given.get("messages_base_url", base)
    else:
        # A local server's base may be written without its /v1.
        base = chat if preset.local and chat else given.get("base_url", chat)
    if base is None:
        raise Wrong(f"is required with protocol {protocol}", "base_url")
    return {
        "base_url": base,
        "messages_base_url": messages,
        "responses_base_url": responses,
        "region": region or None,
        "other_regions": tuple(other for other in preset.regions if region and other != region),
        "paths": {endpoint: host + path for endpoint, path in preset.endpoints.items() if host is not None},
    }


def _host(given: Given, preset: Preset) -> tuple[str | None, str]:
    """Return the scheme and host on which the preset's paths hold, None for a foreign one; and its region.

    A `base_url` of one's own says nothing about the other protocols' paths, unless it leads to the
    preset's own host, or to a local server of the kind.
    """
    if "base_url" not in given:
        region = _region(given, preset)
        return _with_resource(given, preset.hosts[region]), region
    for key in ("region", "resource"):
        if key in given:
            raise Wrong("base_url already says where the provider is", key)
    base: str = given["base_url"]
    host = root_of(base)
    usual = preset.messages if preset.chat is None else preset.chat
    if usual is None or base.removeprefix(host).removesuffix("/v1") != usual.removesuffix("/v1"):
        return None, ""
    regions = {host: region for region, host in preset.hosts.items()}
    return (host if preset.local or host in regions else None), regions.get(host, "")


def _region(given: Given, preset: Preset) -> str:
    default = next(iter(preset.hosts), "")
    region: str = given.get("region", default)
    if region not in preset.hosts:
        where = f"is in {', '.join(preset.regions)}" if preset.regions else "has no regions"
        raise Wrong(f"{preset.name} {where}", "region")
    return region


def _with_resource(given: Given, host: str) -> str:
    if "{resource}" not in host:
        if "resource" in given:
            raise Wrong("only azure has resources", "resource")
        return host
    if "resource" not in given:
        raise Wrong("is required: the name of the Azure resource", "resource")
    return host.replace("{resource}", given["resource"])


def _auth(preset: Preset, protocol: str) -> str:
    return "x-api-key" if protocol == "anthropic" and preset is _NO_PRESET else preset.auth


def _ca_file(given: Given, folder: Path) -> Path | None:
    if "ca_file" not in given:
        return None
    path = folder.joinpath(given["ca_file"])
    if not path.is_file():
        raise Wrong(f"{named(path)} does not exist", "ca_file")
    return path
