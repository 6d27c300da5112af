"""What the requests of both directions share."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy.core.errors import BadRequest

Fields = dict[str, Any]


class Translated(NamedTuple):
    """A request in another dialect, and how often each thing that it cannot say was left out.

    Names of unknown things are the client's own text.
    """

    body: Fields
    dropped: Mapping[str, int]


def invalid(where: str, reason: str) -> BadRequest:
    return BadRequest("invalid_value", f"{where!r} {reason}.", param=where)


def text_of(fields: Fields, name: str, where: str) -> str:
    """Return a member that has to be text; raises BadRequest."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise invalid(f"{where}.{name}", "must be a string")
    return value
