"""Whole Chat answers as messages."""

from typing import Any

import pytest
from hypothesis import given

from proxy.core.entities import Usage
from proxy.dialects.messages_answer import Asked, CallIds, asked_of, message_from_chat, usage_members
from tests.support.messages import USAGE, json_values

Fields = dict[str, Any]


def translated(
    message: object, finish: object = "stop", asked: Asked | None = None, **choice: object
) -> Fields:
    answer = {
        "id": "upstream",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}],
    }
    return message_from_chat(answer, id="msg_1", asked=asked or Asked("claude-x", thinking=True), usage=USAGE)


def call(arguments: object, id: object = "call_abcdefgh", name: object = "f") -> Fields:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_everything_at_once() -> None:
    message = {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "hm",
        "tool_calls": [call('{"city":"Ulm"}'), call("", id="call_12345678", name="g")],
    }
    assert translated(message, "tool_calls") == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "call_abcdefgh", "name": "f", "input": {"city": "Ulm"}},
            {"type": "tool_use", "id": "call_12345678", "name": "g", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 50,
            "cache_creation_input_tokens": 10,
            "cache_read_input_tokens": 40,
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 20},
        },
    }


@pytest.mark.parametrize(
    "answer",
    [{}, {"choices": []}, {"choices": "x"}, {"choices": [1]}, {"choices": [{"message": "x"}]}],
    ids=["nothing", "no choices", "text", "number", "no message"],
)
def test_an_answer_without_content_is_one_empty_text(answer: Fields) -> None:
    message = message_from_chat(answer, id="msg_1", asked=Asked("m"), usage=Usage())
    assert message["content"] == [{"type": "text", "text": ""}]
    assert message["stop_reason"] == "end_turn"


@given(json_values, json_values)
def test_whatever_a_provider_answers_is_a_message(message: Any, value: Any) -> None:
    assert translated(message, value)["content"]
    calls = [call(value, value, value), {"function": value}, value]
    assert translated({"content": value, "tool_calls": calls, "refusal": value}, value)["content"]


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "end_turn"),
        ("content_filter", "refusal"),
        ("sensitive", "refusal"),
        ("model_context_window_exceeded", "model_context_window_exceeded"),
        ("eos", "end_turn"),
        ("", "end_turn"),
        (None, "end_turn"),
        ({}, "end_turn"),
    ],
)
def test_stop_reasons(finish: object, stop: str) -> None:
    assert translated({"content": "x"}, finish)["stop_reason"] == stop


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "content_filter", "function_call", None])
def test_calls_count_for_more_than_the_finish_reason(finish: str | None) -> None:
    assert translated({"tool_calls": [call("{}")]}, finish)["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("arguments", "stop"), [('{"a":', "max_tokens"), ("", "max_tokens"), ('{"a":1}', "tool_use")]
)
def test_a_call_that_is_cut_off_is_none_to_act_on(arguments: str, stop: str) -> None:
    assert translated({"tool_calls": [call(arguments)]}, "length")["stop_reason"] == stop


def test_a_refusal_is_said_and_is_the_reason() -> None:
    message = translated({"content": None, "refusal": "No."})
    assert message["content"] == [{"type": "text", "text": "No."}]
    assert message["stop_reason"] == "refusal"


@pytest.mark.parametrize("member", ["stop_reason", "matched_stop"])
def test_a_stop_sequence_that_the_provider_names(member: str) -> None:
    asked = Asked("m", stop_sequences=("END", "FIN"))
    message = translated({"content": "x"}, asked=asked, **{member: "FIN"})
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "FIN")


@pytest.mark.parametrize("matched", ["other", 128009, None, {}])
def test_what_was_not_asked_for_is_no_stop_sequence(matched: object) -> None:
    message = translated({"content": "x"}, asked=Asked("m", stop_sequences=("END",)), matched_stop=matched)
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)


def test_thinking_is_shown_to_those_who_asked() -> None:
    message = translated({"content": "x", "reasoning_content": "hm"}, asked=Asked("m"))
    assert message["content"] == [{"type": "text", "text": "x"}]


def test_a_call_without_a_name_is_none() -> None:
    message = translated({"tool_calls": [call("{}", name=None)]}, "tool_calls")
    assert message["content"] == [{"type": "text", "text": ""}]


@pytest.mark.parametrize("id", ["", "0", "call_0", "call_12", "call", "tool-3", None])
def test_ids_that_only_count_are_replaced(id: object) -> None:
    message = translated({"tool_calls": [call("{}", id=id), call("{}", id=id)]})
    assert [block["id"] for block in message["content"]] == ["toolu_1_0", "toolu_1_1"]


def test_other_ids_are_kept_unless_they_repeat() -> None:
    ids = CallIds("msg_9")
    given = ["functions.f:0", "call_abcdefgh", "call_abcdefgh", "chatcmpl-tool-1"]
    assert [ids.take(id) for id in given] == [
        "functions.f:0",
        "call_abcdefgh",
        "toolu_9_2",
        "chatcmpl-tool-1",
    ]


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({"model": "m"}, Asked("m")),
        ({"model": 1, "thinking": "x", "stop_sequences": "x"}, Asked("")),
        ({"model": "m", "thinking": {"type": "disabled"}}, Asked("m")),
        ({"model": "m", "thinking": {}}, Asked("m")),
        ({"model": "m", "thinking": {"type": "adaptive"}}, Asked("m", thinking=True)),
        (
            {
                "model": "m",
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "stop_sequences": ["a", 1],
            },
            Asked("m", thinking=True, stop_sequences=("a",)),
        ),
    ],
)
def test_what_an_answer_must_know(body: Fields, asked: Asked) -> None:
    assert asked_of(body) == asked


def test_usage_is_never_negative() -> None:
    usage = usage_members(Usage(input_tokens=10, cached_tokens=8, cache_write_tokens=8, output_tokens=1))
    assert usage == {
        "input_tokens": 0,
        "cache_creation_input_tokens": 8,
        "cache_read_input_tokens": 8,
        "output_tokens": 1,
    }
