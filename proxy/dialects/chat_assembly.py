"""The chunks of a chat stream put together to a whole answer: for models that only stream."""

from typing import Any

from proxy.dialects import chat_reading
from proxy.dialects.chat_calls import StreamedCalls

Fields = dict[str, Any]

# What is the same in all chunks, and in the answer.
_HEAD = ("id", "created", "model", "system_fingerprint")


class ChatAssembly:
    """Collects the chunks of one answer with one choice. What has no known shape says nothing."""

    def __init__(self) -> None:
        self._head: Fields = {}
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls = StreamedCalls()
        self._finish_reason: object = None
        self._usage: object = None

    def take(self, chunk: Fields) -> None:
        for name in _HEAD:
            if name in chunk:
                self._head.setdefault(name, chunk[name])
        self._usage = chat_reading.reported_usage(chunk) or self._usage
        choice = chat_reading.first_choice(chunk)
        if choice is None:
            return
        if choice.get("finish_reason") is not None:
            self._finish_reason = choice["finish_reason"]
        # A whole message after deltas is a repetition.
        delta = choice.get("delta") or (None if self._has_begun else choice.get("message"))
        if isinstance(delta, dict):
            self._read(delta)

    def answer(self) -> Fields:
        """Return the whole answer."""
        message: Fields = {"role": "assistant", "content": "".join(self._content)}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._refusal:
            message["refusal"] = "".join(self._refusal)
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in self._calls.all
            if call.name
        ]
        if calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = calls
        finish_reason = self._finish_reason or ("tool_calls" if calls else "stop")
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        answer: Fields = {**self._head, "object": "chat.completion", "choices": [choice]}
        if self._usage is not None:
            answer["usage"] = self._usage
        return answer

    @property
    def _has_begun(self) -> bool:
        return bool(self._content or self._reasoning or self._refusal or self._calls.all)

    def _read(self, delta: Fields) -> None:
        for pieces, text in (
            (self._content, chat_reading.content_of(delta)),
            (self._reasoning, chat_reading.reasoning_of(delta)),
            (self._refusal, chat_reading.refusal_of(delta)),
        ):
            if text:
                pieces.append(text)
        for piece in chat_reading.calls_of(delta):
            self._calls.add(piece)
