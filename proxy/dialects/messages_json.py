"""JSON inside JSON: the arguments of a tool call, text in Chat and an object in Messages."""

import json
from typing import Any

import msgspec

Fields = dict[str, Any]

#: Where arguments that are no object are kept, so that the client sees what the model wrote.
RAW_ARGUMENTS = "_raw"

# No tool takes more; deeper nesting could be read and then not be written any more.
_MAX_DEPTH = 200

# Takes raw control characters, and leaves alone what stands behind the value.
_LENIENT = json.JSONDecoder(strict=False)


def compact(value: object) -> str:
    """Return decoded JSON as JSON text; what is nested deeper than can be written is an empty object."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value, separators=(",", ":"))
    except RecursionError:
        return "{}"


def parsed_object(text: str) -> Fields | None:
    """Return the object that a JSON text is; None when it is none."""
    value = _decoded(text)
    return value if isinstance(value, dict) else None


def arguments_object(text: str) -> Fields:
    """Return a call's arguments as the object that Messages wants, mended where models often err.

    No text is no arguments. JSON that was encoded twice, holds raw line breaks, or is followed by
    something else is understood; of anything else the text itself is kept under `_raw`.
    """
    if text.strip() in ("", "null"):
        return {}
    value = _decoded(text)
    if isinstance(value, str):
        value = _decoded(value)
    if value is None:
        value = _leniently_decoded(text.lstrip())
    if not isinstance(value, dict) or _too_deep(value, text):
        return {RAW_ARGUMENTS: text}
    return value


def _decoded(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def _leniently_decoded(text: str) -> object:
    try:
        return _LENIENT.raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _too_deep(value: object, text: str) -> bool:
    if text.count("{") + text.count("[") <= _MAX_DEPTH:
        return False
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
