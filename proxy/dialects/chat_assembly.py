"""The chunks of a chat stream put together to a whole answer: for models that only stream."""

from typing import Any

from proxy.dialects import chat_reading
from proxy.dialects.chat_calls import StreamedCalls

Fields = dict[str, Any]


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
        for name in ("id", "created", "model", "system_fingerprint"):
            if name in chunk:
                self._head.setdefault(name, chunk[name])
        self._usage = chunk.get("usage") or self._usage
        choice = chat_reading.first_choice(chunk)
        if choice is None:
            return
        if choice.get("finish_reason") is not None:
            self._finish_reason = choice["finish_reason"]
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._content.append(chat_reading.content_of(delta))
            self._reasoning.append(chat_reading.reasoning_of(delta))
            self._refusal.append(chat_reading.refusal_of(delta))
            for piece in chat_reading.calls_of(delta):
                self._calls.add(piece)

    def answer(self) -> Fields:
        """Return the whole answer."""
        message: Fields = {"role": "assistant", "content": "".join(self._content) or None}
        if reasoning := "".join(self._reasoning):
            message["reasoning_content"] = reasoning
        if refusal := "".join(self._refusal):
            message["refusal"] = refusal
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in self._calls.all
            if call.name
        ]
        if calls:
            message["tool_calls"] = calls
        elif message["content"] is None:
            message["content"] = ""
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason or "stop"}
        answer: Fields = {**self._head, "object": "chat.completion", "choices": [choice]}
        if self._usage is not None:
            answer["usage"] = self._usage
        return answer
