"""Arguments of tool calls: text here, an object there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.messages_json import arguments_object, compact, parsed_object
from tests.support.messages import arguments, json_values

DEEP = "[" * 100_000 + "]" * 100_000


@given(arguments)
def test_there_and_back(given: dict[str, Any]) -> None:
    assert arguments_object(compact(given)) == given
    assert parsed_object(json.dumps(given)) == given


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" \n", {}),
        ("null", {}),
        ('{"a":1}', {"a": 1}),
        ('"{\\"a\\":1}"', {"a": 1}),
        ('{"a":"x\ny"}', {"a": "x\ny"}),
        (' {"a":1}{"a":1}', {"a": 1}),
        ('{"a":1', {"_raw": '{"a":1'}),
        ("[1]", {"_raw": "[1]"}),
        ("7", {"_raw": "7"}),
        ('"text"', {"_raw": '"text"'}),
        ("{'a': 1}", {"_raw": "{'a': 1}"}),
        ('{"a":"\ud83d"}', {"a": "\ud83d"}),
        (DEEP, {"_raw": DEEP}),
    ],
    ids=[
        *("nothing", "blank", "null", "object", "encoded twice", "raw line break", "sent twice", "cut off"),
        *("list", "number", "text", "Python", "half a surrogate pair", "too deep to read"),
    ],
)
def test_arguments(text: str, expected: dict[str, Any]) -> None:
    assert arguments_object(text) == expected


@pytest.mark.parametrize(("depth", "is_kept"), [(150, True), (250, False)])
def test_arguments_are_as_deep_as_can_be_written_again(depth: int, is_kept: bool) -> None:
    text = '{"a":' * depth + "1" + "}" * depth
    assert ("_raw" not in arguments_object(text)) is is_kept


def test_many_brackets_are_not_deep() -> None:
    text = json.dumps({"a": [[]] * 500})
    assert arguments_object(text) == json.loads(text)


@given(st.text())
def test_any_text_is_an_object(text: str) -> None:
    assert isinstance(arguments_object(text), dict)


@given(json_values)
def test_only_objects_are_parsed(value: Any) -> None:
    assert parsed_object(json.dumps(value)) == (value if isinstance(value, dict) else None)


def test_what_cannot_be_written_plainly() -> None:
    assert compact({"a": "\ud83d"}) == '{"a":"\\ud83d"}'
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert compact(deep) == "{}"
    while deep:  # freeing it all at once would overflow the stack of some versions
        deep = deep.pop()
