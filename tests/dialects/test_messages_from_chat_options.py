"""Chat requests as Messages requests: everything besides the conversation."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import BadRequest
from proxy.dialects.messages_from_chat import messages_request
from proxy.dialects.messages_models import MessagesTraits, messages_traits
from proxy.dialects.messages_request import Translated

Fields = dict[str, Any]
TRAITS = MessagesTraits()
ADAPTIVE = messages_traits("claude-opus-5-5")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "f", "description": "does", "parameters": SCHEMA}}
WRITTEN = {"name": "f", "description": "does", "input_schema": SCHEMA}
HI = {"role": "user", "content": "hi"}
G = {"type": "function", "function": {"name": "g"}}


def translated(traits: MessagesTraits = TRAITS, messages: object = (HI,), **members: object) -> Translated:
    body = {"model": "m", "messages": list(messages), **members}  # type: ignore[call-overload]
    return messages_request(body, max_tokens_default=4096, traits=traits)


def options(traits: MessagesTraits = TRAITS, **members: object) -> Fields:
    body = translated(traits, **members).body
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({}, 4096),
        ({"max_tokens": 9}, 9),
        ({"max_completion_tokens": 8}, 8),
        ({"max_tokens": 9, "max_completion_tokens": 8}, 8),
        ({"max_tokens": None}, 4096),
    ],
)
def test_the_length_is_always_there(given: Fields, length: int) -> None:
    assert options(**given) == {"max_tokens": length}


def test_members_without_a_place_are_dropped_and_counted() -> None:
    request = translated(seed=1, logprobs=True, metadata={}, presence_penalty=None, stream_options={})
    assert request.dropped == {"seed": 1, "logprobs": 1, "metadata": 1}


def test_streams() -> None:
    assert options(stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"user": "u"}, "u"), ({"user": "u", "safety_identifier": "s"}, "s"), ({"user": 1}, None)],
)
def test_the_end_user(given: Fields, expected: str | None) -> None:
    assert options(**given).get("metadata") == (expected and {"user_id": expected})


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"n": 2}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"tools": {}}, "tools"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{"function": {}}]}, "tools[0].function.name"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ],
)
def test_refusals(members: Fields, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translated(**members)
    assert caught.value.param == param
    assert caught.value.code == "invalid_value"


def test_an_empty_list_of_functions_is_none() -> None:
    request = translated(functions=[], function_call=None)
    assert "functions" not in request.body
    assert not request.dropped


def test_once_and_as_text_is_what_messages_answers() -> None:
    assert options(n=1, modalities=["text"]) == {"max_tokens": 4096}


class TestSampling:
    @pytest.mark.parametrize(
        ("given", "kept", "dropped"),
        [
            ({"temperature": 0.5}, {"temperature": 0.5}, {}),
            ({"temperature": 2}, {"temperature": 1}, {}),
            ({"temperature": -1}, {"temperature": 0}, {}),
            ({"temperature": "hot"}, {"temperature": "hot"}, {}),
            ({"top_p": 0.9, "top_k": 5}, {"top_p": 0.9, "top_k": 5}, {}),
            ({"temperature": 1, "top_p": 0.9}, {"temperature": 1}, {"top_p": 1}),
        ],
    )
    def test_where_it_is_taken(self, given: Fields, kept: Fields, dropped: Fields) -> None:
        request = translated(**given)
        assert options(**given) == {"max_tokens": 4096, **kept}
        assert request.dropped == dropped

    def test_where_it_is_not(self) -> None:
        request = translated(replace(TRAITS, sampling=False), temperature=1, top_p=1, top_k=1)
        assert request.dropped == {"temperature": 1, "top_p": 1, "top_k": 1}

    def test_a_model_that_thinks_samples_its_own_way(self) -> None:
        assert translated(temperature=0.5, reasoning_effort="low").dropped == {"temperature": 1}

    @pytest.mark.parametrize(
        ("stop", "expected"),
        [("END", ["END"]), (["a", " ", "", 1, "b"], ["a", "b"]), ("\n", None), (1, None), ([], None)],
    )
    def test_stop_sequences(self, stop: object, expected: object) -> None:
        assert options(stop=stop).get("stop_sequences") == expected


class TestThinking:
    @pytest.mark.parametrize(
        ("effort", "length", "budget"),
        [
            ("minimal", 4096, 1024),
            ("low", 4096, 2048),
            ("medium", 4096, 2048),
            ("high", 64000, 16384),
            ("odd", 64000, 8192),
            (7, 64000, 8192),
            ("high", 1500, 1024),
        ],
    )
    def test_within_a_budget(self, effort: object, length: int, budget: int) -> None:
        thinking = options(reasoning_effort=effort, max_tokens=length)["thinking"]
        assert thinking == {"type": "enabled", "budget_tokens": budget}

    @pytest.mark.parametrize(
        ("traits", "length"),
        [(TRAITS, 1024), (TRAITS, "many"), (replace(TRAITS, thinking="none"), 9000)],
        ids=["too short", "no number", "a model that cannot"],
    )
    def test_not_at_all(self, traits: MessagesTraits, length: object) -> None:
        request = translated(traits, reasoning_effort="high", max_tokens=length)
        assert "thinking" not in request.body
        assert request.dropped == {"reasoning_effort": 1}

    @pytest.mark.parametrize("effort", [None, "none"])
    def test_off(self, effort: str | None) -> None:
        assert options(ADAPTIVE, reasoning_effort=effort) == {"max_tokens": 4096}

    @pytest.mark.parametrize(
        ("effort", "expected"), [("minimal", "low"), ("xhigh", "xhigh"), ("odd", "medium")]
    )
    def test_adaptively(self, effort: str, expected: str) -> None:
        assert options(ADAPTIVE, reasoning_effort=effort) == {
            "max_tokens": 4096,
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": expected},
        }

    def test_in_the_midst_of_tool_calls_the_thoughts_must_be_there(self) -> None:
        call = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
        said = {"role": "assistant", "content": "look", "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": "a", "content": "done"}
        thought = {"type": "thinking", "thinking": "hm", "signature": "sig"}
        with_thoughts = said | {"thinking_blocks": [thought]}
        later = {"role": "assistant", "content": "done"}
        for messages, thinks in [
            ((HI, said, result), False),
            ((HI, with_thoughts, result), True),
            ((HI, said, result, later, HI), True),
            ((HI,), True),
        ]:
            assert ("thinking" in options(messages=messages, reasoning_effort="low")) is thinks
        assert "thinking" in options(ADAPTIVE, messages=(HI, said, result), reasoning_effort="low")


class TestTools:
    def test_functions(self) -> None:
        assert options(tools=[TOOL], tool_choice="auto") == {"max_tokens": 4096, "tools": [WRITTEN]}

    def test_a_schema_is_of_an_object(self) -> None:
        assert options(tools=[G])["tools"] == [{"name": "g", "input_schema": {"type": "object"}}]

    def test_cache_markers_stay(self) -> None:
        [tool] = options(tools=[TOOL | {"cache_control": {"type": "ephemeral"}}])["tools"]
        assert tool["cache_control"] == {"type": "ephemeral"}

    def test_strict_where_it_is_taken(self) -> None:
        strict = {"type": "function", "function": {"name": "f", "strict": True, "odd": 1}}
        assert "strict" not in options(tools=[strict])["tools"][0]
        request = translated(ADAPTIVE, tools=[strict])
        assert request.body["tools"][0]["strict"] is True
        assert request.dropped == {"tools.odd": 1}

    def test_other_tools_are_dropped(self) -> None:
        request = translated(
            tools=[{"type": "custom", "custom": {"name": "patch"}}, {}], tool_choice="required"
        )
        assert "tools" not in request.body
        assert "tool_choice" not in request.body
        assert request.dropped == {"tools.custom": 1, "tools.None": 1}

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            (None, None),
            ("auto", None),
            ("none", {"type": "none"}),
            ("required", {"type": "any"}),
            ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ],
    )
    def test_choices(self, choice: object, expected: object) -> None:
        assert options(tools=[TOOL], tool_choice=choice).get("tool_choice") == expected

    @pytest.mark.parametrize(("mode", "expected"), [("auto", None), ("required", {"type": "any"})])
    def test_allowed_tools(self, mode: str, expected: object) -> None:
        allowed = {"mode": mode, "tools": [G, {"type": "odd"}, 1]}
        given = options(tools=[TOOL, G], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
        assert [tool["name"] for tool in given["tools"]] == ["g"]
        assert given.get("tool_choice") == expected

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ("auto", {"type": "auto", "disable_parallel_tool_use": True}),
            ("required", {"type": "any", "disable_parallel_tool_use": True}),
            ("none", {"type": "none"}),
        ],
    )
    def test_one_call_at_a_time(self, choice: str, expected: Fields) -> None:
        given = options(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)
        assert given["tool_choice"] == expected

    def test_a_model_that_thinks_cannot_be_made_to_call(self) -> None:
        request = translated(tools=[TOOL], tool_choice="required", reasoning_effort="low")
        assert "tool_choice" not in request.body
        assert request.dropped == {"tool_choice": 1}


WANTED = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}


class TestFormat:
    def test_a_schema_beside_an_effort(self) -> None:
        config = options(ADAPTIVE, response_format=WANTED, reasoning_effort="low")["output_config"]
        assert config == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}

    def test_a_schema_in_words(self) -> None:
        [told] = options(response_format=WANTED)["system"]
        assert '{"city":{"type":"string"}}' in told["text"]

    @pytest.mark.parametrize("wanted", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {}}])
    def test_any_object(self, wanted: Fields) -> None:
        messages = ({"role": "system", "content": "Be kind."}, HI)
        texts = [block["text"] for block in options(messages=messages, response_format=wanted)["system"]]
        assert texts == ["Be kind.", "Answer with one JSON object and nothing else."]

    @pytest.mark.parametrize("wanted", [None, {"type": "text"}, "json"])
    def test_text(self, wanted: object) -> None:
        assert options(response_format=wanted) == {"max_tokens": 4096}
