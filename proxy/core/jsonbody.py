"""A request body as its raw top-level members: what we act on is read, the rest passes unread.

Every reader here raises `BadRequest`, with a code of docs/errors.md, and nothing else.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from proxy.core.errors import BadRequest
from proxy.core.quoting import quoted

T = TypeVar("T")

Members = dict[str, msgspec.Raw]

# Request schemas have about forty; the bound keeps a body of millions from holding up the loop.
MAX_MEMBERS = 1000

# Lengths and counts are 32-bit integers at most providers.
MAX_INT = 2**31

# The keys that decide what is asked for, limited or billed. Readers written in Go match keys
# without regard to case: `Model` next to `model` would be another request there than here.
_DECIDING_KEYS = frozenset(
    {
        "best_of",
        "input",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "prompt",
        "provider",
        "stream",
        "stream_options",
    }
)

# The start of a member of an object known to be valid: brace or comma, key, colon.
_KEY = re.compile(rb'\s*[{,]\s*"([^"\\]*+(?:\\.[^"\\]*+)*)"\s*:\s*')

# Escapes that are no half of a surrogate pair: whole pairs, and all others. (Possessive groups would
# say it in one pattern; those of Python 3.11.2 do not work.)
_WHOLE_ESCAPES = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]|(?!u[dD][89a-fA-F]).)", re.DOTALL)
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")

_MEMBERS = msgspec.json.Decoder(Members)
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_TEXT: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)
_BOOL: msgspec.json.Decoder[bool | None] = msgspec.json.Decoder(bool | None)
_INT: msgspec.json.Decoder[int | None] = msgspec.json.Decoder(int | None)
_ENCODER = msgspec.json.Encoder()


def parse_object(body: bytes) -> Members:
    """Return the members of a JSON object, each still as the bytes that were sent.

    Strict where a lenient reader would see another request than the provider does. Nesting is
    bounded by the parser (about 1,000 levels).

    Raises:
        BadRequest: `invalid_json` (not JSON in UTF-8, or not an object), `duplicate_key` (at the
            top level), `invalid_value` (a lone surrogate, or a deciding key in another case).
    """
    members = _decoded(body)
    names = "".join(members)
    if not (names.isascii() and names.islower()):
        _refuse_case_variants(members)
    # The parser keeps the last of duplicates in silence. An object without duplicates and
    # whitespace has exactly this length, and a duplicate always adds to it.
    if len(body) != 1 + 4 * len(members) + len(names) + sum(map(len, members.values())):
        _refuse_duplicates(body, members)
    return members


def encode(members: Mapping[str, object]) -> bytes:
    """Return the object as JSON; members that are still raw keep their bytes."""
    return _ENCODER.encode(members)


def text_member(members: Members, name: str) -> str | None:
    """Return a string member; None when it is absent or null."""
    return _read(members, name, _TEXT, "a string")


def bool_member(members: Members, name: str) -> bool | None:
    """Return a boolean member; None when it is absent or null."""
    return _read(members, name, _BOOL, "true or false")


def positive_int_member(members: Members, name: str) -> int | None:
    """Return a length or count of at least 1; None when it is absent or null."""
    expected = "a positive integer of at most 2147483648"
    value = _read(members, name, _INT, expected)
    if value is not None and not 1 <= value <= MAX_INT:
        raise _invalid_value(members, name, expected)
    return value


def value_member(members: Members, name: str) -> object:
    """Return a member decoded whole, whatever its type; None when it is absent or null."""
    return _read(members, name, _ANY, "JSON within the usual bounds")


def object_member(members: Members, name: str) -> Members | None:
    """Return the raw members of a member that is an object; None when it is absent or null."""
    raw = bytes(members.get(name, b"null"))
    if raw == b"null":
        return None
    if not raw.startswith(b"{"):
        raise _invalid_value(members, name, "an object")
    return parse_object(raw)


def _decoded(body: bytes) -> Members:
    if not body:
        raise _invalid_json("it is empty")
    try:
        if not body.isascii():
            body.decode()  # the parser passes over strings without reading their UTF-8
        members = _MEMBERS.decode(body)
    except UnicodeDecodeError as error:
        raise _invalid_json(f"it is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise _invalid_json("it is nested too deeply") from None
    except msgspec.ValidationError:
        raise _invalid_json("it is not an object") from None
    except msgspec.DecodeError as error:
        # RFC 8259, 8.2: an escaped half of a surrogate pair without its other half.
        if _HALF.search(_WHOLE_ESCAPES.sub(b" ", body)):
            raise BadRequest("invalid_value", "The request body holds half of a surrogate pair.") from None
        raise _invalid_json(str(error).removeprefix("JSON is malformed: ")) from None
    if len(members) > MAX_MEMBERS:
        raise BadRequest("invalid_value", f"The request body has more than {MAX_MEMBERS} members.")
    return members


def _refuse_case_variants(members: Members) -> None:
    for name in members:
        meant = name.casefold()  # folds what Go folds, "ſ" and the Kelvin sign too
        if meant == name or meant not in _DECIDING_KEYS:
            continue
        if meant in members:
            raise BadRequest(
                "duplicate_key", f"{quoted(name)} repeats {meant!r} in another case.", param=meant
            )
        raise BadRequest("invalid_value", f"Unknown key {quoted(name)}: write {meant!r}.", param=meant)


def _refuse_duplicates(body: bytes, members: Members) -> None:
    """Walk the object, which is known to be valid, along its distinct members.

    Duplicates stand at the place of their first occurrence with the value of their last. So
    either a value differs from the text, or a key comes that is not the next distinct one.
    """
    at = 0
    for name, value in members.items():
        key, at = _key_at(body, at)
        if key != name.encode() and _unescaped(key) != name:
            raise _duplicate(key)
        end = at + len(value)
        # A number may be the beginning of another one; any other value ends by itself.
        if body[at:end] != bytes(value) or body[end] not in b",} \t\r\n":
            raise _duplicate(key)
        at = end
    if members and body[at:].strip() != b"}":
        raise _duplicate(_key_at(body, at)[0])


def _key_at(body: bytes, at: int) -> tuple[bytes, int]:
    """Return the key of the member that begins at `at`, as written, and where its value begins."""
    match = _KEY.match(body, at)
    assert match is not None, "the object is valid and the walk in step"
    return match[1], match.end()


def _unescaped(key: bytes) -> str:
    return msgspec.json.decode(b'"%b"' % key, type=str)


def _read(members: Members, name: str, decoder: msgspec.json.Decoder[T], expected: str) -> T | None:
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise _invalid_value(members, name, expected) from None


def _invalid_json(reason: str) -> BadRequest:
    return BadRequest("invalid_json", f"The request body is not a JSON object: {reason}.")


def _duplicate(key: bytes) -> BadRequest:
    name = _unescaped(key)
    return BadRequest("duplicate_key", f"The key {quoted(name)} is given twice.", param=name[:128])


def _invalid_value(members: Members, name: str, expected: str) -> BadRequest:
    got = bytes(members[name])[:64].decode(errors="replace")
    return BadRequest("invalid_value", f"{name!r} must be {expected}, not {quoted(got)}.", param=name)
