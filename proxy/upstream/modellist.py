"""Asking a provider which models it has."""

from typing import Any

import msgspec

from proxy.core.errors import UpstreamError
from proxy.upstream.client import UpstreamClient
from proxy.upstream.failures import failure_from
from proxy.upstream.providers import ProviderClient, UpstreamKey

# OpenRouter's list, with its prices and descriptions, has about one.
MAX_BYTES = 16 * 1024 * 1024
MAX_ERROR_BODY = 64 * 1024


async def list_models(
    provider: ProviderClient, client: UpstreamClient, key: UpstreamKey | None = None
) -> list[str]:
    """Return the names of a provider's models, in its order; by the key in turn unless one is given.

    Raises UpstreamFailure.
    """
    response = await provider.send(client, "models", key or provider.next_key(), [], b"", stream=False)
    try:
        if response.status != 200:
            body = await response.read_all(MAX_ERROR_BODY)
            raise failure_from(provider.config, response.status, response.headers, body)
        return _names(provider, await response.read_all(MAX_BYTES))
    finally:
        response.close()


def _names(provider: ProviderClient, body: bytes) -> list[str]:
    """Read OpenAI's and Anthropic's list, and the bare array that some send instead."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UpstreamError(
            "upstream_invalid_response", f"{provider.name} answered with no list of models: {error}."
        ) from None
    if isinstance(found, dict):
        found = found.get("data")
    items = found if isinstance(found, list) else []
    names = [item.get("id") for item in items if isinstance(item, dict)]
    # Google's ids begin with the name of the collection, and are called without it.
    return [name.removeprefix("models/") for name in names if isinstance(name, str)]
