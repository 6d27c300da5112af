"""`count_tokens` by a provider that has such a call; elsewhere the estimator answers."""

import msgspec

from proxy.core import jsonbody
from proxy.core.errors import UpstreamError
from proxy.dialects import own_marks
from proxy.gateway.request import ClientRequest
from proxy.upstream.client import UpstreamClient
from proxy.upstream.failures import failure_from
from proxy.upstream.providers import ProviderClient, UpstreamKey

MAX_BODY = 64 * 1024


class _Count(msgspec.Struct):
    input_tokens: int


async def count_upstream(
    request: ClientRequest, model: str, provider: ProviderClient, key: UpstreamKey, client: UpstreamClient
) -> int:
    """Return the provider's own count. Raises UpstreamFailure."""
    changed = own_marks.without(request.members, request.endpoint.path, model)
    body = jsonbody.encode(request.members | changed | {"model": msgspec.Raw(msgspec.json.encode(model))})
    response = await provider.send(
        client,
        request.endpoint.path,
        key,
        request.headers,
        body,
        stream=False,
        query=request.query,
    )
    try:
        answer = await response.read_all(MAX_BODY)
    finally:
        response.close()
    if response.status != 200:
        raise failure_from(provider.config, response.status, response.headers, answer)
    try:
        return msgspec.json.decode(answer, type=_Count).input_tokens
    except msgspec.MsgspecError as error:
        message = f"{provider.name} answered with no count of tokens: {error}."
        raise UpstreamError("upstream_invalid_response", message) from None
