"""The turns of a conversation as Messages knows them: who speaks, and the blocks of what is said.

Both directions pass through here, because both protocols refuse the same disorder: a tool call
without its result, a result without its call, results anywhere but directly behind their calls.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Fields = dict[str, Any]

#: What stands for a result that a client does not have: its user interrupted the tool, mostly.
NO_RESULT = "(no result)"
#: Goes before a result whose call is not in the conversation any more.
_ORPHAN = "Result of an earlier tool call:"


class Block:
    """One content block, its type, and where it stands in the request: for errors."""

    __slots__ = ("kind", "value", "where")

    def __init__(self, where: str, value: Fields) -> None:
        kind = value.get("type")
        self.kind: str = kind if isinstance(kind, str) else ""
        self.value = value
        self.where = where


@dataclass(slots=True)
class Turn:
    role: str
    blocks: list[Block]


def text_block(text: str, where: str = "messages") -> Block:
    return Block(where, {"type": "text", "text": text})


def merged(turns: Iterable[Turn]) -> list[Turn]:
    """Return the turns without empty ones, and neighbours of one role made one."""
    out: list[Turn] = []
    for turn in turns:
        if not turn.blocks:
            continue
        if out and out[-1].role == turn.role:
            out[-1].blocks += turn.blocks
        else:
            out.append(Turn(turn.role, list(turn.blocks)))
    return out


def paired(turns: Iterable[Turn]) -> list[Turn]:
    """Return the turns with the results of each assistant turn directly behind it, in call order.

    They open a user turn; what the user says beside them follows. A missing result is made up as
    an error; one without its call becomes text.
    """
    out: list[Turn] = []
    results = _Results([])
    for turn in turns:
        if turn.role == "assistant":
            results.put_into(out)
            out.append(turn)
            results = _Results(turn.blocks, place=len(out))
        else:
            out.append(Turn(turn.role, results.taken_out(turn.blocks)))
    results.put_into(out)
    return merged(out)


class _Results:
    """The results that one assistant turn's calls wait for."""

    def __init__(self, blocks: list[Block], place: int = 0) -> None:
        self._calls = [call_id(block) for block in blocks if block.kind == "tool_use"]
        self._missing = Counter(self._calls)
        self._found: dict[str, deque[Block]] = {id: deque() for id in self._missing}
        self._place = place

    def taken_out(self, blocks: list[Block]) -> list[Block]:
        """Keep the results among these blocks, return the others."""
        return [other for block in blocks for other in self._other(block)]

    def put_into(self, turns: list[Turn]) -> None:
        """Put the results where they belong, one for each call."""
        results = [self._found[id].popleft() if self._found[id] else _missing(id) for id in self._calls]
        turns.insert(self._place, Turn("user", results))

    def _other(self, block: Block) -> list[Block]:
        if block.kind != "tool_result":
            return [block]
        id = block.value.get("tool_use_id")
        if isinstance(id, str) and self._missing[id] > 0:
            self._missing[id] -= 1
            self._found[id].append(block)
            return []
        return _as_text(block)


def call_id(block: Block) -> str:
    id = block.value.get("id")
    return id if isinstance(id, str) else ""


def _missing(id: str) -> Block:
    return Block(
        "messages", {"type": "tool_result", "tool_use_id": id, "content": NO_RESULT, "is_error": True}
    )


def _as_text(result: Block) -> list[Block]:
    """Return a result without a call as what it says."""
    content = result.value.get("content")
    if isinstance(content, list):
        inner = [Block(result.where, value) for value in content if isinstance(value, dict)]
    else:
        inner = [text_block(content if content and isinstance(content, str) else NO_RESULT, result.where)]
    return [text_block(_ORPHAN, result.where), *inner]
