"""Members of a request that nobody has checked yet. Everything here raises `BadRequest`."""

from typing import Any

from proxy.core.errors import BadRequest
from proxy.core.quoting import quoted

Fields = dict[str, Any]


def invalid(param: str, reason: str) -> BadRequest:
    """Return the error for a value that cannot be; `reason` says what it must be."""
    return BadRequest("invalid_value", f"{param!r} {reason}.", param=param)


def objects(value: object, param: str) -> list[Fields]:
    """Return a list of objects; an absent one is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(param, "must be a list")
    for position, item in enumerate(value):
        if not isinstance(item, dict):
            raise invalid(f"{param}[{position}]", "must be an object")
    return value


def optional_object(value: object, param: str) -> Fields:
    """Return an object; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(param, "must be an object")
    return value


def optional_text(value: object, param: str) -> str:
    """Return a text; an absent one is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(param, "must be a string")
    return value


def text(value: object, param: str) -> str:
    """Return a text that has to be there."""
    if not isinstance(value, str):
        raise invalid(param, "must be a string")
    return value


def text_of(fields: Fields, name: str, where: str) -> str:
    """Return the member of an object that has to be text; `where` is the object's place."""
    return text(fields.get(name), f"{where}.{name}")


def unknown(value: object, param: str, known: str) -> BadRequest:
    """Return the error for a word that is none of the known ones."""
    if not isinstance(value, str):
        return invalid(param, "must be a string")
    return invalid(param, f"is {quoted(value)}, which cannot be translated; known are {known}")
