"""In which dialect a request goes up, and how its answer comes back in the client's.

Natively wherever the provider speaks the client's dialect, else by way of chat completions:
docs/adr/0004-chat-as-the-hub.md, docs/dialects.md
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from proxy.core.entities import Usage
from proxy.core.errors import UpstreamError, UpstreamRefused, UpstreamTruncated
from proxy.core.estimation import OutputCounter
from proxy.core.metering import UsageMeter
from proxy.core.received import ReceivedOutput
from proxy.core.tokenizers import family_of
from proxy.dialects.chat_assembly import ChatAssembly
from proxy.dialects.messages_chat_answer import chat_from_message
from proxy.dialects.messages_chunks import ChunksFromMessages
from proxy.dialects.messages_from_chat import messages_request
from proxy.dialects.messages_models import messages_traits
from proxy.dialects.watch import MessagesWatch, ResponsesWatch
from proxy.gateway.admission import Admitted, Candidate
from proxy.gateway.bodies import MAX_TOKENS_WHERE_REQUIRED, native_body, translated_body
from proxy.gateway.client_dialects import HUB_TRAITS, ClientDialect, client_dialect
from proxy.gateway.dialect_relays import NativeRelay, TranslatingRelay
from proxy.gateway.quirks import Quirks
from proxy.gateway.reasoning import ReasoningMemory, RememberingRelay, Thoughts
from proxy.gateway.relay import ChatRelay, RawRelay, Relay
from proxy.gateway.repair import Repair
from proxy.gateway.sources import ChatSource, ChunkSource, MessagesSource
from proxy.gateway.traits import chat_traits
from proxy.upstream.client import BodyFile
from proxy.upstream.failures import failure_in_stream
from proxy.upstream.providers import ProviderClient

# Names of unknown members are the clients' own: their number is bounded.
MAX_COUNTED = 200

Fields = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.encode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Passing:
    """What passages remember from one request to the next, and where they count."""

    memory: ReasoningMemory
    quirks: Quirks
    #: How often something was left out in translation, or mended, by name.
    counts: Counter[str]

    @classmethod
    def new(cls) -> "Passing":
        return cls(ReasoningMemory(), Quirks(), Counter())

    def count(self, found: Mapping[str, int]) -> None:
        """Count what was left out or mended; names that clients make up are counted as one."""
        for name, number in found.items():
            known = name if name in self.counts or len(self.counts) < MAX_COUNTED else "other"
            self.counts[known] += number


@dataclass(frozen=True, slots=True)
class Crossing:
    """One request and the deployment that it goes through."""

    admitted: Admitted
    candidate: Candidate
    provider: ProviderClient
    passing: Passing

    @property
    def streams_up(self) -> bool:
        """Whether the provider is asked for a stream: for the client, or because it knows nothing else."""
        return self.admitted.request.stream or self.passing.quirks.only_streams(self.candidate.deployment)

    @property
    def assembles(self) -> bool:
        """Whether the provider streams what the client wants whole."""
        return self.streams_up and not self.admitted.request.stream

    @property
    def asks_usage(self) -> bool:
        config = self.provider.config
        return (
            self.streams_up
            and config.stream_usage == "auto"
            and not self.passing.quirks.refuses_stream_options(config.name)
        )

    def counter(self) -> OutputCounter:
        return OutputCounter(family_of(self.candidate.deployment.model))

    def repair(self) -> Repair | None:
        names = self.provider.config.repair
        return Repair(names, self.passing.count) if names else None


class Passage(Protocol):
    """How one request crosses, and its answer crosses back."""

    #: Where it goes at the provider, such as "chat/completions".
    endpoint: str
    #: The answer passes as the provider sent it.
    native: bool

    @property
    def assembles(self) -> bool:
        """Whether a whole answer is put together from a stream."""

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
    provider = admitted.snapshot.providers[candidate.deployment.provider]
    crossing = Crossing(admitted, candidate, provider, passing)
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
    assembles = False

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
            _remember(self._crossing, answer)
        return NativeAnswer(answer, self._crossing)


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


class UpstreamHalf(Protocol):
    """The half of a translation that knows what the provider speaks."""

    endpoint: str

    def body(self, client: ClientDialect) -> Fields: ...

    def source(self, meter: UsageMeter) -> ChunkSource: ...

    def chat_answer(self, answer: bytes) -> Fields:
        """Return a whole answer as chat completions have it."""


class ChatUpstream:
    """The provider speaks chat completions."""

    endpoint = "chat/completions"

    def __init__(self, crossing: Crossing) -> None:
        self._crossing = crossing
        self._traits = chat_traits(crossing.provider.config)

    def body(self, client: ClientDialect) -> Fields:
        fields = client.chat_request(self._traits)
        if self._traits.replays_reasoning:
            crossing = self._crossing
            crossing.passing.memory.give_back(crossing.admitted.key.key.id, fields.get("messages"))
        return fields

    def source(self, meter: UsageMeter) -> ChunkSource:
        return ChatSource(meter, self._crossing.counter(), self._crossing.repair())

    def chat_answer(self, answer: bytes) -> Fields:
        if self._crossing.assembles:
            return self._assembled(answer)
        if self._traits.replays_reasoning and b'"tool_calls"' in answer:
            _remember(self._crossing, answer)
        fields = _decode_object(answer)
        repair = self._crossing.repair()
        return fields if repair is None else repair.whole(fields)

    def _assembled(self, stream: bytes) -> Fields:
        source, assembly = self.source(UsageMeter()), ChatAssembly()
        for chunk in (*source.feed(stream), *source.close()):
            assembly.take(chunk)
        config = self._crossing.provider.config
        if source.failure is not None:
            raise failure_in_stream(config, source.failure)
        if not source.complete:
            message = f"{config.name} closed the stream before the answer was complete."
            raise UpstreamTruncated("upstream_stream_truncated", message)
        return assembly.answer()


class MessagesUpstream:
    """The provider speaks Messages alone."""

    endpoint = "messages"

    def __init__(self, crossing: Crossing) -> None:
        admitted = crossing.admitted
        self._crossing = crossing
        self._id = "chatcmpl-" + admitted.id.removeprefix("req_")
        self._created_s = admitted.created_ms // 1000
        self._model = admitted.request.model
        model = admitted.resolution.model
        self._max_tokens = (model.max_output if model else None) or MAX_TOKENS_WHERE_REQUIRED

    def body(self, client: ClientDialect) -> Fields:
        traits = messages_traits(self._crossing.candidate.deployment.model)
        chat = client.chat_request(HUB_TRAITS)
        translated = messages_request(chat, max_tokens_default=self._max_tokens, traits=traits)
        self._crossing.passing.count(translated.dropped)
        return translated.body

    def source(self, meter: UsageMeter) -> ChunkSource:
        chunks = ChunksFromMessages(id=self._id, model=self._model, created=self._created_s)
        return MessagesSource(meter, self._crossing.counter(), chunks)

    def chat_answer(self, answer: bytes) -> Fields:
        fields = _decode_object(answer)
        return chat_from_message(fields, id=self._id, model=self._model, created=self._created_s)


class TranslatedPassage:
    """Client and provider speak different dialects, or the answer must be mended: chat lies between."""

    native = False

    def __init__(self, crossing: Crossing, upstream: UpstreamHalf) -> None:
        self.endpoint = upstream.endpoint
        self._crossing = crossing
        self._upstream = upstream
        self._client = client_dialect(crossing.admitted, crossing.passing.count)

    @property
    def assembles(self) -> bool:
        return self._crossing.assembles

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
        relay: Relay = TranslatingRelay(self._upstream.source(meter), self._client.target())
        crossing = self._crossing
        if (
            isinstance(self._upstream, ChatUpstream)
            and chat_traits(crossing.provider.config).replays_reasoning
        ):
            return RememberingRelay(relay, crossing.passing.memory, crossing.admitted.key.key.id)
        return relay

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
    messages = msgspec.json.decode(crossing.admitted.request.members["messages"])
    if not crossing.passing.memory.give_back(crossing.admitted.key.key.id, messages):
        return {}
    return {"messages": msgspec.Raw(_encode(messages))}


def _remember(crossing: Crossing, answer: bytes) -> None:
    """Take down the thoughts of a whole chat answer that calls tools."""
    try:
        fields = _decode_object(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return  # what it is, is judged elsewhere
    thoughts = Thoughts()
    thoughts.take(fields)
    if thoughts.call_ids:
        crossing.passing.memory.remember(crossing.admitted.key.key.id, thoughts.call_ids, thoughts.text)
