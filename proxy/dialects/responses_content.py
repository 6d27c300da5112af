"""Content of a Responses request as content of a Chat message. docs/dialects.md, "Responses over Chat"

An image's URL is plain text in Responses and an object in Chat. What OpenAI keeps for its own
customers (`file_id`) cannot be sent to anybody.
"""

import json

from proxy.dialects import members
from proxy.dialects.members import Fields

_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
_IMAGES = frozenset({"input_image", "image_url", "computer_screenshot"})
# What stands in the text of a tool's output for what follows in a message of the user.
_PLACES = {"image_url": "[image]", "file": "[file]", "input_audio": "[audio]"}

# Not every provider takes an empty output.
_NO_OUTPUT = "(no output)"


def message_content(content: object, param: str, *, files: bool) -> str | list[Fields]:
    """Return the content of a message: text where there is nothing else, since all providers take that.

    `files`: the provider takes files.

    Raises:
        BadRequest: It has a part that Chat has no place for, or one that is malformed.
    """
    parts = _parts(content, param, files)
    if all(part["type"] == "text" for part in parts):
        return _text_of(parts)
    return parts


def output_content(output: object, param: str, *, files: bool) -> tuple[str, list[Fields]]:
    """Return the text of a tool's output, and what else it has, which tool messages do not take.

    Raises:
        BadRequest: As `message_content`.
    """
    if isinstance(output, list) and not all(isinstance(part, dict) and "type" in part for part in output):
        output = as_json(output, param)  # what a shell has written, and how it ended
    elif isinstance(output, dict):
        output = [output] if output.get("type") in _IMAGES else as_json(output, param)
    parts = _parts(output, param, files)
    media = [part for part in parts if part["type"] != "text"]
    lines = [part["text"] if part["type"] == "text" else _PLACES[part["type"]] for part in parts]
    return "\n".join(lines) or _NO_OUTPUT, media


def as_json(value: object, param: str) -> str:
    """Return a value as JSON text; raises BadRequest when it is nested too deeply."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise members.invalid(param, "is nested too deeply") from None


def _text_of(parts: list[Fields]) -> str:
    return "\n".join(part["text"] for part in parts)


def _parts(content: object, param: str, files: bool) -> list[Fields]:
    """Return the parts of Chat for a text, or for a list of parts of Responses."""
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    listed = members.objects(content, param)
    return [_part(part, f"{param}[{position}]", files) for position, part in enumerate(listed)]


def _part(part: Fields, param: str, files: bool) -> Fields:
    kind = members.text(part.get("type"), f"{param}.type")
    if kind in _TEXTS:
        return {"type": "text", "text": members.text(part.get("text"), f"{param}.text")}
    if kind == "refusal":
        return {"type": "text", "text": members.text(part.get("refusal"), f"{param}.refusal")}
    if kind in _IMAGES:
        return _image(part, param)
    if kind == "input_file" and files:
        return _file(part, param)
    if kind == "input_audio":
        return {"type": kind, kind: members.optional_object(part.get(kind), f"{param}.{kind}")}
    raise members.unknown(kind, f"{param}.type", "texts, images, audio and, at some providers, files")


def _image(part: Fields, param: str) -> Fields:
    given = part.get("image_url")
    image = (
        given if isinstance(given, dict) else {"url": given, "detail": part.get("detail")}
    )  # or as in Chat
    url, detail = image.get("url"), image.get("detail")
    if not isinstance(url, str):
        raise members.invalid(
            f"{param}.image_url", "must be a URL or a data: URL; the file API is not served here"
        )
    more = {"detail": detail} if detail in ("low", "high") else {}
    return {"type": "image_url", "image_url": {"url": url, **more}}


def _file(part: Fields, param: str) -> Fields:
    data = part.get("file_data")
    if not isinstance(data, str):
        raise members.invalid(
            f"{param}.file_data", "must hold the file itself; ids and URLs of files cannot be sent on"
        )
    name = members.optional_text(part.get("filename"), f"{param}.filename")
    return {"type": "file", "file": {"filename": name or "file", "file_data": data}}
