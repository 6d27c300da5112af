"""The official SDK as a client of the translation: what it sends is taken, what it gets it accepts."""

import json
from typing import Any

import httpx2
import msgspec
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from proxy.dialects.responses_answer import response_from_chat
from proxy.dialects.responses_events import ResponseEvents
from proxy.dialects.responses_request import chat_request
from proxy.dialects.traits import ChatTraits
from tests.support.responses import CREATED_AT, CountedIds, call_delta, chunk, events_in

Fields = dict[str, Any]

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
TOOLS: Any = [
    {
        "type": "function",
        "name": "f",
        "description": "x",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
        "strict": True,
    },
    {
        "type": "custom",
        "name": "apply_patch",
        "format": {"type": "grammar", "syntax": "lark", "definition": "s"},
    },
    {"type": "namespace", "name": "crm", "description": "x", "tools": [{"type": "function", "name": "find"}]},
    {"type": "web_search"},
]
CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Think"}),
    chunk({"reasoning_content": " hard"}),
    chunk({"content": "Let me "}),
    chunk({"content": "see ü"}),
    chunk(call_delta(0, "", id="call_a", name="f")),
    chunk(call_delta(0, '{"x"')),
    chunk(call_delta(1, '{"input":"+', id="call_b", name="apply_patch")),
    chunk(call_delta(0, ":1}")),
    chunk(call_delta(1, 'a\\n"}')),
    chunk(call_delta(2, "{}", id="call_c", name="crm__find")),
    chunk({}, "tool_calls"),
    {"choices": [], "usage": USAGE},
]
ANSWER = {
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "Let me see ü",
                "reasoning_content": "Think hard",
                "tool_calls": [
                    {"id": "call_a", "function": {"name": "f", "arguments": '{"x":1}'}},
                    {"id": "call_b", "function": {"name": "apply_patch", "arguments": '{"input":"+a\\n"}'}},
                    {"id": "call_c", "function": {"name": "crm__find", "arguments": "{}"}},
                ],
            },
        }
    ],
    "usage": USAGE,
}


def client_of(chunks: list[Fields], answer: Fields | None = None, *, failing: bool = False) -> OpenAI:
    """Return a client whose requests are translated, answered with these, and translated back."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        context = chat_request(body, ChatTraits()).context
        made: Fields = {"ids": CountedIds(), "created_at": CREATED_AT, "model": body["model"]}
        if not body.get("stream"):
            assert answer is not None
            data = msgspec.json.encode(response_from_chat(answer, context, **made))
            Response.model_validate_json(data)
            return httpx2.Response(200, content=data, headers={"content-type": "application/json"})
        events = ResponseEvents(context, **made)
        data = b"".join(events.feed(each) + events.keep_alive() for each in chunks)
        data += events.fail("server_error", "Gone.") if failing else events.ending()
        for event in events_in(data):
            EVENT.validate_python(event)
        return httpx2.Response(200, content=data, headers={"content-type": "text/event-stream"})

    return OpenAI(
        api_key="x",
        base_url="http://127.0.0.1/v1",
        http_client=httpx2.Client(transport=httpx2.MockTransport(handle)),
    )


@pytest.mark.parametrize("summary", [None, "auto"])
def test_the_stream_helper_gets_what_a_whole_answer_has(summary: Any) -> None:
    asked: Fields = {
        "model": "alias",
        "input": "Hi",
        "tools": TOOLS,
        "reasoning": {"summary": summary},
        "include": ["reasoning.encrypted_content"],
    }
    with client_of(CHUNKS, ANSWER) as client:
        whole = client.responses.create(**asked)
        with client.responses.stream(**asked) as stream:
            deltas = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
            streamed = stream.get_final_response()
    assert deltas == ["Let me ", "Let me see ü"]
    assert streamed.output_text == whole.output_text == "Let me see ü"
    reasoning, _, function, custom, find = whole.output
    assert reasoning.type == "reasoning"
    texts = reasoning.summary if summary else reasoning.content
    assert texts is not None
    assert [part.text for part in texts] == ["Think hard"]
    assert function.type == "function_call"
    assert (function.call_id, function.arguments) == ("call_a", '{"x":1}')
    assert custom.type == "custom_tool_call"
    assert (custom.call_id, custom.input) == ("call_b", "+a\n")
    assert find.type == "function_call"
    assert (find.name, find.namespace) == ("find", "crm")
    assert [item.type for item in streamed.output] == [item.type for item in whole.output]
    assert streamed.usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == 13
    assert streamed.output[2].parsed_arguments == {"x": 1}  # type: ignore[union-attr]


def test_what_the_sdk_got_can_be_sent_back() -> None:
    with client_of(CHUNKS, ANSWER) as client:
        output = client.responses.create(model="alias", input="Hi", tools=TOOLS).output
    given = [item.to_dict() for item in output]
    outputs = [
        {"type": "function_call_output", "call_id": "call_a", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "call_b", "output": "done"},
        {
            "type": "function_call_output",
            "call_id": "call_c",
            "output": [{"type": "input_text", "text": "2"}],
        },
    ]
    body = {"model": "m", "input": [{"role": "user", "content": "Hi"}, *given, *outputs], "tools": TOOLS}
    chat = chat_request(body, ChatTraits(replays_reasoning=True)).chat
    user, assistant, *tools = chat["messages"]
    assert user == {"role": "user", "content": "Hi"}
    sent = ANSWER["choices"][0]["message"]  # type: ignore[index]
    assert (assistant["content"], assistant["reasoning_content"]) == (
        sent["content"],
        sent["reasoning_content"],
    )
    for call, original in zip(assistant["tool_calls"], sent["tool_calls"], strict=True):
        assert (call["id"], call["function"]["name"]) == (original["id"], original["function"]["name"])
        assert json.loads(call["function"]["arguments"]) == json.loads(original["function"]["arguments"])
    assert [(tool["tool_call_id"], tool["content"]) for tool in tools] == [
        ("call_a", "1"),
        ("call_b", "done"),
        ("call_c", "2"),
    ]


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param([chunk({"content": "a"}), chunk({}, "length")], "a", id="cut off"),
        pytest.param([chunk({"refusal": "no"})], "", id="a refusal"),
        pytest.param(
            [chunk(call_delta(0, "", id="c", name="f")), chunk({"content": "b"})], "b", id="text behind"
        ),
    ],
)
def test_the_stream_helper_takes_any_end(chunks: list[Fields], text: str) -> None:
    with client_of(chunks) as client, client.responses.stream(model="alias", input="Hi") as stream:
        last = list(stream)[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output_text == text


def test_structured_output_is_parsed() -> None:
    class City(BaseModel):
        name: str

    chunks = [chunk({"content": '{"name":'}), chunk({"content": '"Ulm"}'}, "stop")]
    with (
        client_of(chunks) as client,
        client.responses.stream(model="a", input="Hi", text_format=City) as stream,
    ):
        assert stream.get_final_response().output_parsed == City(name="Ulm")


def test_a_failure_is_told() -> None:
    with (
        client_of(CHUNKS[:4], failing=True) as client,
        client.responses.stream(model="a", input="Hi") as stream,
    ):
        last = list(stream)[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert (last.response.error.code, last.response.error.message) == ("server_error", "Gone.")
