"""JSON as providers write it: some cut an emoji in two and escape its halves, which is no Unicode."""

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

# Whole pairs and other escapes are matched too, so that a half is never looked for within them.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)


def decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode an answer or event; halves of surrogate pairs become U+FFFD.

    Raises what the decoder raises.
    """
    try:
        return decoder.decode(data)
    except msgspec.DecodeError:
        data = bytes(data)  # it may be a msgspec.Raw
        whole = without_halves(data)
        if whole == data:
            raise
    return decoder.decode(whole)


def without_halves(data: bytes) -> bytes:
    """Return JSON text with an escaped U+FFFD for each escaped half of a surrogate pair."""
    if rb"\ud" not in data and rb"\uD" not in data:
        return data
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)
