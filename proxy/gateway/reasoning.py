"""What a model thought before it called tools, kept for providers that demand it back.

Some providers refuse a tool's result unless the `reasoning_content` of the call comes with it, and
many clients drop what they do not know. So it is kept here for a while, by the ids of the calls as
the client knows them: in other dialects than chat they are not always those of the provider.
docs/dialects.md, "Remembered thoughts"
"""

from collections import OrderedDict
from typing import Any

import msgspec

from proxy.core import sse
from proxy.core.answerjson import decoded
from proxy.core.entities import Usage
from proxy.core.errors import SluiceError
from proxy.dialects.chat_reading import first_choice
from proxy.dialects.traits import ChatTraits
from proxy.gateway.client_dialects import ChunkTarget, ClientDialect
from proxy.gateway.relay import Relay

Fields = dict[str, Any]

# A long session of a coding tool makes some hundred calls, with a few KiB of thoughts each.
MAX_CALLS_PER_KEY = 512
MAX_CHARS_PER_KEY = 1_000_000
MAX_KEYS = 200

_OBJECT = msgspec.json.Decoder(dict[str, Any])


class ReasoningMemory:
    """Thoughts by API key and tool call; the oldest are forgotten."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, OrderedDict[str, str]] = OrderedDict()

    def remember(self, key_id: str, call_ids: list[str], thoughts: str) -> None:
        """Keep the thoughts that led to these calls; they may be empty."""
        kept = self._keys.setdefault(key_id, OrderedDict())
        self._keys.move_to_end(key_id)
        for id in call_ids:
            kept[id] = thoughts
            kept.move_to_end(id)
        while len(kept) > MAX_CALLS_PER_KEY or sum(map(len, kept.values())) > MAX_CHARS_PER_KEY:
            kept.popitem(last=False)
        while len(self._keys) > MAX_KEYS:
            self._keys.popitem(last=False)

    def give_back(self, key_id: str, messages: object) -> bool:
        """Put thoughts into the assistant's messages that call tools and lack them.

        Where they are forgotten, an empty text says that there is nothing more to tell. Returns
        whether any message was changed.
        """
        kept = self._keys.get(key_id) or OrderedDict[str, str]()
        changed = False
        for message in messages if isinstance(messages, list) else ():
            if not isinstance(message, dict) or message.get("reasoning_content") not in (None, ""):
                continue
            ids = call_ids_of(message)
            thoughts = next((kept[id] for id in ids if id in kept), "")
            if ids and message.get("reasoning_content") != thoughts:
                message["reasoning_content"] = thoughts
                changed = True
        return changed


def call_ids_of(message: Fields) -> list[str]:
    """Return the ids of the tool calls in a message or a delta."""
    calls = message.get("tool_calls")
    ids = [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [id for id in ids if isinstance(id, str) and id]


class Thoughts:
    """The thoughts and calls of one answer, as its pieces come."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.call_ids: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def take(self, body: Fields) -> None:
        """Take a chunk or a whole answer."""
        first = first_choice(body) or {}
        for name in ("delta", "message"):
            part = first.get(name)
            if isinstance(part, dict):
                text = part.get("reasoning_content")
                if isinstance(text, str):
                    self._pieces.append(text)
                self.call_ids += call_ids_of(part)

    def read(self, data: bytes) -> None:
        """Take a chunk or a whole answer that is still JSON; others judge what is none."""
        try:
            self.take(decoded(_OBJECT, data))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return


class RememberingRelay:
    """A relay of a chat stream that also takes down the thoughts in it."""

    events = True

    def __init__(self, inner: Relay, memory: ReasoningMemory, key_id: str) -> None:
        self._inner = inner
        self._memory = memory
        self._key_id = key_id
        self._thoughts = Thoughts()
        self._splitter = sse.FrameSplitter()

    @property
    def complete(self) -> bool:
        return self._inner.complete

    @property
    def done(self) -> bool:
        return self._inner.done

    @property
    def failure(self) -> bytes | None:
        return self._inner.failure

    @property
    def has_content(self) -> bool:
        return self._inner.has_content

    @property
    def tokens(self) -> int:
        return self._inner.tokens

    def feed(self, chunk: bytes) -> bytes:
        self._read(self._splitter.feed(chunk))
        return self._inner.feed(chunk)

    def close(self) -> bytes:
        self._read(self._splitter.finish())
        return self._inner.close()

    def ending(self, usage: Usage) -> bytes:
        if self._thoughts.call_ids:
            self._memory.remember(self._key_id, self._thoughts.call_ids, self._thoughts.text)
        return self._inner.ending(usage)

    def keep_alive(self) -> bytes:
        return self._inner.keep_alive()

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        return self._inner.fail(error, request_id)

    def _read(self, frames: list[bytes]) -> None:
        for frame in frames:
            if b'"reasoning_content"' in frame or b'"tool_calls"' in frame:
                self._thoughts.read(sse.parse(frame).data or b"{}")


class RememberingClient:
    """A client's half of a translation that also takes down the thoughts in its answer."""

    def __init__(self, inner: ClientDialect, memory: ReasoningMemory, key_id: str) -> None:
        self._inner = inner
        self._memory = memory
        self._key_id = key_id
        self.call_ids = inner.call_ids

    def chat_request(self, traits: ChatTraits) -> Fields:
        return self._inner.chat_request(traits)

    def target(self) -> ChunkTarget:
        return RememberingTarget(self._inner.target(), self._memory, self._key_id)

    def whole(self, answer: Fields, usage: Usage) -> Fields:
        whole, thoughts = self._inner.whole(answer, usage), Thoughts()
        thoughts.take(answer)
        if ids := self.call_ids(whole):
            self._memory.remember(self._key_id, ids, thoughts.text)
        return whole


class RememberingTarget:
    """The target of chat chunks that also takes down the thoughts in them."""

    def __init__(self, inner: ChunkTarget, memory: ReasoningMemory, key_id: str) -> None:
        self._inner = inner
        self._memory = memory
        self._key_id = key_id
        self._thoughts = Thoughts()
        self.keep_alive = inner.keep_alive
        self.call_ids = inner.call_ids
        self.fail = inner.fail

    def feed(self, chunk: Fields) -> bytes:
        self._thoughts.take(chunk)
        return self._inner.feed(chunk)

    def ending(self, usage: Usage) -> bytes:
        ending = self._inner.ending(usage)
        if ids := self.call_ids(self._thoughts.call_ids):
            self._memory.remember(self._key_id, ids, self._thoughts.text)
        return ending
