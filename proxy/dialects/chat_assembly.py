"""The chunks of a chat stream put together to a whole answer: for models that only stream."""

from typing import Any

from proxy.dialects import chat_reading
from proxy.dialects.chat_calls import StreamedCalls

Fields = dict[str, Any]

# What is the same in all chunks, and in the answer.
_HEAD = ("id", "created", "model", "system_fingerprint")
_LOGPROBS = ("content", "refusal")


class ChatAssembly:
    """Collects the chunks of one answer. What has no known shape says nothing."""

    def __init__(self) -> None:
        self._head: Fields = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: object = None

    def take(self, chunk: Fields) -> None:
        for name in _HEAD:
            if name in chunk:
                self._head.setdefault(name, chunk[name])
        self._usage = chat_reading.reported_usage(chunk) or self._usage
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                index = chat_reading.index_of(choice, position)
                if index not in self._choices:
                    self._choices[index] = _Choice(index)
                self._choices[index].take(choice)

    def answer(self) -> Fields:
        """Return the whole answer."""
        choices = [choice for _, choice in sorted(self._choices.items())] or [_Choice(0)]
        answer: Fields = {
            **self._head,
            "object": "chat.completion",
            "choices": [choice.whole() for choice in choices],
        }
        if self._usage is not None:
            answer["usage"] = self._usage
        cleaned: Fields = _cleaned(answer)
        return cleaned


class _Choice:
    """One of the answers that were asked for with `n`."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls = StreamedCalls()
        self._finish_reason: object = None
        self._logprobs: dict[str, list[Any] | None] = {}

    def take(self, choice: Fields) -> None:
        if choice.get("finish_reason") is not None:
            self._finish_reason = choice["finish_reason"]
        delta = choice.get("delta")
        if not delta:
            if self._has_begun and choice.get("message"):
                return  # a whole message after deltas is a repetition
            delta = choice.get("message")
        if isinstance(delta, dict):
            self._read(delta)
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict):
            for name in _LOGPROBS:
                self._logprobs.setdefault(name, None)
                if isinstance(tokens := logprobs.get(name), list):
                    self._logprobs[name] = known = self._logprobs[name] or []
                    known += tokens

    def whole(self) -> Fields:
        """Return the choice as it is in a whole answer."""
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
        choice: Fields = {"index": self._index, "message": message, "finish_reason": finish_reason}
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        return choice

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


def _cleaned(value: Any) -> Any:
    """Return a value whose texts can all be written: tokens in logprobs may be halves of an emoji."""
    if isinstance(value, str):
        return chat_reading.clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {chat_reading.clean(name): _cleaned(item) for name, item in value.items()}
    return value
