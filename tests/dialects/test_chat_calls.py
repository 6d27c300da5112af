"""To which call the pieces of a stream belong."""

import pytest

from proxy.dialects.chat_calls import StreamedCalls
from proxy.dialects.chat_reading import CallPiece

# name: pieces (index, id, name, arguments), calls (id, name, arguments) that they make
STREAMS = {
    "one call": (
        [(0, "a", "f", ""), (0, "", "", '{"x"'), (0, "", "", ":1}")],
        [("a", "f", '{"x":1}')],
    ),
    "two that take turns": (
        [(0, "a", "f", "{"), (1, "b", "g", "["), (0, "", "", "}"), (1, "", "", "]")],
        [("a", "f", "{}"), ("b", "g", "[]")],
    ),
    "id and name in every piece": (
        [(0, "a", "f", "{"), (0, "a", "f", "}")],
        [("a", "f", "{}")],
    ),
    "one index for all": (
        [(0, "a", "f", "{}"), (0, "b", "g", "{}"), (0, "", "", " ")],
        [("a", "f", "{}"), ("b", "g", "{} ")],
    ),
    "without indexes": (
        [(None, "a", "f", "{"), (None, "b", "g", "{}"), (None, "a", "", "}")],
        [("a", "f", "{}"), ("b", "g", "{}")],
    ),
    "without indexes and ids": (
        [(None, "", "f", "{"), (None, "", "", "}"), (None, "", "g", "{}")],
        [("", "f", "{}"), ("", "g", "{}")],
    ),
    "arguments before any name": (
        [(None, "", "", "{}"), (None, "", "", " ")],
        [("", "", "{} ")],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_pieces_find_their_calls(name: str) -> None:
    pieces, expected = STREAMS[name]
    calls = StreamedCalls()
    passed: dict[int, str] = {}
    for piece in pieces:
        call, arguments = calls.add(CallPiece(*piece))
        passed[id(call)] = passed.get(id(call), "") + arguments
    assert [(call.id, call.name, call.arguments) for call in calls.all] == expected
    assert [passed[id(call)] + call.rest() for call in calls.all] == [arguments for *_, arguments in expected]
