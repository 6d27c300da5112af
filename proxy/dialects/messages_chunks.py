"""The events of a Messages stream as Chat chunks. docs/dialects.md, "Chat over Messages" """

from typing import Any

from proxy.dialects.messages_chat_answer import finish_reason, kept_thought, text_of, usage_of
from proxy.dialects.messages_json import compact

Fields = dict[str, Any]


class _Call:
    """A block of a tool call that is open."""

    __slots__ = ("began", "given", "index")

    def __init__(self, index: int, given: object) -> None:
        self.index = index
        #: Some hosts send the whole input with the start of the block, and no deltas.
        self.given = given if isinstance(given, dict) else {}
        self.began = False


class _Thought:
    """A block of thinking that is open."""

    __slots__ = ("pieces", "signature")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.signature = ""


class ChunksFromMessages:
    """Turns the events of one Messages stream into Chat chunks.

    The first chunk says the role, the last but one the finish reason, and the last, without
    choices, the usage, if the provider reported any. Signed thoughts come whole in
    `thinking_blocks`, for clients to give them back.
    """

    __slots__ = (
        "_begun",
        "_blocks",
        "_calls",
        "_finished",
        "_id",
        "_thoughts",
        "_usage",
        "complete",
        "created",
        "error",
        "model",
    )

    def __init__(self, *, id: str, model: str, created: int) -> None:
        """`id` is the answer's, `chatcmpl-…`; `model` the client's word; `created` is in Unix seconds."""
        self._id = id
        self.model = model
        self.created = created
        #: The answer reached its end.
        self.complete = False
        #: The `error` of the event by which the provider reported a failure.
        self.error: Fields | None = None
        self._begun = False
        self._finished = False
        self._blocks: dict[object, _Call | _Thought] = {}
        self._calls = 0
        self._thoughts = 0
        self._usage: Fields = {}

    def feed(self, event: Fields) -> list[Fields]:
        """Return the chunks that an event brings, whatever it holds."""
        if self.complete or self.error is not None:
            return []
        match event.get("type"):
            case "content_block_delta":
                return self._delta(event)
            case "content_block_start":
                return self._start(event)
            case "content_block_stop":
                return self._stop(_index(event))
            case "message_start":
                message = event.get("message")
                # What it says about output is no count yet, only where counting begins.
                usage = _object(_object(message).get("usage"))
                self._merge({name: usage[name] for name in usage if not name.startswith("output_")})
                return self._begin()
            case "message_delta":
                self._merge(_object(event.get("usage")))
                return self._finish(_object(event.get("delta")).get("stop_reason"))
            case "message_stop":
                return self._end()
            case "error":
                self.error = _object(event.get("error"))
        return []

    def _begin(self) -> list[Fields]:
        if self._begun:
            return []
        self._begun = True
        return [self._chunk({"role": "assistant", "content": ""})]

    def _start(self, event: Fields) -> list[Fields]:
        index, block = _index(event), _object(event.get("content_block"))
        chunks = self._begin()
        match block.get("type"):
            case "text" if text := text_of(block, "text"):
                chunks.append(self._chunk({"content": text}))
            case "thinking":
                self._blocks[index] = _Thought()
                chunks += self._thought(index, block)
            case "redacted_thinking" if kept := kept_thought(block):
                chunks.append(self._kept(kept))
            case "tool_use":
                self._blocks[index] = _Call(self._calls, block.get("input"))
                call = {"index": self._calls, "id": text_of(block, "id"), "type": "function"}
                function = {"name": text_of(block, "name"), "arguments": ""}
                chunks.append(self._chunk({"tool_calls": [call | {"function": function}]}))
                self._calls += 1
        return chunks

    def _delta(self, event: Fields) -> list[Fields]:
        index, delta = _index(event), _object(event.get("delta"))
        match delta.get("type"):
            case "text_delta" if text := text_of(delta, "text"):
                return [*self._begin(), self._chunk({"content": text})]
            case "thinking_delta" | "signature_delta":
                return self._thought(index, delta)
            case "input_json_delta" if piece := text_of(delta, "partial_json"):
                block = self._blocks.get(index)
                if isinstance(block, _Call):
                    block.began = True
                    return [self._arguments(block, piece)]
        return []

    def _thought(self, index: object, fields: Fields) -> list[Fields]:
        """Take what a start or a delta brings of a block of thinking."""
        block = self._blocks.get(index)
        if not isinstance(block, _Thought):
            return []
        block.signature += text_of(fields, "signature")
        text = text_of(fields, "thinking")
        if not text:
            return []
        block.pieces.append(text)
        return [self._chunk({"reasoning_content": text})]

    def _stop(self, index: object) -> list[Fields]:
        block = self._blocks.pop(index, None)
        if isinstance(block, _Call):
            # No delta means no arguments, and to Chat these are an empty object.
            return [] if block.began else [self._arguments(block, compact(block.given))]
        if isinstance(block, _Thought) and block.signature:
            thinking = "".join(block.pieces)
            kept = {"type": "thinking", "thinking": thinking, "signature": block.signature}
            return [self._kept(kept)]
        return []

    def _finish(self, stop_reason: object) -> list[Fields]:
        if self._finished or stop_reason is None:
            return []
        self._finished = True
        chunks = self._begin()
        for index in list(self._blocks):  # of hosts that do not stop them
            chunks += self._stop(index)
        chunks.append(self._chunk({}, finish_reason(stop_reason, has_calls=self._calls > 0)))
        return chunks

    def _end(self) -> list[Fields]:
        chunks = self._finish("tool_use" if self._calls else "end_turn")
        self.complete = True
        if usage := usage_of(self._usage):
            chunks.append(self._frame([]) | {"usage": usage})
        return chunks

    def _merge(self, usage: Fields) -> None:
        """The events each overwrite what they name and leave the rest."""
        self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _arguments(self, call: _Call, piece: str) -> Fields:
        return self._chunk({"tool_calls": [{"index": call.index, "function": {"arguments": piece}}]})

    def _kept(self, thought: Fields) -> Fields:
        # With an index SDKs put each into its place, as they do with tool calls.
        self._thoughts += 1
        return self._chunk({"thinking_blocks": [{"index": self._thoughts - 1, **thought}]})

    def _chunk(self, delta: Fields, finish: str | None = None) -> Fields:
        return self._frame([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])

    def _frame(self, choices: list[Fields]) -> Fields:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def _index(event: Fields) -> object:
    index = event.get("index")
    return index if isinstance(index, int) else None


def _object(value: object) -> Fields:
    return value if isinstance(value, dict) else {}
