"""Which deployment and key served a conversation: there its beginning is in a cache.

docs/providers.md, "Which route is tried"
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from proxy.gateway.request import ClientRequest, conversation_members

#: How long a conversation stays with what served it, and how many are known.
AFFINITY_NS = 300 * 10**9
MOST_CONVERSATIONS = 10_000


class Served(NamedTuple):
    provider: str
    model: str
    key: bytes  # the digest of the provider key


class Conversation(NamedTuple):
    """`id` is what its turns have in common; `continues`: this is not the first of them."""

    id: bytes
    continues: bool


class _Item(msgspec.Struct):
    role: msgspec.Raw = msgspec.Raw(b"")
    content: msgspec.Raw = msgspec.Raw(b"")


class _Part(msgspec.Struct):
    text: msgspec.Raw = msgspec.Raw(b"")


_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM = msgspec.json.Decoder(_Item)
_PARTS = msgspec.json.Decoder(list[_Part])


class Affinity:
    """Remembers for five minutes who served a conversation last."""

    def __init__(self) -> None:
        self._served: OrderedDict[bytes, tuple[Served, int]] = OrderedDict()

    def note(self, conversation: bytes, served: Served, now_ns: int) -> None:
        self._served.pop(conversation, None)
        if len(self._served) >= MOST_CONVERSATIONS:
            self._served.popitem(last=False)
        self._served[conversation] = (served, now_ns + AFFINITY_NS)

    def served(self, conversation: bytes, now_ns: int) -> Served | None:
        served, until_ns = self._served.get(conversation, (None, 0))
        return served if now_ns < until_ns else None


def conversation_of(request: ClientRequest, key: str) -> Conversation | None:
    """Return which conversation a request belongs to; None for what is none.

    Its turns have in common the API key, the model, the instructions, and all up to the first
    message of the user.
    """
    named = conversation_members(request.endpoint)
    if named is None:
        return None
    messages, instructions = named
    digest = blake2b(f"{key}\n{request.model}\n".encode(), digest_size=16)
    if instructions is not None:
        digest.update(bytes(request.members.get(instructions, b"")))
    raw = request.members.get(messages)
    if raw is None:
        return None
    try:
        items = _ITEMS.decode(raw)
    except msgspec.MsgspecError:  # Responses takes a text for its only message
        digest.update(raw)
        return Conversation(digest.digest(), continues=False)
    common = 0
    for item in items:
        common += 1
        if (text := _user_text(item)) is not None:
            digest.update(text)
            break
        digest.update(item)
    return Conversation(digest.digest(), continues=common < len(items))


def _user_text(item: msgspec.Raw) -> bytes | None:
    """Return the text of a message of the user, as JSON; None for anything else.

    Its texts alone: markers of a cache move on to later messages from turn to turn.
    """
    try:
        message = _ITEM.decode(item)
    except msgspec.MsgspecError:
        return None
    if bytes(message.role) != b'"user"':
        return None
    try:
        return b"".join(bytes(part.text) for part in _PARTS.decode(message.content))
    except msgspec.MsgspecError:
        return bytes(message.content)
