"""What is kept of one request for the next: thoughts, and what providers turned out to refuse."""

from typing import Any

import pytest

from proxy.core.errors import UpstreamFailure, UpstreamRefused
from proxy.core.routing import Deployment
from proxy.gateway import quirks, reasoning
from proxy.gateway.quirks import Quirks
from proxy.gateway.reasoning import MAX_CALLS_PER_KEY, MAX_CHARS_PER_KEY, MAX_KEYS, ReasoningMemory, Thoughts

UP = Deployment("up", "um")


def calling(*ids: object, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"id": id} for id in ids], **more}


def given_back(memory: ReasoningMemory, id: str, key: str = "k") -> str:
    message = calling(id)
    assert memory.give_back(key, [message])
    thoughts: str = message["reasoning_content"]
    return thoughts


def test_thoughts_belong_to_the_calls_of_one_key() -> None:
    memory = ReasoningMemory()
    memory.remember("k", ["a", "b"], "hm")
    assert given_back(memory, "b") == "hm"
    assert given_back(memory, "c") == ""
    assert given_back(memory, "a", key="another") == ""


@pytest.mark.parametrize(
    "message",
    [
        calling("a", reasoning_content="my own"),
        {"role": "assistant", "content": "Hello"},
        {"role": "assistant", "tool_calls": "a"},
        calling(None, "", 7),
        "a",
    ],
)
def test_only_calls_without_thoughts_are_given_them(message: Any) -> None:
    memory = ReasoningMemory()
    memory.remember("k", ["a"], "hm")
    before = repr(message)
    assert not memory.give_back("k", [message])
    assert not memory.give_back("k", message)
    assert repr(message) == before


def test_empty_thoughts_are_none() -> None:
    memory = ReasoningMemory()
    memory.remember("k", ["a"], "hm")
    known, forgotten = calling("a", reasoning_content=""), calling("b", reasoning_content="")
    assert memory.give_back("k", [known, forgotten])
    assert [known["reasoning_content"], forgotten["reasoning_content"]] == ["hm", ""]
    assert not memory.give_back("k", [forgotten])


def test_the_oldest_calls_are_forgotten() -> None:
    memory = ReasoningMemory()
    memory.remember("k", ["a"], "first")
    memory.remember("k", ["b"], "second")
    memory.remember("k", ["a"], "again")
    memory.remember("k", [f"call_{i}" for i in range(MAX_CALLS_PER_KEY - 1)], "x")
    assert given_back(memory, "b") == ""
    assert given_back(memory, "a") == "again"


def test_long_thoughts_crowd_out_older_ones() -> None:
    memory = ReasoningMemory()
    memory.remember("k", ["a"], "y")
    memory.remember("k", ["b"], "x" * (MAX_CHARS_PER_KEY - 1))
    assert given_back(memory, "a") == "y"
    memory.remember("k", ["c"], "z")
    assert given_back(memory, "a") == ""
    assert given_back(memory, "c") == "z"
    memory.remember("k", ["d"], "x" * (MAX_CHARS_PER_KEY + 1))
    assert [given_back(memory, id) for id in "bcd"] == ["", "", ""]


def test_the_keys_used_least_recently_are_forgotten() -> None:
    memory = ReasoningMemory()
    for key in ("idle", "busy", *map(str, range(MAX_KEYS - 2)), "busy", "new"):
        memory.remember(key, ["a"], "hm")
    assert [given_back(memory, "a", key=key) for key in ("idle", "busy", "new")] == ["", "hm", "hm"]


def test_thoughts_are_taken_from_chunks_and_from_whole_answers() -> None:
    thoughts = Thoughts()
    for choices in (
        [{"delta": {"reasoning_content": "h"}}],
        [{"delta": {"reasoning_content": "m"}}, {"delta": {"reasoning_content": "not the first"}}],
        [{"delta": {"reasoning_content": 1, "tool_calls": [{"id": "a"}, {"index": 0}, None]}}],
        [{"message": {"reasoning_content": "!", "tool_calls": [{"id": "b"}]}}],
        [{"delta": None}],
        [None],
        [],
        None,
    ):
        thoughts.take({"choices": choices})
    assert (thoughts.text, thoughts.call_ids) == ("hm!", ["a", "b"])
    assert reasoning.call_ids_of({}) == []


def refusal(message: str, status: int = 400) -> UpstreamFailure:
    return UpstreamRefused("invalid_value", message, status=status)


def test_stream_options_are_a_matter_of_the_provider() -> None:
    learnt = Quirks()
    no_options = refusal("stream_options: Extra inputs are not permitted", 422)
    assert not learnt.learn(no_options, UP, asked_usage=False, streamed=True)
    assert not learnt.refuses_stream_options("up")
    assert learnt.learn(no_options, UP, asked_usage=True, streamed=True)
    assert learnt.refuses_stream_options("up")
    assert not learnt.refuses_stream_options("other")


def test_streaming_alone_is_a_matter_of_the_model() -> None:
    learnt = Quirks()
    only = refusal("parameter.enable_thinking must be set to false for non-streaming calls")
    assert not learnt.learn(only, UP, asked_usage=False, streamed=True)
    assert not learnt.learn(refusal("must stream", 404), UP, asked_usage=False, streamed=False)
    assert not learnt.learn(refusal("too hot"), UP, asked_usage=True, streamed=False)
    assert not learnt.only_streams(UP)
    assert learnt.learn(only, UP, asked_usage=False, streamed=False)
    assert learnt.only_streams(UP)
    assert not learnt.only_streams(Deployment("up", "other"))


def test_what_is_learnt_about_models_is_bounded() -> None:
    learnt = Quirks()
    for number in range(quirks.MAX_REMEMBERED + 1):
        learnt.learn(refusal("must stream"), Deployment("up", str(number)), asked_usage=False, streamed=False)
    assert not learnt.only_streams(Deployment("up", "0"))
    assert learnt.only_streams(Deployment("up", str(quirks.MAX_REMEMBERED)))
