"""Asking a provider whether it works, by the cheapest call that it has."""

from collections.abc import Sequence

import msgspec

from proxy.core.errors import UpstreamError
from proxy.upstream.client import UpstreamClient
from proxy.upstream.failures import failure_from, failure_in_answer
from proxy.upstream.modellist import list_models
from proxy.upstream.providers import ProviderClient, UpstreamKey

MAX_BYTES = 1024 * 1024
_HELLO = [{"role": "user", "content": "hi"}]


async def probe(
    provider: ProviderClient, key: UpstreamKey, models: Sequence[str], client: UpstreamClient
) -> None:
    """Ask for the list of models, which costs nothing; where there is none, for one token of `models[0]`.

    Raises UpstreamFailure.
    """
    if provider.config.protocol == "echo":
        return
    if provider.config.lists_models:
        await list_models(provider, client, key)
        return
    if not models:
        raise UpstreamError(
            "upstream_error", f"{provider.name} has no list of models, and no route names one to ask."
        )
    endpoint = "chat/completions" if provider.supports("chat/completions") else "messages"
    body = msgspec.json.encode({"model": models[0], "messages": _HELLO, "max_tokens": 1})
    response = await provider.send(client, endpoint, key, [], body, stream=False)
    try:
        answer = await response.read_all(MAX_BYTES)
    finally:
        response.close()
    if response.status != 200:
        raise failure_from(provider.config, response.status, response.headers, answer)
    failure = failure_in_answer(provider.config, answer)
    if failure is not None:
        raise failure
