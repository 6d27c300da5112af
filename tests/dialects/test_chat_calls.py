"""The tool calls of a stream: what the pieces of one make, and to which call each belongs."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.chat_calls import StreamedCall, StreamedCalls
from proxy.dialects.chat_reading import CallPiece
from tests.support.messages import arguments, pieces


def passed_on(cut: list[str]) -> str:
    """Return what is passed on of these pieces, to the end."""
    call = StreamedCall("call_1")
    out = "".join(call.add(piece) for piece in cut if piece)
    return out + call.rest()


# Objects that hold themselves again are what makes deltas look like cumulative text.
nested = st.integers(0, 5).map(lambda depth: json.loads('{"a":' * depth + "{}" + "}" * depth))


@given(st.data(), arguments | nested)
def test_deltas(data: st.DataObject, given: Any) -> None:
    whole = json.dumps(given, separators=(",", ":"))
    assert passed_on(data.draw(pieces(whole))) == whole


@given(st.data(), arguments | nested)
def test_all_so_far_with_every_piece(data: st.DataObject, given: Any) -> None:
    whole = json.dumps(given, separators=(",", ":"))
    cut = data.draw(pieces(whole))
    assert passed_on(["".join(cut[: end + 1]) for end in range(len(cut))]) == whole


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (['{"a":', "1}", '{"a":1}'], '{"a":1}'),
        (['{"a":', '{"a":', '{"a":', "1}}}"], '{"a":{"a":{"a":1}}}'),
        (['{"a":', '{"a":{"a":1}}', "}"], '{"a":{"a":{"a":1}}}'),
        (['{"a":', '{"a":1}}'], '{"a":{"a":1}}'),
        (['{"a":1}'] * 20, '{"a":1}'),
        (["{", '{"a"', '{"a":'], '{"a":'),
    ],
    ids=[
        "whole once more at the end",
        "nested in itself",
        "doubt that ends",
        "doubt to the end",
        "the same again and again",
        "cut off",
    ],
)
def test_arguments(cut: list[str], expected: str) -> None:
    assert passed_on(cut) == expected


def test_long_arguments_that_are_sent_anew_are_not_held_for_ever() -> None:
    call = StreamedCall("call_1")
    whole = json.dumps({"text": "x" * 100})
    out = "".join(call.add(whole[:end]) for end in range(1, len(whole)))
    assert len(out) > len(whole) - 20
    assert out + call.add(whole) + call.rest() == whole


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["get_weather"], "get_weather"),
        (["get_weather", "get_weather"], "get_weather"),
        (["get_", "weather"], "get_weather"),
        (["get_", "get_weather"], "get_weather"),
    ],
    ids=["once", "repeated", "in pieces", "cumulative"],
)
def test_names(names: list[str], expected: str) -> None:
    call = StreamedCall("")
    for name in names:
        call.add_name(name)
    assert not call.ready
    call.add("{")
    assert call.ready
    call.add_name("other")
    assert call.name == expected


def test_a_call_is_complete_when_no_piece_can_come_any_more() -> None:
    call = StreamedCall("")
    assert not call.complete
    call.add('{"a":')
    call.add('{"a":1}')
    assert not call.complete  # either {"a":1}, or the beginning of {"a":{"a":1}}
    assert call.arguments == '{"a":1}'
    call.add("}")
    assert call.complete
    assert call.arguments == call.settled == '{"a":{"a":1}}'


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
    "one index for all, without ids": (
        [(0, "", "f", '{"a":1}'), (0, "", "g", '{"b":2}'), (0, "", "g", '{"b":3}')],
        [("", "f", '{"a":1}'), ("", "g", '{"b":2}'), ("", "g", '{"b":3}')],
    ),
    "one index and id for all": (
        [(0, "call_0", "f", '{"a":1}'), (0, "call_0", "g", '{"b":2}')],
        [("call_0", "f", '{"a":1}'), ("call_0", "g", '{"b":2}')],
    ),
    "one id for all, without indexes": (
        [(None, "call_0", "f", '{"a":1}'), (None, "call_0", "g", ""), (None, "call_0", "", '{"b":2}')],
        [("call_0", "f", '{"a":1}'), ("call_0", "g", '{"b":2}')],
    ),
    "two functions with the same arguments": (
        [(0, "", "f", "{}"), (0, "", "g", "{}")],
        [("", "f", "{}"), ("", "g", "{}")],
    ),
    "whole pieces sent twice": (
        [(0, "", "f", '{"a":1}'), (0, "", "f", '{"a":1}'), (0, "", "g", "{}"), (0, "", "g", "{}")],
        [("", "f", '{"a":1}'), ("", "g", "{}")],
    ),
    "sent twice, then the same function": (
        [(0, "", "f", '{"a":1}'), (0, "", "f", '{"a":1}'), (0, "", "f", '{"a":2}')],
        [("", "f", '{"a":1}'), ("", "f", '{"a":2}')],
    ),
    "all so far, with the name": (
        [(0, "", "f", '{"a":'), (0, "", "f", '{"a":1'), (0, "", "f", '{"a":1}'), (0, "", "f", "")],
        [("", "f", '{"a":1}')],
    ),
    "nested in itself, with the name": (
        [(0, "", "f", '{"a":'), (0, "", "f", '{"a":1}'), (0, "", "f", "}")],
        [("", "f", '{"a":{"a":1}}')],
    ),
    "without indexes and ids, one function twice": (
        [(None, "", "f", ""), (None, "", "", "{}"), (None, "", "f", ""), (None, "", "", "{}")],
        [("", "f", "{}"), ("", "f", "{}")],
    ),
    "a name behind the arguments": (
        [(0, "", "", "{}"), (0, "a", "f", "")],
        [("", "f", "{}")],
    ),
    "arguments before any name": (
        [(None, "", "", "{}"), (None, "", "", " ")],
        [("", "", "{} ")],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_pieces_find_their_calls(name: str) -> None:
    given_pieces, expected = STREAMS[name]
    calls = StreamedCalls()
    passed: dict[int, str] = {}
    for piece in given_pieces:
        call, passed_now = calls.add(CallPiece(*piece))
        passed[id(call)] = passed.get(id(call), "") + passed_now
    assert [(call.id, call.name, call.arguments) for call in calls.all] == expected
    assert [passed[id(call)] + call.rest() for call in calls.all] == [whole for *_, whole in expected]
