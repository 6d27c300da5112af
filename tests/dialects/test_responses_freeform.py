"""Freeform input inside of JSON, however its pieces are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.responses_freeform import FreeformInput

PATCH = '*** Begin Patch\n+print("ü \\n 😀")\n*** End Patch'


def read(*pieces: str) -> str:
    reader = FreeformInput()
    return "".join([reader.feed(piece) for piece in pieces] + [reader.finish()])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(json.dumps({"input": PATCH}), PATCH, id="escaped"),
        pytest.param(json.dumps({"input": PATCH}, ensure_ascii=False), PATCH, id="as it is"),
        pytest.param(' {\n "input" : "a" }', "a", id="with blanks"),
        pytest.param('{"input":""}', "", id="empty"),
        pytest.param('{"input":"a","more":"b"}', "a", id="with more behind it"),
        pytest.param('{"input":"a\nb"}', "a\nb", id="with a raw line break"),
        pytest.param(r'{"input":"\d\/\u12\ud8\"\b"}', '\\d/\\u12\\ud8"\b', id="with bad escapes"),
        pytest.param(r'{"input":"\ud83d\ude00"}', "😀", id="a surrogate pair"),
        pytest.param(
            r'{"input":"\ud83d x \ude00 \ud83d\n \ud83d\ud83d\ude00"}', "� x � �\n �😀", id="halves"
        ),
        pytest.param('{"input":"cut', "cut", id="cut off"),
        pytest.param('{"input":"cut\\', "cut", id="cut off in an escape"),
        pytest.param('{"input":"cut\\ud83d\\u', "cut", id="cut off in a pair"),
        pytest.param('{"in', '{"in', id="cut off before it began"),
        pytest.param("", "", id="nothing"),
        pytest.param("*** Begin Patch", "*** Begin Patch", id="plain text"),
        pytest.param(PATCH * 5, PATCH * 5, id="much plain text"),
        pytest.param('{"patch":"a"}', "a", id="under another name"),
        pytest.param('{"reason":"b","input":"a"}', "a", id="not the first"),
        pytest.param(json.dumps({"reason": "b" * 80, "input": "a"}), "a", id="far behind"),
        pytest.param('{"a":"b","c":"d"}', '{"a":"b","c":"d"}', id="none of several"),
        pytest.param('{"input":5}', '{"input":5}', id="no text"),
        pytest.param('["a"]', '["a"]', id="no object"),
        pytest.param("[" * 100_000, "[" * 100_000, id="deeply nested"),
    ],
)
def test_the_text_is_found(arguments: str, text: str) -> None:
    assert read(arguments) == text
    assert read(*arguments[:2000]) == read(arguments[:2000])


def test_text_comes_as_soon_as_it_can_be_read() -> None:
    reader = FreeformInput()
    pieces = ['{"in', 'put":', '"a', "b\\", "n\\ud83", "d", "\\ude00c", '"', "}"]
    assert [reader.feed(piece) for piece in pieces] == ["", "", "a", "b", "\n", "", "😀c", "", ""]
    assert reader.finish() == ""


@given(
    text=st.text(),
    ascii=st.booleans(),
    head=st.sampled_from(['{"input":', ' { "input" : ']),
    cut=st.integers(0, 20),
    data=st.data(),
)
def test_pieces_make_no_difference(text: str, ascii: bool, head: str, cut: int, data: st.DataObject) -> None:
    whole = head + json.dumps(text, ensure_ascii=ascii) + "}"
    assert read(whole) == text
    whole = whole[: len(whole) - cut]
    places = data.draw(st.lists(st.integers(0, len(whole))).map(sorted))
    pieces = [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]
    assert read(*pieces) == read(whole)


@given(arguments=st.text(alphabet='\\u"dD8aAfF0}{: input😀', max_size=100), data=st.data())
def test_nonsense_is_read_the_same_in_pieces(arguments: str, data: st.DataObject) -> None:
    arguments = data.draw(st.sampled_from(["", '{"input":"'])) + arguments
    assert read(*arguments) == read(arguments)
