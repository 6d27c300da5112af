"""What `repair` names, done to the chunks of a chat stream. docs/configuration.md, "Repairs" """

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from proxy.dialects.chat_reading import index_of

Fields = dict[str, Any]

_OPEN, _CLOSE = "<think>", "</think>"

# What is the same in all chunks.
_HEAD = ("id", "object", "created", "model")


class Repair:
    """Mends one answer; `count` is told each time that something was mended."""

    def __init__(self, names: tuple[str, ...], count: Callable[[Mapping[str, int]], None]) -> None:
        self.missing_done = "missing_done" in names
        self._count = count
        # Each choice has calls and thoughts of its own; the keys are their indexes.
        self._indexes = defaultdict[int, dict[str, int]](dict) if "tool_index" in names else None
        self._alias = "reasoning_alias" in names
        self._tags = defaultdict[int, ThinkTags](ThinkTags) if "think_tags" in names else None
        self._head: Fields = {}

    def chunk(self, chunk: Fields) -> Fields:
        """Return a chunk of a stream, mended; the chunk itself may be changed."""
        if self._tags is not None and not self._head:
            self._head = {name: chunk[name] for name in _HEAD if name in chunk}
        return self._mended(chunk, "delta")

    def rest(self) -> Fields | None:
        """Return a chunk with what is held back where a stream ends without a finish reason."""
        choices = []
        for index, tags in (self._tags or {}).items():
            delta: Fields = {}
            self._move_thoughts(delta, tags, is_last=True)
            if delta:
                choices.append({"index": index, "delta": delta, "finish_reason": None})
        return {**self._head, "choices": choices} if choices else None

    def whole(self, answer: Fields) -> Fields:
        """Return an answer that was not streamed, mended; the answer itself may be changed."""
        return self._mended(answer, "message")

    def _mended(self, body: Fields, member: str) -> Fields:
        choices = body.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            part = choice.get(member) if isinstance(choice, dict) else None
            if isinstance(part, dict):
                index = index_of(choice, position)
                if self._indexes is not None:
                    self._mend_calls(part, self._indexes[index], number=member == "delta")
                if self._alias:
                    self._rename_reasoning(part)
                if self._tags is not None:
                    is_last = member == "message" or choice.get("finish_reason") is not None
                    self._move_thoughts(part, self._tags[index], is_last=is_last)
        return body

    def _mend_calls(self, part: Fields, indexes: dict[str, int], *, number: bool) -> None:
        calls = part.get("tool_calls")
        if isinstance(calls, dict):
            self._count({"tool_index": 1})
            calls = part["tool_calls"] = [calls]
        for call in calls if number and isinstance(calls, list) else ():
            if not isinstance(call, dict) or isinstance(call.get("index"), int):
                continue
            self._count({"tool_index": 1})
            id = call.get("id")
            if isinstance(id, str) and id:
                call["index"] = indexes.setdefault(id, len(indexes))
            else:
                call["index"] = max(len(indexes) - 1, 0)  # a piece of the last one

    def _rename_reasoning(self, part: Fields) -> None:
        if part.get("reasoning") is not None and part.get("reasoning_content") is None:
            self._count({"reasoning_alias": 1})
            part["reasoning_content"] = part.pop("reasoning")

    def _move_thoughts(self, part: Fields, tags: "ThinkTags", *, is_last: bool) -> None:
        content = part.get("content")
        thoughts, text = tags.split(content if isinstance(content, str) else "", is_last=is_last)
        if thoughts:
            self._count({"think_tags": 1})
            part["reasoning_content"] = (part.get("reasoning_content") or "") + thoughts
        if isinstance(content, str) or text:
            part["content"] = text


class ThinkTags:
    """Splits a leading `<think>…</think>` from the text of an answer that comes in pieces."""

    def __init__(self) -> None:
        self._held = ""  # what may be the beginning of a tag
        self._thinking = False
        self._over = False  # no tag is looked for any more

    def split(self, piece: str, *, is_last: bool = False) -> tuple[str, str]:
        """Return the thoughts and the text in a piece; what may be half a tag waits for the next."""
        if self._over:
            return "", piece
        text = self._held + piece
        self._held = ""
        if not self._thinking:
            start = text.lstrip()
            if start.startswith(_OPEN):
                self._thinking = True
                text = start[len(_OPEN) :]
            elif _OPEN.startswith(start) and not is_last:
                self._held = text
                return "", ""
            else:
                self._over = True
                return "", text
        thoughts, tag, rest = text.partition(_CLOSE)
        if tag:
            self._over = True
            return thoughts, rest.lstrip("\n")
        if not is_last:
            self._held = _tail(thoughts)
        return thoughts[: len(thoughts) - len(self._held)], ""


def _tail(text: str) -> str:
    """Return the end of a text that may be the beginning of the closing tag."""
    for size in range(min(len(_CLOSE) - 1, len(text)), 0, -1):
        if text.endswith(_CLOSE[:size]):
            return text[-size:]
    return ""
