"""A client's request, read as far as the gateway acts on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from proxy.core import jsonbody, rewrite
from proxy.core.errors import BadRequest
from proxy.core.estimation import estimate_chat_input, estimate_plain_input
from proxy.core.tokenizers import family_of
from proxy.dialects.responses_request import STATE, chat_request, refuse_state
from proxy.dialects.traits import ChatTraits
from proxy.upstream.client import BodyFile

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of the client API and how its exchanges are counted."""

    path: str
    dialect: str = "chat"
    #: Usage that nobody reports is estimated; otherwise only reported usage counts.
    estimated: bool = False
    #: Its output is LLM tokens, so that length limits apply and usage is asked for.
    generates: bool = False
    #: A conversation, which can be translated from and to other dialects.
    converses: bool = False
    #: Takes multipart forms, too.
    takes_forms: bool = False


CHAT = Endpoint("chat/completions", estimated=True, generates=True, converses=True)
MESSAGES = Endpoint("messages", "messages", estimated=True, generates=True, converses=True)
RESPONSES = Endpoint("responses", "responses", estimated=True, generates=True, converses=True)
COUNT_TOKENS = Endpoint("messages/count_tokens", "messages", estimated=True, converses=True)
COMPLETIONS = Endpoint("completions", estimated=True, generates=True)
EMBEDDINGS = Endpoint("embeddings", estimated=True)
PASSED_THROUGH = (
    Endpoint("images/generations"),
    Endpoint("audio/speech"),
    Endpoint("audio/transcriptions", takes_forms=True),
    Endpoint("audio/translations", takes_forms=True),
    Endpoint("moderations"),
    Endpoint("rerank"),
)


#: Where each kind of conversation has its messages, its tools, and its instructions.
_CONVERSATION = {
    CHAT: ("messages", "tools", None),
    MESSAGES: ("messages", "tools", "system"),
    COUNT_TOKENS: ("messages", "tools", "system"),
    RESPONSES: ("input", "tools", "instructions"),
}


def conversation_members(endpoint: Endpoint) -> tuple[str, str | None] | None:
    """Return where a conversation has its messages and its instructions; None for what is none."""
    named = _CONVERSATION.get(endpoint)
    return None if named is None else (named[0], named[2])


class Form(Protocol):
    """A multipart body on disk or in memory; `web/multipart.py` has the real one."""

    model: str
    stream: bool
    provider: str | None

    def with_model(self, model: str) -> BodyFile:
        """Return the body for a provider that knows the model by this name."""

    def close(self) -> None: ...


@dataclass(slots=True)
class ClientRequest:
    """`members` are the body's members, raw; a multipart request has a `form` instead."""

    endpoint: Endpoint
    headers: Headers
    model: str
    stream: bool
    pinned: str | None
    members: dict[str, msgspec.Raw] = field(default_factory=dict)
    form: Form | None = None
    #: The length fields sent, validated.
    lengths: Mapping[str, int] = field(default_factory=dict)
    usage_wanted: bool = False
    #: The query of the client's URL, which goes up where its dialect is spoken.
    query: bytes = b""

    @property
    def max_output(self) -> int | None:
        """The largest output that the client allows."""
        return max(self.lengths.values(), default=None)

    @property
    def client_request_id(self) -> str | None:
        """The id that the client gave its request; it is only logged."""
        for name, value in self.headers:
            if name == b"x-request-id":
                return value.decode("latin-1")
        return None

    def estimated_input(self, model: str) -> int:
        """Return the estimate of the input in LLM tokens, as `model` would count it.

        0 where nothing is estimated.
        """
        if not self.endpoint.estimated:
            return 0
        family = family_of(model)
        if self.endpoint in _CONVERSATION:
            messages, tools, system = (
                name and jsonbody.value_member(self.members, name) for name in _CONVERSATION[self.endpoint]
            )
            return estimate_chat_input(messages, tools, family, system=system)
        text = jsonbody.value_member(self.members, "prompt" if self.endpoint is COMPLETIONS else "input")
        return estimate_plain_input(text, family)


def read_json(endpoint: Endpoint, headers: Headers, body: bytes, query: bytes = b"") -> ClientRequest:
    """Read a JSON request; raises BadRequest with the member at fault in `param`."""
    members = jsonbody.parse_object(body)
    if endpoint is CHAT and "input" in members and "messages" not in members:
        members = _chat_members(members)  # as Cursor sends them
    model = jsonbody.text_member(members, "model")
    if not model:
        raise BadRequest("missing_model", 'The request has no "model".', param="model")
    stream = jsonbody.bool_member(members, "stream") or False
    lengths = {}
    if endpoint.generates:
        for name in rewrite.LENGTH_FIELDS:
            if name in members and (value := jsonbody.positive_int_member(members, name)) is not None:
                lengths[name] = value
        jsonbody.object_member(members, "stream_options")
    if endpoint is RESPONSES:
        refuse_state({name: jsonbody.value_member(members, name) for name in STATE})
    return ClientRequest(
        endpoint,
        headers,
        model,
        stream,
        _pin(headers, members),
        members,
        lengths=lengths,
        usage_wanted=stream and rewrite.wants_usage(members),
        query=query,
    )


def read_form(endpoint: Endpoint, headers: Headers, form: Form) -> ClientRequest:
    """Read a multipart request, whose parts were found already."""
    return ClientRequest(
        endpoint, headers, form.model, form.stream, _pinned_by_header(headers) or form.provider, form=form
    )


def _chat_members(members: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return the members of a Responses request as those of the chat request that says the same."""
    fields = {name: jsonbody.value_member(members, name) for name in members}
    chat = chat_request(fields, ChatTraits()).chat
    kept = {
        name: members[name] for name in ("model", "stream", "stream_options", "provider") if name in members
    }
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in chat.items()} | kept


def _pin(headers: Headers, members: dict[str, msgspec.Raw]) -> str | None:
    """Return the provider that the client pins; `provider` is removed from the body when it is text."""
    raw = members.get("provider")
    pinned = None
    if raw is not None and bytes(raw)[:1] == b'"':
        pinned = msgspec.json.decode(raw, type=str)
        del members["provider"]
    return _pinned_by_header(headers) or pinned


def _pinned_by_header(headers: Headers) -> str | None:
    for name, value in headers:
        if name == b"x-sluice-provider":
            return value.decode("latin-1").strip() or None
    return None
