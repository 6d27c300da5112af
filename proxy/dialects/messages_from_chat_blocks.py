"""Messages of Chat as blocks of Messages. Blank text is left out: Messages refuses it."""

import re
from typing import Any

from proxy.core.errors import BadRequest
from proxy.dialects import chat_reading as chat
from proxy.dialects.members import invalid, text_of
from proxy.dialects.messages_json import arguments_object
from proxy.dialects.messages_turns import Block

Fields = dict[str, Any]

_DATA_URL = re.compile(r"data:([^;,]*)[^,]*;base64,")
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
# The media type has to be that of the bytes; these are their beginnings, in base64.
_IMAGE_STARTS = {
    "/9j/": "image/jpeg",
    "iVBORw0KGgo": "image/png",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
}


def text_blocks(message: Fields, where: str) -> list[Block]:
    """Return the content of a message that has nothing but text."""
    blocks = content_blocks(message, where)
    for block in blocks:
        if block.kind != "text":
            raise invalid(block.where, "must be text")
    return blocks


def content_blocks(message: Fields, where: str) -> list[Block]:
    """Return the content of a message."""
    content, where = message.get("content"), f"{where}.content"
    if content is None:
        return []
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise invalid(where, "must be a string or a list of parts")
    blocks = [_block(part, f"{where}[{position}]") for position, part in enumerate(content)]
    return [block for block in blocks if block.kind != "text" or not _is_blank(block)]


def assistant_blocks(message: Fields, where: str) -> list[Block]:
    """Return what an assistant thought, said and called, in this order.

    Thoughts only with their signatures, which clients keep in `thinking_blocks`: others are refused.
    """
    if message.get("function_call") is not None:
        raise invalid(f"{where}.function_call", "is no longer understood; use tool_calls")
    thoughts = [_thought(block) for block in _objects(message.get("thinking_blocks"))]
    thought = [Block(f"{where}.thinking_blocks", thought) for thought in thoughts if thought is not None]
    rest = text_blocks(message, where)
    for position, call in enumerate(_objects(message.get("tool_calls"))):
        rest.append(_tool_use(call, f"{where}.tool_calls[{position}]"))
    return thought + rest if rest else []


def result_block(message: Fields, where: str) -> Block:
    """Return a tool message."""
    value: Fields = {"type": "tool_result", "tool_use_id": text_of(message, "tool_call_id", where)}
    blocks = content_blocks(message, where)
    if blocks and all(block.kind == "text" and len(block.value) == 2 for block in blocks):
        return Block(where, value | {"content": "\n".join(block.value["text"] for block in blocks)})
    return Block(where, value | ({"content": [block.value for block in blocks]} if blocks else {}))


def _block(part: object, where: str) -> Block:
    if not isinstance(part, dict):
        raise invalid(where, "must be an object")
    value: Fields
    match part.get("type"):
        case "text" | "refusal" as kind:
            value = {"type": "text", "text": text_of(part, kind, where)}
        case "image_url":
            value = {"type": "image", "source": _image_source(part, where)}
        case "file":
            value = _document(part, where)
        case _:
            raise BadRequest(
                "invalid_value",
                f"{where!r} cannot be sent to this model, which takes text, images and PDF files.",
                param=where,
            )
    if marker := part.get("cache_control"):
        value["cache_control"] = marker
    return Block(where, value)


def _is_blank(block: Block) -> bool:
    return not block.value["text"].strip()


def _image_source(part: Fields, where: str) -> Fields:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    where = f"{where}.image_url"
    if not isinstance(url, str):
        raise invalid(where, "must have a URL")
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    match = _DATA_URL.match(url)
    if match is None:
        raise invalid(where, "must be an https or a base64 data URL")
    data = url[match.end() :]
    declared = "image/jpeg" if match[1] == "image/jpg" else match[1]
    media_type = next((kind for start, kind in _IMAGE_STARTS.items() if data.startswith(start)), declared)
    if media_type not in _IMAGE_TYPES:
        raise invalid(where, "must be a JPEG, PNG, GIF or WebP image")
    return {"type": "base64", "media_type": media_type, "data": data}


def _document(part: Fields, where: str) -> Fields:
    given = part.get("file")
    file = given if isinstance(given, dict) else {}
    data = file.get("file_data")
    match = _DATA_URL.match(data) if isinstance(data, str) else None
    if match is None or match[1] != "application/pdf":
        raise invalid(f"{where}.file", "must be a PDF file as a base64 data URL; file ids are not known here")
    source = {"type": "base64", "media_type": "application/pdf", "data": match.string[match.end() :]}
    document: Fields = {"type": "document", "source": source}
    if isinstance(name := file.get("filename"), str) and name:
        document["title"] = name
    return document


def _thought(block: Fields) -> Fields | None:
    """Return a block of thinking if it is whole; `index` and the like are left out."""
    kind, thinking = block.get("type"), block.get("thinking")
    signature, data = block.get("signature"), block.get("data")
    if kind == "thinking" and isinstance(thinking, str) and signature and isinstance(signature, str):
        return {"type": kind, "thinking": thinking, "signature": signature}
    if kind == "redacted_thinking" and data and isinstance(data, str):
        return {"type": kind, "data": data}
    return None


def _tool_use(call: Fields, where: str) -> Block:
    if isinstance(custom := call.get("custom"), dict):
        name, given = text_of(custom, "name", f"{where}.custom"), {"input": custom.get("input")}
    else:
        [piece] = chat.calls_of({"tool_calls": [call]})
        name, given = piece.name, arguments_object(piece.arguments)
        if not name:
            raise invalid(f"{where}.function.name", "must be a string")
    id = call.get("id")
    return Block(
        where, {"type": "tool_use", "id": id if isinstance(id, str) else "", "name": name, "input": given}
    )


def _objects(value: object) -> list[Fields]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
