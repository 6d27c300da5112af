"""Estimates of requests and answers."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import estimation
from proxy.core.estimation import (
    Calibration,
    OutputCounter,
    estimate_chat_input,
    estimate_plain_input,
    estimate_text,
)
from proxy.core.tokenizers import CLAUDE, DEEPSEEK, O200K, QWEN, QWEN_LIKE

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "type",
                    "content",
                    "text",
                    "tool_calls",
                    "function",
                    "image_url",
                    "source",
                    "input",
                    "url",
                ]
            ),
            values | st.sampled_from(["tool_use", "image", "input_image", "text", "tool"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


def text_tokens(*texts: str) -> float:
    return sum(O200K.milli_tokens(text.encode()) for text in texts) / 1000


def chat(messages: object, tools: object = None, **kwargs: Any) -> int:
    return estimate_chat_input(messages, tools, O200K, **kwargs)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("hello", 1), ("hello world", 2), ("你好", 2), ("\ud800", 1)],
    ids=["nothing", "a word", "two", "Chinese", "half a surrogate pair"],
)
def test_texts_are_rounded_up(text: str, tokens: int) -> None:
    assert estimate_text(text, O200K) == tokens


def test_a_message_costs_four_and_the_reply_three() -> None:
    assert chat([{"role": "user", "content": "hello"}]) == 1 + 4 + 3
    assert chat([]) == 3


def said(role: str, *parts: object) -> dict[str, object]:
    return {"role": role, "content": list(parts)}


FUNCTION = {"name": "get", "arguments": '{"a": 1}'}
SHAPES: dict[str, tuple[object, int, list[str]]] = {
    "text": ({"role": "user", "content": "one two"}, 4, ["one two"]),
    "parts": (
        said("user", {"type": "text", "text": "one"}, {"type": "text", "text": "two"}),
        4,
        ["one", "two"],
    ),
    "name": ({"role": "user", "name": "Ada", "content": "one"}, 4, ["Ada", "one"]),
    "reasoning": ({"role": "assistant", "content": None, "reasoning_content": "hm"}, 4, ["hm"]),
    "tool_calls": (
        {"role": "assistant", "tool_calls": [{"id": "call_12345", "type": "function", "function": FUNCTION}]},
        4 + 8,
        ["get", '{"a": 1}'],
    ),
    "tool": ({"role": "tool", "tool_call_id": "call_12345", "content": "found"}, 4 + 6, ["found"]),
    "function": ({"role": "function", "name": "get", "content": "found"}, 4 + 6, ["get", "found"]),
    "tool_use": (
        said("assistant", {"type": "tool_use", "id": "toolu_1", "name": "get", "input": {"a": [1]}}),
        4 + 8,
        ["get", '{"a":[1]}'],
    ),
    "tool_result": (
        said("user", {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"}),
        4 + 6,
        ["found"],
    ),
    "thinking": (said("assistant", {"type": "thinking", "thinking": "hm", "signature": "c2ln"}), 4, ["hm"]),
    "document": (
        said("user", {"type": "document", "source": {"type": "text", "data": "a file"}}),
        4,
        ["a file"],
    ),
    "call item": ({"type": "function_call", "call_id": "call_12345", **FUNCTION}, 8, ["get", '{"a": 1}']),
    "output item": ({"type": "function_call_output", "call_id": "c", "output": "found"}, 6, ["found"]),
    "reasoning item": (
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "Zm9v",
        },
        0,
        ["hm"],
    ),
}


@pytest.mark.parametrize(("message", "overhead", "texts"), SHAPES.values(), ids=SHAPES)
def test_shapes_of_all_three_protocols(message: object, overhead: int, texts: list[str]) -> None:
    assert chat([message]) == -int(-(text_tokens(*texts) + overhead + 3) // 1)


def test_the_system_prompt_counts_as_a_message() -> None:
    messages = [{"role": "user", "content": "hello"}]
    as_message = chat([{"role": "system", "content": "be brief"}, *messages])
    assert chat(messages, system="be brief") == as_message
    assert chat(messages, system=[{"type": "text", "text": "be brief"}]) == as_message


def test_the_input_of_responses_may_be_a_text() -> None:
    assert chat("hello") == chat([{"role": "user", "content": "hello"}])


@given(st.lists(st.text(max_size=30), max_size=5))
def test_texts_are_counted_apart(texts: list[str]) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    apart = sum(O200K.milli_tokens(text.encode(errors="replace")) for text in texts)
    assert chat(messages) == -(-apart // 1000) + 4 * len(texts) + 3


def test_a_tool_counts_nine_tenths_of_its_compact_json_and_eight() -> None:
    tool = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}
    compact = json.dumps(tool, separators=(",", ":"))
    assert chat([], [tool, tool]) == -int(-(text_tokens(compact) * 2 * 0.9 + 2 * 8 + 3) // 1)
    assert chat([], "no list") == chat([], {}) == 3


PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (1024).to_bytes(4) + (1024).to_bytes(4) + b"\xab" * 300_000
).decode()


@pytest.mark.parametrize(
    ("part", "openai", "claude"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}, 765, 1399),
        (
            {"type": "image_url", "image_url": {"url": "https://example.test/a.png", "detail": "low"}},
            85,
            1500,
        ),
        ({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"}, 85, 1399),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
            765,
            1399,
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://example.test/a.png"}}, 765, 1500),
        ({"type": "input_image", "file_id": "file_1"}, 765, 1500),
        ({"type": "image_url"}, 765, 1500),
    ],
    ids=["data", "low", "responses", "base64", "url", "file", "nothing"],
)
def test_images_count_by_their_size_and_never_as_text(part: object, openai: int, claude: int) -> None:
    messages = [{"role": "user", "content": [part]}]
    assert estimate_chat_input(messages, None, O200K) == openai + 7
    assert estimate_chat_input(messages, None, CLAUDE) == claude + 7


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}},
        {"type": "file", "file": {"file_data": PIXEL}},
        {"type": "input_file", "file_data": PIXEL},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL}},
        {"type": "redacted_thinking", "data": PIXEL},
        {"type": "image_generation_call", "result": PIXEL},
    ],
    ids=lambda part: str(part["type"]),
)
def test_other_media_are_no_text(part: object) -> None:
    assert chat([{"role": "user", "content": [part]}]) == 7


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        ("hello world", 2),
        (["hello", "world"], 2),
        ([1, 2, 3], 3),
        ([[1, 2], [3]], 3),
        ([], 0),
        (None, 0),
        (17, 0),
    ],
    ids=repr,
)
def test_plain_inputs_are_texts_or_token_ids(value: object, tokens: int) -> None:
    assert estimate_plain_input(value, O200K) == tokens


@given(JSON, JSON, JSON)
def test_no_json_makes_it_raise(messages: object, tools: object, system: object) -> None:
    for family in (O200K, QWEN, DEEPSEEK, CLAUDE):
        assert estimate_chat_input(messages, tools, family, system=system) >= 3


def test_nesting_without_end_is_walked_without_recursion() -> None:
    deep: object = "word"
    for _ in range(100_000):
        deep = [deep]
    assert estimate_plain_input(deep, O200K) == 1
    assert chat([], [deep]) == 3 + 8
    # Taken apart by hand: freeing it whole would be recursive, too.
    while isinstance(deep, list):
        deep = deep.pop()


@given(st.text(st.sampled_from("abcdefg AB12.,\n中文字é"), max_size=3000), st.integers(1, 50))
def test_an_answer_in_pieces_counts_as_the_whole(text: str, size: int) -> None:
    whole, pieces = OutputCounter(O200K), OutputCounter(O200K)
    whole.add(text)
    for at in range(0, len(text), size):
        pieces.add(text[at : at + size])
    assert abs(pieces.tokens - estimate_text(text, O200K)) <= 2 * (len(text) // 1024 + 1)
    assert abs(whole.tokens - estimate_text(text, O200K)) <= 4


def test_prose_in_pieces_is_exact() -> None:
    text = "The gateway relays bytes as they come; words are never split in two. " * 200
    counter = OutputCounter(O200K)
    for at in range(0, len(text), 3):
        counter.add(text[at : at + 3])
    assert counter.tokens == estimate_text(text, O200K)


def test_a_counter_keeps_little_of_a_long_answer() -> None:
    counter = OutputCounter(O200K)
    for piece in (" ", "x" * 100_000, "中" * 100_000, "words and words " * 10_000):
        counter.add(piece)
        assert sum(map(len, counter._pieces)) <= 2048
    assert counter.tokens > 100_000


def test_a_counter_can_be_read_at_any_time() -> None:
    counter = OutputCounter(O200K)
    assert counter.tokens == 0
    counter.add("hel")
    assert counter.tokens == counter.tokens == 1
    counter.add("lo")
    assert counter.tokens == 1


def test_calibration_approaches_the_ratio_of_a_model() -> None:
    calibration = Calibration()
    for _ in range(30):
        calibration.observe("a/m", 1000, 1300)
    assert calibration.corrected("a/m", 100) == 130
    assert calibration.corrected("b/m", 100) == 100


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10**9)), max_size=30))
def test_calibration_stays_within_its_bounds(answers: list[tuple[int, int]]) -> None:
    calibration = Calibration()
    for estimated, reported in answers:
        calibration.observe("m", estimated, reported)
    assert 600 <= calibration.corrected("m", 1000) <= 1800


def test_calibration_ignores_short_texts() -> None:
    calibration = Calibration()
    calibration.observe("m", 49, 490)
    assert calibration.corrected("m", 1000) == 1000


def test_calibration_forgets_the_model_not_seen_for_longest() -> None:
    calibration = Calibration()
    for name in ("first", "second", *map(str, range(998)), "first", "one more"):
        calibration.observe(name, 100, 200)
    assert calibration.corrected("second", 1000) == 1000
    assert calibration.corrected("first", 1000) > 1000


def test_the_decoder_and_the_estimator_agree_on_what_json_is() -> None:
    body = b'[{"role":"user","content":"a\\u4e2db"}]'
    assert chat(msgspec.json.decode(body)) == 3 + 4 + 3  # two words of 0.91, an ideograph of 0.75


LONG = "The quick brown fox, 1234 times. " * 20


@pytest.mark.parametrize(
    "text", [LONG, LONG + "你好，世界。" * 100, LONG + "\ud800"], ids=["ascii", "wide", "half"]
)
def test_a_long_text_counts_the_same_each_time_and_for_each_family(text: str) -> None:
    whole = text.encode(errors="replace")
    for family in (O200K, QWEN, QWEN_LIKE) * 2:
        assert estimate_plain_input(text, family) == -(-family.milli_tokens(whole) // 1000)


def test_known_texts_are_bounded() -> None:
    for number in range(5000):
        estimate_plain_input(f"{number} {LONG}", O200K)
    assert len(estimation._known_texts._milli_tokens) == 4096
