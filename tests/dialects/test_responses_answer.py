"""Whole Chat answers as responses, and that streams come to the same."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.dialects.responses_answer import response_from_chat
from proxy.dialects.responses_context import ResponsesContext, Tool
from proxy.dialects.responses_reasoning import sealed
from tests.support.responses import CREATED_AT, MODEL, CountedIds, call_delta, chunk, plain, translated

Fields = dict[str, Any]

TOOLS = {"crm__find": Tool("find", "crm"), "apply_patch": Tool("apply_patch", custom=True)}
CONTEXTS = [
    ResponsesContext(tools=TOOLS, summaries=summaries, encrypted=encrypted)
    for summaries in (False, True)
    for encrypted in (False, True)
]


def answered(
    message: object, finish_reason: object = "stop", context: ResponsesContext | None = None, **more: Any
) -> Fields:
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], **more}
    return response(answer, context)


def response(answer: Fields, context: ResponsesContext | None = None, usage: Usage | None = None) -> Fields:
    return plain(
        response_from_chat(
            answer,
            context or ResponsesContext(),
            ids=CountedIds(),
            created_at=CREATED_AT,
            model=MODEL,
            usage=usage,
        )
    )


def call(name: str, arguments: object, id: str = "call_a") -> Fields:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_reasoning_then_message_then_calls() -> None:
    message = {
        "role": "assistant",
        "content": "Hi",
        "refusal": "but no",
        "reasoning_content": "why",
        "tool_calls": [
            call("f", '{"x":1}'),
            call("crm__find", "", id=""),
            call("apply_patch", '{"input":"+a\\n"}', id="call_a"),
            call("", "{}"),
        ],
    }
    context = ResponsesContext(tools=TOOLS, summaries=True, encrypted=True)
    made = answered(message, "tool_calls", context)
    reasoning, text, *calls = made["output"]
    assert reasoning == {
        "type": "reasoning",
        "id": reasoning["id"],
        "status": "completed",
        "summary": [{"type": "summary_text", "text": "why"}],
        "encrypted_content": sealed("why"),
    }
    assert text["content"] == [
        {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "but no"},
    ]
    assert [(item["type"], item["name"], item.get("namespace")) for item in calls] == [
        ("function_call", "f", None),
        ("function_call", "find", "crm"),
        ("custom_tool_call", "apply_patch", None),
    ]
    assert [item.get("arguments", item.get("input")) for item in calls] == ['{"x":1}', "{}", "+a\n"]
    assert calls[0]["call_id"] == "call_a"
    assert len({item["call_id"] for item in calls} | {""}) == 4
    assert len({item["id"] for item in made["output"]}) == 5
    assert [item["id"].partition("_")[0] for item in made["output"]] == ["rs", "msg", "fc", "fc", "ctc"]
    assert (made["id"], made["object"], made["status"]) == ("resp_1", "response", "completed")
    assert (made["created_at"], made["model"]) == (CREATED_AT, MODEL)


@pytest.mark.parametrize(
    ("message", "types"),
    [
        pytest.param({"content": None}, ["message"], id="nothing"),
        pytest.param(None, ["message"], id="no message"),
        pytest.param({"content": "", "reasoning": "why"}, ["reasoning"], id="reasoning alone"),
        pytest.param({"content": "", "tool_calls": [call("f", "{}")]}, ["function_call"], id="calls alone"),
        pytest.param(
            {"content": "", "tool_calls": [call("", "{}")]}, ["message"], id="a call without a name"
        ),
    ],
)
def test_a_message_stands_for_nothing(message: object, types: list[str]) -> None:
    output = answered(message)["output"]
    assert [item["type"] for item in output] == types
    if types == ["message"]:
        assert output[0]["content"] == [
            {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        ]


def test_an_answer_that_was_cut_off() -> None:
    made = answered({"content": "a", "tool_calls": [call("f", '{"x')]}, "length")
    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert [item["status"] for item in made["output"]] == ["completed", "incomplete"]
    assert made["output"][1]["arguments"] == '{"x'


def test_usage() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    details = {
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    expected = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 13,
    }
    assert answered({"content": "a"}, usage={**usage, **details})["usage"] == expected
    assert answered({"content": "a"})["usage"] is None
    metered = response(
        {"choices": [], "usage": usage}, usage=Usage(9, 4, cached_tokens=3, reasoning_tokens=2)
    )
    assert metered["usage"] == expected


PROVIDER_IDS = ("call_a", "call_b")
TEXTS = st.text(max_size=20)
ARGUMENTS = st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers(), max_size=2)
CALLS = st.tuples(
    st.sampled_from(["f", "crm__find", "apply_patch"]),
    ARGUMENTS.map(json.dumps)
    | TEXTS.map(lambda text: json.dumps({"input": text}))
    | st.sampled_from(["", "plain", '{"input":"cut']),
    st.sampled_from(["", *PROVIDER_IDS]),
).map(lambda made: call(*made))
MESSAGES = st.fixed_dictionaries(
    {
        "reasoning_content": TEXTS,
        "content": st.none() | TEXTS,
        "refusal": st.none() | st.text(max_size=5),
        "tool_calls": st.lists(CALLS, max_size=3),
    }
)


def cut(text: str, data: st.DataObject) -> list[str]:
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=4).map(sorted))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def deltas_of(message: Fields, data: st.DataObject) -> list[Fields]:
    """Cut a message into deltas as a provider would; the pieces of several calls may take turns."""
    deltas: list[Fields] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: piece} for piece in cut(message[name] or "", data)]
    rest: dict[int, list[str]] = {}
    for index, made in enumerate(message["tool_calls"]):
        name = made["function"]["name"]
        first, *rest[index] = cut(made["function"]["arguments"], data)
        # What begins again from the start is taken for arguments that are repeated whole.
        begun, *further = [piece for piece in (first, *rest[index]) if piece] or [""]
        assume(not any(piece.startswith(begun) for piece in further))
        deltas.append(call_delta(index, first, id=made["id"], name=name))
    turns = data.draw(st.permutations([index for index in rest for _ in rest[index]]))
    return deltas + [call_delta(index, rest[index].pop(0)) for index in turns]


@given(
    message=MESSAGES,
    finish_reason=st.sampled_from(["stop", "tool_calls", "length", "content_filter", ""]),
    context=st.sampled_from(CONTEXTS),
    data=st.data(),
)
def test_a_stream_comes_to_the_same(
    message: Fields, finish_reason: str, context: ResponsesContext, data: st.DataObject
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    whole = answered(message, finish_reason, context, usage=usage)
    chunks = [chunk(delta) for delta in deltas_of(message, data)] + [chunk({}, finish_reason)]
    streamed = translated([*chunks, {"choices": [], "usage": usage}], context)[-1]["response"]
    assert without_ids(streamed) == without_ids(whole)


def without_ids(made: Fields) -> Fields:
    """Return a response without the ids that were made for it; calls keep those they came with."""
    output = [{**item, "id": None} for item in made["output"]]
    for item in output:
        if item.get("call_id") not in PROVIDER_IDS:
            item["call_id"] = None
    return {**made, "output": output}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "tool_calls", "function", "name", "usage", "finish_reason"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    answer=st.dictionaries(st.sampled_from(["choices", "usage", "x_groq"]), JSON),
    context=st.sampled_from(CONTEXTS),
)
def test_any_answer_is_a_response(answer: Fields, context: ResponsesContext) -> None:
    assert response(answer, context)["output"]
