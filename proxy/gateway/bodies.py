"""The request body as a provider gets it. docs/api.md, "What is changed on the way up" """

from collections.abc import Mapping

import msgspec

from proxy.config.schema import Provider
from proxy.core import jsonbody, rewrite
from proxy.gateway.admission import Admitted
from proxy.gateway.costing import Candidate
from proxy.upstream.client import BodyFile

# What Messages demands where neither the client nor the model's `max_output` says a length.
MAX_TOKENS_WHERE_REQUIRED = 4096

# These refuse the old name of the length field, or prefer the new one.
_NEW_LENGTH_FIELD = frozenset({"openai", "azure", "mimo"})
_CHAT_STREAMS = frozenset({"chat/completions", "completions"})

_encode = msgspec.json.encode


def native_body(
    members: Mapping[str, msgspec.Raw],
    admitted: Admitted,
    candidate: Candidate,
    provider: Provider,
    *,
    ask_usage: bool,
) -> bytes | BodyFile:
    """Return the client's body with the few members changed that must be; all others byte for byte."""
    request = admitted.request
    if request.form is not None:
        return request.form.with_model(candidate.deployment.model)
    return _finished(dict(members), admitted, candidate, provider, request.endpoint.path, ask_usage=ask_usage)


def translated_body(
    fields: Mapping[str, object],
    admitted: Admitted,
    candidate: Candidate,
    provider: Provider,
    endpoint: str,
    *,
    ask_usage: bool,
    stream: bool,
) -> bytes:
    """Return a body that was translated for `endpoint`, with the same members set in it."""
    members = {name: msgspec.Raw(_encode(value)) for name, value in fields.items()}
    members.pop("stream_options", None)
    members["stream"] = msgspec.Raw(b"true" if stream else b"false")
    return _finished(members, admitted, candidate, provider, endpoint, ask_usage=ask_usage and stream)


def _finished(
    members: dict[str, msgspec.Raw],
    admitted: Admitted,
    candidate: Candidate,
    provider: Provider,
    endpoint: str,
    *,
    ask_usage: bool,
) -> bytes:
    members["model"] = msgspec.Raw(_encode(candidate.deployment.model))
    if ask_usage and endpoint in _CHAT_STREAMS:
        rewrite.ask_for_usage(members)
    if admitted.request.endpoint.generates:
        _clamp(members, admitted, candidate, provider, endpoint)
    rewrite.apply_overrides(members, provider.overrides)
    if candidate.deployment.overrides is not None:
        rewrite.apply_overrides(members, candidate.deployment.overrides)
    return jsonbody.encode(members)


def _clamp(
    members: dict[str, msgspec.Raw],
    admitted: Admitted,
    candidate: Candidate,
    provider: Provider,
    endpoint: str,
) -> None:
    """Hold the length to the bounds of the model and of the key, and say one where there must be one."""
    of_model = admitted.snapshot.max_output_of(candidate.model, candidate.deployment)
    of_key = admitted.key.limits.max_output
    ceiling = min((bound for bound in (of_model, of_key) if bound is not None), default=None)
    fill = ceiling if of_key is not None else None
    if endpoint == "messages":
        fill = ceiling or MAX_TOKENS_WHERE_REQUIRED
    if ceiling is None and fill is None:
        return
    asked = {
        name: value
        for name in rewrite.LENGTH_FIELDS
        if name in members and (value := jsonbody.positive_int_member(members, name)) is not None
    }
    rewrite.clamp_length(members, asked, ceiling=ceiling, fill=fill, field=_length_field(provider, endpoint))
    if endpoint == "messages" and ceiling is not None and asked.get("max_tokens", 0) > ceiling:
        rewrite.fit_thinking(members, ceiling)


def _length_field(provider: Provider, endpoint: str) -> str:
    if endpoint == "responses":
        return "max_output_tokens"
    if endpoint != "messages" and provider.preset in _NEW_LENGTH_FIELD:
        return "max_completion_tokens"
    return "max_tokens"
