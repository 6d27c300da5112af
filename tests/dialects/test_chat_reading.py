"""What a Chat message says, in the shapes of all providers."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import chat_reading
from proxy.dialects.chat_reading import CallPiece

DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param({"content": "a"}, "a", id="text"),
        pytest.param({"content": None}, "", id="null"),
        pytest.param({}, "", id="absent"),
        pytest.param({"content": 5}, "", id="a number"),
        pytest.param(
            {"content": [{"type": "text", "text": "a"}, {"text": "b"}, "c", {"text": 1}]}, "ab", id="parts"
        ),
        pytest.param({"content": [{"type": "thinking", "thinking": [{"text": "no"}]}]}, "", id="thoughts"),
        pytest.param({"content": "\ud83d\ude00 \ud83d"}, "😀 �", id="surrogates"),
    ],
)
def test_content(message: dict[str, Any], text: str) -> None:
    assert chat_reading.content_of(message) == text


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param({"reasoning_content": "a", "reasoning": "b"}, "a", id="reasoning_content"),
        pytest.param({"reasoning_content": "", "reasoning": "b"}, "b", id="reasoning"),
        pytest.param({"reasoning": {"effort": 1}}, "", id="no text"),
        pytest.param(
            {"reasoning_details": [{"text": "a"}, {"summary": "x"}, {"text": "b"}]}, "ab", id="details"
        ),
        pytest.param({"content": "a"}, "", id="none"),
        pytest.param(
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "a"}, {"text": "b"}]},
                    {"type": "thinking", "thinking": "c"},
                    {"type": "text", "text": "no"},
                ]
            },
            "abc",
            id="parts of the content",
        ),
        pytest.param({"reasoning": "ü\udc00"}, "ü�", id="half a pair"),
    ],
)
def test_reasoning(message: dict[str, Any], text: str) -> None:
    assert chat_reading.reasoning_of(message) == text


@pytest.mark.parametrize(
    ("calls", "pieces"),
    [
        pytest.param(None, [], id="none"),
        pytest.param(5, [], id="a number"),
        pytest.param(
            [{"index": 1, "id": "c", "function": {"name": "f", "arguments": "{}"}}],
            [CallPiece(1, "c", "f", "{}")],
            id="a list",
        ),
        pytest.param(
            {"id": "c", "function": {"name": "f", "arguments": "{}"}},
            [CallPiece(None, "c", "f", "{}")],
            id="one",
        ),
        pytest.param([{}, "x", {"function": 5}], [CallPiece(None, "", "", "")] * 2, id="empty ones"),
        pytest.param(
            [{"index": True, "id": 5, "function": {"name": None, "arguments": None}}],
            [CallPiece(None, "", "", "")],
            id="other types",
        ),
        pytest.param(
            [{"function": {"name": "f", "arguments": {"ä": [1, "\ud83d"]}}}],
            [CallPiece(None, "", "f", '{"ä":[1,"�"]}')],
            id="an object for arguments",
        ),
        pytest.param(
            [{"function": {"arguments": DEEP}}], [CallPiece(None, "", "", "")], id="nested too deeply"
        ),
    ],
)
def test_calls(calls: object, pieces: list[CallPiece]) -> None:
    assert chat_reading.calls_of({"tool_calls": calls}) == pieces


def test_refusal() -> None:
    assert chat_reading.refusal_of({"refusal": "no"}) == "no"
    assert chat_reading.refusal_of({"refusal": ["no"]}) == ""


@pytest.mark.parametrize("choices", [None, [], {}, "x", [None], [[]]], ids=repr)
def test_there_may_be_no_choice(choices: object) -> None:
    assert chat_reading.first_choice({"choices": choices}) is None
    assert chat_reading.first_choice({"choices": [{"index": 0}, {"index": 1}]}) == {"index": 0}


@given(text=st.text(alphabet=st.characters(codec=None)))
def test_clean_text_can_be_written_and_is_otherwise_unchanged(text: str) -> None:
    cleaned = chat_reading.clean(text)
    assert msgspec.json.decode(msgspec.json.encode(cleaned)) == cleaned
    try:
        text.encode()
    except UnicodeEncodeError:
        assert chat_reading.clean(cleaned) == cleaned
    else:
        assert cleaned is text


@given(
    message=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["text", "thinking", "function", "name", "id"]), inner, max_size=3
            )
        ),
    ).flatmap(
        lambda value: st.dictionaries(
            st.sampled_from(["content", "reasoning", "reasoning_details", "refusal", "tool_calls"]),
            st.just(value),
        )
    )
)
def test_nothing_raises(message: dict[str, Any]) -> None:
    texts = [
        chat_reading.content_of(message),
        chat_reading.reasoning_of(message),
        chat_reading.refusal_of(message),
        *(call.arguments for call in chat_reading.calls_of(message)),
    ]
    assert all(isinstance(text, str) for text in texts)
