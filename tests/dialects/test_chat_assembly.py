"""Chunks put together to the answer that would have come whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.chat_assembly import ChatAssembly
from tests.support.messages import chat_messages, chat_streams, finish_reasons, json_values
from tests.support.responses import call_delta, chunk

Fields = dict[str, Any]


def assembled(*chunks: Fields) -> Fields:
    assembly = ChatAssembly()
    for each in chunks:
        assembly.take(each)
    return assembly.answer()


def message_of(*chunks: Fields) -> Fields:
    [choice] = assembled(*chunks)["choices"]
    message: Fields = choice["message"]
    return message


def normal(message: Fields) -> Fields:
    """Return a message without what is empty; only content has to be there."""
    content = message["content"] or (None if "tool_calls" in message else "")
    return {"content": content} | {name: value for name, value in message.items() if value}


# -- the whole answer is the measure


@given(st.data())
def test_the_chunks_of_a_stream_make_the_whole_answer(data: st.DataObject) -> None:
    message, finish = data.draw(chat_messages()), data.draw(finish_reasons)
    head = {"id": "chatcmpl-1", "created": 1, "model": "m"}
    chunks = [each | head for each in data.draw(chat_streams(message, finish))]
    expected_finish = finish or ("tool_calls" if "tool_calls" in message else "stop")
    assert assembled(*chunks) == {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": normal(message), "finish_reason": expected_finish}],
        "usage": {"prompt_tokens": 1},
    }


@given(message=chat_messages(), finish=finish_reasons)
def test_a_whole_message_in_one_chunk_is_the_answer(message: Fields, finish: str) -> None:
    whole = {"choices": [{"message": message, "finish_reason": finish}]}
    assert message_of(whole) == normal(message)
    assert message_of(chunk({"content": ""}), whole) == normal(message)


@given(st.lists(json_values, max_size=4), st.data())
def test_whatever_comes_an_answer_is_made(values: list[Any], data: st.DataObject) -> None:
    assembly = ChatAssembly()
    for value in values:
        member = data.draw(st.sampled_from(["content", "reasoning_content", "refusal", "tool_calls"]))
        call = {"index": value, "id": value, "function": {"name": value, "arguments": value}}
        shapes = [chunk(value), chunk({member: value}), chunk({"tool_calls": [call]}), {"choices": value}]
        assembly.take(data.draw(st.sampled_from(shapes)))
    answer = assembly.answer()
    assert answer["choices"]
    for choice in answer["choices"]:
        assert choice["finish_reason"] == ("tool_calls" if "tool_calls" in choice["message"] else "stop")
        assert isinstance(choice["message"]["content"], str) or choice["message"]["tool_calls"]
    json.dumps(answer)


# -- cases


def test_nothing_is_an_empty_answer() -> None:
    assert assembled() == {
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"},
        ],
    }


def test_a_repetition_of_the_whole_message_is_none() -> None:
    repeated = {"choices": [{"delta": {}, "message": {"content": "ab"}, "finish_reason": "stop"}]}
    assert message_of(chunk({"content": "a"}), chunk({"content": "b"}), repeated)["content"] == "ab"
    called = chunk(call_delta(0, "{}", id="call_1", name="f"))
    assert message_of(called, repeated)["content"] is None


def test_each_choice_is_put_together_from_its_own_pieces() -> None:
    pieces = [(1, "x", None), (0, "a", None), (1, "y", "length"), (0, "b", "stop")]
    answer = assembled(
        *(
            {"choices": [{"index": i, "delta": {"content": text}, "finish_reason": end}]}
            for i, text, end in pieces
        )
    )
    assert answer["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "xy"}, "finish_reason": "length"},
    ]


def test_logprobs_are_kept() -> None:
    chunks = [chunk({"content": text}) for text in ("a", "b", "c")]
    for token, each in zip(("a", "\ud83d", None), chunks, strict=True):
        tokens = token and [{"token": token, "logprob": -0.5}]
        each["choices"][0]["logprobs"] = {"content": tokens, "refusal": None}
    assert assembled(*chunks)["choices"][0]["logprobs"] == {
        "content": [{"token": "a", "logprob": -0.5}, {"token": "\ufffd", "logprob": -0.5}],
        "refusal": None,
    }


def test_a_call_without_a_name_never_comes_to_be() -> None:
    assert message_of(chunk(call_delta(0, "{}", id="call_1"))) == {"role": "assistant", "content": ""}


def test_the_head_is_that_of_the_first_chunk_that_has_it() -> None:
    first, second = chunk({"content": "a"}), chunk({"content": "b"}, id="other", model="m", created=5)
    assert assembled(first, second).items() >= {"id": "chatcmpl-1", "model": "m", "created": 5}.items()


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda usage: {"choices": [], "usage": usage}, id="in the chunk"),
        pytest.param(lambda usage: {"choices": [{"delta": {}, "usage": usage}]}, id="in the choice"),
        pytest.param(lambda usage: {"choices": [], "x_groq": {"usage": usage}}, id="in x_groq"),
    ],
)
def test_the_last_usage_counts(place: Any) -> None:
    reports = [place({"prompt_tokens": 1}), place({"prompt_tokens": 2}), place(None), chunk({"content": "a"})]
    assert assembled(*reports)["usage"] == {"prompt_tokens": 2}
