"""In which dialect a request goes up, and how its answer comes back in the client's.

Natively wherever the provider speaks the client's dialect, else by way of chat completions:
docs/adr/0004-chat-as-the-hub.md, docs/dialects.md
"""

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from proxy.core import jsonbody
from proxy.core.entities import Usage
from proxy.core.errors import UpstreamError, UpstreamRefused
from proxy.core.metering import UsageMeter
from proxy.core.received import ReceivedOutput
from proxy.dialects import own_marks
from proxy.dialects.watch import MessagesWatch, ResponsesWatch
from proxy.gateway.admission import Admitted
from proxy.gateway.bodies import native_body, translated_body
from proxy.gateway.client_dialects import ClientDialect, client_dialect
from proxy.gateway.costing import Candidate
from proxy.gateway.crossing import Crossing, Passing
from proxy.gateway.dialect_relays import NativeRelay, TranslatingRelay
from proxy.gateway.provider_dialects import ChatUpstream, MessagesUpstream, UpstreamHalf
from proxy.gateway.reasoning import RememberingClient, RememberingRelay, Thoughts
from proxy.gateway.relay import ChatRelay, RawRelay, Relay
from proxy.gateway.traits import chat_traits
from proxy.upstream.client import BodyFile

Fields = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.encode


class Passage(Protocol):
    """How one request crosses, and its answer crosses back."""

    #: Where it goes at the provider, such as "chat/completions".
    endpoint: str
    #: The answer passes as the provider sent it.
    native: bool

    def body(self) -> bytes | BodyFile:
        """Return what is sent up; raises BadRequest for what cannot be said in the other dialect."""

    def relay(self, headers: Headers, meter: UsageMeter) -> Relay:
        """Return what passes a streamed answer on."""

    def whole(self, answer: bytes, meter: UsageMeter) -> "WholeAnswer":
        """Read a whole answer; raises UpstreamError for one that cannot be read."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request ready to be sent to one deployment."""

    crossing: Crossing
    passage: Passage
    body: bytes | BodyFile


def prepare(admitted: Admitted, candidate: Candidate, passing: Passing) -> Prepared:
    """Return what a deployment is sent.

    Raises UpstreamRefused when the provider has no endpoint for it, BadRequest when the request
    cannot be said in the provider's dialect.
    """
    crossing = Crossing.at(admitted, candidate, passing)
    passage = passage_for(crossing)
    return Prepared(crossing, passage, passage.body())


class WholeAnswer(Protocol):
    """An answer that is not streamed: what it says is known before its usage is settled."""

    @property
    def tokens(self) -> int:
        """The estimate of its output, in LLM tokens."""

    def as_sent(self, usage: Usage) -> bytes:
        """Return it as the client gets it."""


def passage_for(crossing: Crossing) -> Passage:
    """Return how a request crosses.

    Raises UpstreamRefused when the provider has no endpoint for it at all; another may have.
    """
    endpoint, provider = crossing.admitted.request.endpoint, crossing.provider
    if provider.supports(endpoint.path):
        mends = endpoint.path == ChatUpstream.endpoint and (provider.config.repair or crossing.assembles)
        return TranslatedPassage(crossing, ChatUpstream(crossing)) if mends else NativePassage(crossing)
    if endpoint.converses:
        if provider.supports(ChatUpstream.endpoint):
            return TranslatedPassage(crossing, ChatUpstream(crossing))
        if provider.supports(MessagesUpstream.endpoint):
            return TranslatedPassage(crossing, MessagesUpstream(crossing))
    refusal = UpstreamRefused(
        "not_found", f"The provider {provider.name} has no endpoint {endpoint.path}.", status=404
    )
    refusal.retryable = True
    raise refusal


class NativePassage:
    """The provider speaks the client's dialect: bytes pass."""

    native = True

    def __init__(self, crossing: Crossing) -> None:
        self.endpoint = crossing.admitted.request.endpoint.path
        self._crossing = crossing
        self._replays = (
            self.endpoint == ChatUpstream.endpoint and chat_traits(crossing.provider.config).replays_reasoning
        )

    def body(self) -> bytes | BodyFile:
        crossing = self._crossing
        request = crossing.admitted.request
        members = request.members
        if self._replays and b'"tool_calls"' in bytes(members.get("messages", b"")):
            members = members | _with_reasoning(crossing)
        members = members | own_marks.without(members, self.endpoint, crossing.candidate.deployment.model)
        ask_usage = crossing.asks_usage and not request.usage_wanted
        return native_body(
            members, crossing.admitted, crossing.candidate, crossing.provider.config, ask_usage=ask_usage
        )

    def relay(self, headers: Headers, meter: UsageMeter) -> Relay:
        crossing = self._crossing
        request = crossing.admitted.request
        match request.endpoint.dialect:
            case "messages":
                return NativeRelay(meter, MessagesWatch(crossing.counter()), responses=False)
            case "responses":
                return NativeRelay(meter, ResponsesWatch(crossing.counter()), responses=True)
        if not request.endpoint.generates:
            return RawRelay(meter, next((value for name, value in headers if name == b"content-type"), b""))
        relay = ChatRelay(meter, ReceivedOutput(crossing.counter()), usage_wanted=request.usage_wanted)
        if self._replays and "tools" in request.members:
            return RememberingRelay(relay, crossing.passing.memory, crossing.admitted.key.key.id)
        return relay

    def whole(self, answer: bytes, meter: UsageMeter) -> WholeAnswer:
        meter.feed(answer)
        if self._replays and b'"tool_calls"' in answer:
            self._remember(answer)
        return NativeAnswer(answer, self._crossing)

    def _remember(self, answer: bytes) -> None:
        crossing, thoughts = self._crossing, Thoughts()
        thoughts.read(answer)
        if thoughts.call_ids:
            crossing.passing.memory.remember(crossing.admitted.key.key.id, thoughts.call_ids, thoughts.text)


class NativeAnswer:
    """A whole answer in the client's own dialect."""

    __slots__ = ("_answer", "_crossing")

    def __init__(self, answer: bytes, crossing: Crossing) -> None:
        self._answer = answer
        self._crossing = crossing

    @property
    def tokens(self) -> int:
        output = ReceivedOutput(self._crossing.counter())
        output.add_data(self._answer)
        return output.tokens

    def as_sent(self, usage: Usage) -> bytes:
        return self._answer


class TranslatedPassage:
    """Client and provider speak different dialects, or the answer must be mended: chat lies between."""

    native = False

    def __init__(self, crossing: Crossing, upstream: UpstreamHalf) -> None:
        self.endpoint = upstream.endpoint
        self._crossing = crossing
        self._upstream = upstream
        self._client = client_dialect(crossing.admitted, crossing.passing.count)
        if isinstance(upstream, ChatUpstream) and upstream.replays_reasoning:
            self._client = RememberingClient(
                self._client, crossing.passing.memory, crossing.admitted.key.key.id
            )

    def body(self) -> bytes:
        crossing = self._crossing
        return translated_body(
            self._upstream.body(self._client),
            crossing.admitted,
            crossing.candidate,
            crossing.provider.config,
            self.endpoint,
            ask_usage=crossing.asks_usage,
            stream=crossing.streams_up,
        )

    def relay(self, headers: Headers, meter: UsageMeter) -> Relay:
        return TranslatingRelay(self._upstream.source(meter), self._client.target())

    def whole(self, answer: bytes, meter: UsageMeter) -> WholeAnswer:
        try:
            chat = self._upstream.chat_answer(answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            provider = self._crossing.provider.name
            raise UpstreamError(
                "upstream_invalid_response", f"{provider} sent an answer that cannot be read: {error}."
            ) from None
        meter.feed(_encode(chat))
        return TranslatedAnswer(chat, self._client, self._crossing)


class TranslatedAnswer:
    """A whole answer on its way to another dialect."""

    __slots__ = ("_chat", "_client", "_crossing")

    def __init__(self, chat: Fields, client: ClientDialect, crossing: Crossing) -> None:
        self._chat = chat
        self._client = client
        self._crossing = crossing

    @property
    def tokens(self) -> int:
        output = ReceivedOutput(self._crossing.counter())
        output.add_data(_encode(self._chat))
        return output.tokens

    def as_sent(self, usage: Usage) -> bytes:
        return _encode(self._client.whole(self._chat, usage))


def _with_reasoning(crossing: Crossing) -> dict[str, msgspec.Raw]:
    """Return the messages of a chat request with the thoughts that its client dropped."""
    messages = jsonbody.value_member(crossing.admitted.request.members, "messages")
    if not crossing.passing.memory.give_back(crossing.admitted.key.key.id, messages):
        return {}
    return {"messages": msgspec.Raw(_encode(messages))}
