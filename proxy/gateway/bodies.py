"""The request body as a provider gets it. docs/api.md, "What is changed on the way up" """

import msgspec

from proxy.config.schema import Provider
from proxy.core import jsonbody, rewrite
from proxy.gateway.admission import Admitted, Candidate
from proxy.upstream.client import BodyFile

# These refuse the old name of the length field, or prefer the new one.
_NEW_LENGTH_FIELD = frozenset({"openai", "azure", "mimo"})


def upstream_body(admitted: Admitted, candidate: Candidate, provider: Provider) -> bytes | BodyFile:
    """Return the client's body with the few members changed that must be; all others byte for byte."""
    request = admitted.request
    if request.form is not None:
        return request.form.with_model(candidate.deployment.model)
    members = dict(request.members)
    members["model"] = msgspec.Raw(msgspec.json.encode(candidate.deployment.model))
    if request.endpoint.generates:
        if request.stream and provider.stream_usage == "auto" and not request.usage_wanted:
            rewrite.ask_for_usage(members)
        _clamp(members, admitted, provider)
    overrides = provider.overrides
    if overrides.set or overrides.default or overrides.remove:
        rewrite.apply_overrides(
            members, set=overrides.set, default=overrides.default, remove=overrides.remove
        )
    return jsonbody.encode(members)


def _clamp(members: dict[str, msgspec.Raw], admitted: Admitted, provider: Provider) -> None:
    model = admitted.resolution.model
    of_model = model.max_output if model is not None else None
    of_key = admitted.key.limits.max_output
    bounds = [bound for bound in (of_model, of_key) if bound is not None]
    if not bounds:
        return
    rewrite.clamp_length(
        members,
        admitted.request.lengths,
        ceiling=min(bounds),
        fill=min(bounds) if of_key is not None else None,
        field="max_completion_tokens" if provider.preset in _NEW_LENGTH_FIELD else "max_tokens",
    )
