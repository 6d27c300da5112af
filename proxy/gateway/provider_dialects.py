"""The provider's half of a translation: what it is sent, and how its answer is read as chat completions."""

from typing import Any, Protocol

import msgspec

from proxy.core.answerjson import decoded
from proxy.core.errors import UpstreamTruncated
from proxy.core.metering import UsageMeter
from proxy.dialects.chat_assembly import ChatAssembly
from proxy.dialects.messages_chat_answer import chat_from_message
from proxy.dialects.messages_chunks import ChunksFromMessages
from proxy.dialects.messages_from_chat import messages_request
from proxy.dialects.messages_models import messages_traits
from proxy.gateway.bodies import MAX_TOKENS_WHERE_REQUIRED
from proxy.gateway.client_dialects import HUB_TRAITS, ClientDialect
from proxy.gateway.crossing import Crossing
from proxy.gateway.sources import ChatSource, ChunkSource, MessagesSource
from proxy.gateway.traits import chat_traits
from proxy.upstream.failures import failure_in_answer, failure_in_stream

Fields = dict[str, Any]

_OBJECT = msgspec.json.Decoder(dict[str, Any])


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
        self.replays_reasoning = self._traits.replays_reasoning

    def body(self, client: ClientDialect) -> Fields:
        fields = client.chat_request(self._traits)
        if self.replays_reasoning:
            crossing = self._crossing
            crossing.passing.memory.give_back(crossing.admitted.key.key.id, fields.get("messages"))
        return fields

    def source(self, meter: UsageMeter) -> ChunkSource:
        return ChatSource(meter, self._crossing.counter(), self._crossing.repair())

    def chat_answer(self, answer: bytes) -> Fields:
        if (fields := assembled(self._crossing, self, answer)) is not None:
            return fields
        fields = decoded(_OBJECT, answer)
        repair = self._crossing.repair()
        return fields if repair is None else repair.whole(fields)


class MessagesUpstream:
    """The provider speaks Messages alone."""

    endpoint = "messages"

    def __init__(self, crossing: Crossing) -> None:
        admitted = crossing.admitted
        self._crossing = crossing
        self._id = "chatcmpl-" + admitted.id.removeprefix("req_")
        self._created_s = admitted.created_ms // 1000
        self._model = admitted.request.model
        listed = admitted.snapshot.max_output_of(crossing.candidate.model, crossing.candidate.deployment)
        self._max_tokens = listed or MAX_TOKENS_WHERE_REQUIRED

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
        if (chat := assembled(self._crossing, self, answer)) is not None:
            return chat
        fields = decoded(_OBJECT, answer)
        return chat_from_message(fields, id=self._id, model=self._model, created=self._created_s)


def assembled(crossing: Crossing, upstream: UpstreamHalf, stream: bytes) -> Fields | None:
    """Return the whole answer that a stream makes; None where the answer came whole after all.

    Raises UpstreamFailure for an error, and for a stream that breaks off.
    """
    if not crossing.assembles:
        return None
    config = crossing.provider.config
    if stream.lstrip()[:1] in (b"{", b"[", b"<"):  # no event begins so
        failure = failure_in_answer(config, stream)
        if failure is not None:
            raise failure
        return None
    source, assembly = upstream.source(UsageMeter()), ChatAssembly()
    for chunk in (*source.feed(stream), *source.close()):
        assembly.take(chunk)
    if source.failure is not None:
        raise failure_in_stream(config, source.failure)
    if not source.complete:
        message = f"{config.name} closed the stream before the answer was complete."
        raise UpstreamTruncated("upstream_stream_truncated", message)
    return assembly.answer()
