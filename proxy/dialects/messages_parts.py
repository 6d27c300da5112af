"""Blocks of Messages as Chat writes them: parts of content, tool messages, tool calls."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from proxy.dialects.members import invalid, text_of
from proxy.dialects.messages_json import compact
from proxy.dialects.messages_turns import Block
from proxy.dialects.traits import ChatTraits

Fields = dict[str, Any]

#: Some providers refuse empty results.
NO_OUTPUT = "(no output)"

# What the parts read of each block; whatever else it has is dropped.
_READ = {
    "text": {"type", "text"},
    "image": {"type", "source"},
    "document": {"type", "source", "title", "context"},
    "search_result": {"type", "source", "title", "content"},
    "tool_reference": {"type", "tool_name"},
    "tool_use": {"type", "id", "name", "input"},
    "tool_result": {"type", "tool_use_id", "content", "is_error"},
    "thinking": {"type", "thinking", "signature"},
}


def blocks_of(content: object, where: str) -> list[Block]:
    """Return content as blocks: it may be text alone, or nothing."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Block(where, {"type": "text", "text": content})]
    if not isinstance(content, list):
        raise invalid(where, "must be a string or a list of blocks")
    blocks = []
    for position, value in enumerate(content):
        if not isinstance(value, dict):
            raise invalid(f"{where}[{position}]", "must be an object")
        blocks.append(Block(f"{where}[{position}]", value))
    return blocks


@dataclass(frozen=True, slots=True)
class PartWriter:
    """Writes blocks for one provider, and counts what it leaves out."""

    traits: ChatTraits
    dropped: Counter[str] = field(default_factory=Counter)

    def parts(self, blocks: list[Block]) -> list[Fields]:
        """Return what a user says or a tool shows."""
        return [part for block in blocks for part in self._parts(block)]

    def tool_call(self, block: Block) -> Fields:
        """Return a `tool_use` block as a call."""
        self._count_unread(block)
        given = block.value.get("input")
        if given is not None and not isinstance(given, dict):
            raise invalid(f"{block.where}.input", "must be an object")
        function = {"name": text_of(block.value, "name", block.where), "arguments": compact(given or {})}
        id = text_of(block.value, "id", block.where)
        return {"id": id, "type": "function", "function": function, **self.traits.call_extras}

    def tool_message(self, block: Block) -> tuple[Fields, list[Fields]]:
        """Return a result as a tool message, and what it shows besides text.

        Tool messages are text at most providers: images and files go into the user's message.
        """
        self._count_unread(block)
        texts = []
        shown = []
        for part in self.parts(blocks_of(block.value.get("content"), f"{block.where}.content")):
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                texts.append("[image]" if part["type"] == "image_url" else "[file]")
                shown.append(part)
        text = "\n".join(texts) or NO_OUTPUT
        if block.value.get("is_error") is True:
            text = f"Error: {text}"
        id = text_of(block.value, "tool_use_id", block.where)
        return {"role": "tool", "tool_call_id": id, "content": text}, shown

    def thinking(self, block: Block) -> str:
        self._count_unread(block)
        return text_of(block.value, "thinking", block.where)

    def drop(self, block: Block) -> None:
        self.dropped[f"content.{block.kind[:64]}"] += 1

    def _parts(self, block: Block) -> list[Fields]:
        match block.kind:
            case "document":
                self._count_unread(block)
                return self._document(block)
            case "search_result":
                self._count_unread(block)
                return [self._search_result(block)]
        return self._leaves([block])

    def _leaves(self, blocks: list[Block]) -> list[Fields]:
        """Return the parts of blocks that hold no others."""
        parts = []
        for block in blocks:
            if block.kind == "text":
                parts.append(self._text(block))
            elif block.kind == "image":
                parts.append(_image(block))
            elif block.kind == "tool_reference":
                name = text_of(block.value, "tool_name", block.where)
                parts.append({"type": "text", "text": f"Loaded the tool {name}."})
            else:
                self.drop(block)
                continue
            self._count_unread(block)
        return parts

    def _text(self, block: Block) -> Fields:
        part = {"type": "text", "text": text_of(block.value, "text", block.where)}
        if self.traits.keeps_cache_control and (marker := block.value.get("cache_control")):
            part["cache_control"] = marker
        return part

    def _document(self, block: Block) -> list[Fields]:
        source = _source(block)
        described = [text for name in ("title", "context") if isinstance(text := block.value.get(name), str)]
        match source.get("type"):
            case "text":
                text = text_of(source, "data", f"{block.where}.source")
                return [{"type": "text", "text": "\n".join([*described, text])}]
            case "content":
                inner = self._leaves(blocks_of(source.get("content"), f"{block.where}.source.content"))
                return [*({"type": "text", "text": text} for text in described), *inner]
            case "base64" if self.traits.files:
                name = described[0] if described else "document.pdf"
                return [{"type": "file", "file": {"filename": name, "file_data": _data_url(source, block)}}]
        raise invalid(
            f"{block.where}.source", "is a document that this model cannot be sent; send its text instead"
        )

    def _search_result(self, block: Block) -> Fields:
        lines = [text for name in ("title", "source") if isinstance(text := block.value.get(name), str)]
        inner = self._leaves(blocks_of(block.value.get("content"), f"{block.where}.content"))
        lines += [part["text"] for part in inner if part["type"] == "text"]
        return {"type": "text", "text": "\n".join(lines)}

    def _count_unread(self, block: Block) -> None:
        read = _READ[block.kind]
        for name, value in block.value.items():
            if name not in read and value is not None and not self._keeps(name, block.kind):
                self.dropped[f"content.{name[:64]}"] += 1

    def _keeps(self, name: str, kind: str) -> bool:
        return self.traits.keeps_cache_control and name == "cache_control" and kind == "text"


def _image(block: Block) -> Fields:
    source = _source(block)
    match source.get("type"):
        case "base64":
            url = _data_url(source, block)
        case "url":
            url = text_of(source, "url", f"{block.where}.source")
        case _:
            raise invalid(
                f"{block.where}.source", "must be base64 data or a URL; this model takes no file ids"
            )
    return {"type": "image_url", "image_url": {"url": url}}


def _source(block: Block) -> Fields:
    source = block.value.get("source")
    if not isinstance(source, dict):
        raise invalid(f"{block.where}.source", "must be an object")
    return source


def _data_url(source: Fields, block: Block) -> str:
    where = f"{block.where}.source"
    return f"data:{text_of(source, 'media_type', where)};base64,{text_of(source, 'data', where)}"
