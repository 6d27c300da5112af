"""Chat streams as the events of a response."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.dialects.responses_context import ResponsesContext, Tool
from proxy.dialects.responses_reasoning import unsealed
from tests.support.responses import (
    CREATED_AT,
    MODEL,
    call_delta,
    checked,
    chunk,
    events_in,
    stream,
    translated,
    types_of,
)

Fields = dict[str, Any]

TOOLS = {"f": Tool("f"), "crm__find": Tool("find", "crm"), "apply_patch": Tool("apply_patch", custom=True)}
SUMMARIES = ResponsesContext(tools=TOOLS, summaries=True, encrypted=True)
RAW = ResponsesContext(tools=TOOLS)


def last(events: list[Fields]) -> Fields:
    response: Fields = events[-1]["response"]
    return response


def test_a_text() -> None:
    events = translated(
        [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk({}, "stop")]
    )
    assert types_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[4] == {
        "type": "response.output_text.delta",
        "item_id": "msg_2",
        "output_index": 0,
        "content_index": 0,
        "logprobs": [],
        "sequence_number": 4,
        "delta": "Hi",
    }
    assert events[5]["logprobs"] == []
    response = last(events)
    assert response["output"] == [
        {
            "type": "message",
            "id": "msg_2",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}],
        }
    ]
    assert (response["id"], response["object"]) == ("resp_1", "response")
    assert (response["created_at"], response["model"]) == (CREATED_AT, MODEL)
    assert (response["status"], response["error"], response["usage"]) == ("completed", None, None)


def test_reasoning_as_summary() -> None:
    events = translated([chunk({"reasoning_content": "why"}), chunk({"content": "Hi"})], SUMMARIES)
    assert types_of(events)[2:9] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
    ]
    assert events[4]["summary_index"] == 0
    item = last(events)["output"][0]
    assert item["summary"] == [{"type": "summary_text", "text": "why"}]
    assert unsealed(item["encrypted_content"]) == "why"
    assert "encrypted_content" not in events[2]["item"]


def test_reasoning_as_it_is() -> None:
    events = translated([chunk({"reasoning": "why"})], RAW)
    assert types_of(events)[2:8] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
    ]
    assert events[4]["content_index"] == 0
    assert last(events)["output"] == [
        {
            "type": "reasoning",
            "id": "rs_2",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "why"}],
        }
    ]


def test_a_refusal_is_a_part_of_its_own() -> None:
    events = translated([chunk({"content": "Hm"}), chunk({"refusal": "No"}), chunk({"refusal": "."})])
    assert types_of(events)[4:13] == [
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "refusal.delta",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
    ]
    assert events[8]["content_index"] == 1
    assert [part["type"] for part in last(events)["output"][0]["content"]] == ["output_text", "refusal"]


def test_calls_that_take_turns() -> None:
    events = translated(
        [
            chunk({"content": "Let me see"}),
            chunk(call_delta(0, "", id="call_a", name="f")),
            chunk(call_delta(0, '{"x"')),
            chunk(call_delta(1, "{", id="call_b", name="crm__find")),
            chunk(call_delta(0, ":1}")),
            chunk(call_delta(1, "}")),
            chunk({}, "tool_calls"),
        ],
        RAW,
    )
    message, first, second = last(events)["output"]
    assert message["content"][0]["text"] == "Let me see"
    assert first == {
        "type": "function_call",
        "id": "fc_3",
        "status": "completed",
        "call_id": "call_a",
        "name": "f",
        "arguments": '{"x":1}',
    }
    assert (second["name"], second["namespace"], second["arguments"]) == ("find", "crm", "{}")
    done = next(event for event in events if event["type"] == "response.function_call_arguments.done")
    assert (done["name"], done["arguments"]) == ("f", '{"x":1}')
    assert [event["output_index"] for event in events if event["type"].endswith("arguments.delta")] == [
        1,
        2,
        1,
        2,
    ]


def test_a_freeform_tool_gets_its_text_as_it_comes() -> None:
    pieces = ['{"input', '": "*** Beg', "in\\", 'n+ü"', "}"]
    events = translated(
        [chunk(call_delta(0, pieces[0], id="c", name="apply_patch"))]
        + [chunk(call_delta(0, piece)) for piece in pieces[1:]],
        RAW,
    )
    deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert deltas == ["*** Beg", "in", "\n+ü"]
    assert last(events)["output"] == [
        {
            "type": "custom_tool_call",
            "id": "ctc_2",
            "status": "completed",
            "call_id": "c",
            "name": "apply_patch",
            "input": "*** Begin\n+ü",
        }
    ]
    done = next(event for event in events if event["type"] == "response.custom_tool_call_input.done")
    assert "name" not in done


def test_a_call_without_arguments_has_empty_ones() -> None:
    events = translated([chunk(call_delta(0, "", id="c", name="f")), chunk(call_delta(1, " ", name="f"))])
    assert [item["arguments"] for item in last(events)["output"]] == ["{}", " {}"]


def test_calls_keep_their_order_when_the_first_has_no_arguments() -> None:
    events = translated(
        [
            chunk(call_delta(0, "", id="a", name="f")),
            chunk(call_delta(1, "", id="b")),
            chunk(call_delta(2, '{"x":1}', id="c", name="g")),
            chunk(call_delta(3, "", id="d", name="h")),
        ]
    )
    assert [item["call_id"] for item in last(events)["output"]] == ["a", "c", "d"]


def test_a_call_without_a_name_never_comes_to_be() -> None:
    events = translated([chunk(call_delta(0, "{}", id="c")), chunk({"content": "Hi"})])
    assert [item["type"] for item in last(events)["output"]] == ["message"]


def test_calls_get_ids_of_their_own() -> None:
    events = translated(
        [chunk(call_delta(index, "{}", id=id, name="f")) for index, id in enumerate(["call_0", "call_0", ""])]
    )
    ids = [item["call_id"] for item in last(events)["output"]]
    assert ids[0] == "call_0"
    assert len(set(ids)) == 3
    assert all(ids)


def test_arguments_that_are_repeated_whole_each_time() -> None:
    pieces = ['{"a"', '{"a":1', '{"a":1}']
    events = translated([chunk(call_delta(0, piece, id="c", name="f")) for piece in pieces])
    assert last(events)["output"][0]["arguments"] == '{"a":1}'


def test_text_after_calls_is_a_new_message() -> None:
    events = translated(
        [
            chunk({"content": "a"}),
            chunk(call_delta(0, "{", id="c", name="f")),
            chunk({"content": "b"}),
            chunk({"reasoning": "r"}),
            chunk(call_delta(0, "}")),
            chunk({"content": "c"}),
        ]
    )
    output = last(events)["output"]
    assert [item["type"] for item in output] == [
        "message",
        "function_call",
        "message",
        "reasoning",
        "message",
    ]
    assert output[1]["arguments"] == "{}"


def test_an_empty_answer_is_an_empty_message() -> None:
    events = translated([chunk({"role": "assistant", "content": None}), chunk({"content": ""}, "stop")])
    assert [part["text"] for part in last(events)["output"][0]["content"]] == [""]
    assert types_of(events) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]


@pytest.mark.parametrize(
    ("finish_reason", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("", "completed", None),
        (["length"], "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("model_context_window_exceeded", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("sensitive", "incomplete", "content_filter"),
    ],
)
def test_finish_reasons(finish_reason: object, status: str, reason: str | None) -> None:
    events = translated([chunk({"content": "a"}), chunk(call_delta(0, "{", id="c", name="f"), finish_reason)])
    response = last(events)
    assert events[-1]["type"] == f"response.{status}"
    assert response["status"] == status
    assert response["incomplete_details"] == (reason and {"reason": reason})
    assert [item["status"] for item in response["output"]] == ["completed", status]


def usage_after(*chunks: Fields, usage: Usage | None = None) -> Fields | None:
    translation = stream()
    for each in chunks:
        translation.feed(each)
    reported: Fields | None = events_in(translation.ending(usage))[-1]["response"]["usage"]
    return reported


USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


@pytest.mark.parametrize(
    "last_chunk",
    [
        pytest.param({"choices": [], "usage": USAGE}, id="a chunk of its own"),
        pytest.param({**chunk({}, "stop"), "usage": USAGE}, id="the last chunk"),
        pytest.param({"choices": [{"delta": {}, "usage": USAGE}]}, id="the choice"),
        pytest.param({"choices": [], "usage": None, "x_groq": {"usage": USAGE}}, id="x_groq"),
    ],
)
def test_usage(last_chunk: Fields) -> None:
    assert usage_after(chunk({"content": "a"}), last_chunk, {"choices": None}) == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
    }


def test_usage_that_was_metered_counts_for_more() -> None:
    metered = Usage(10, 8, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=5)
    assert usage_after({"choices": [], "usage": USAGE}, usage=metered) == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 18,
    }
    assert usage_after(chunk({"content": "a"})) is None
    half = usage_after({"choices": [], "usage": {"prompt_tokens": 5}})
    assert half is not None
    assert (half["input_tokens"], half["output_tokens"]) == (5, 0)


def test_failure_in_the_middle() -> None:
    translation = stream(RAW)
    data = translation.feed(chunk({"content": "a"}))
    data += translation.feed(chunk(call_delta(0, '{"x', id="c", name="f")))
    data += translation.feed({"choices": [], "usage": USAGE})
    data += translation.fail("upstream_reset", "The provider hung up.", type="upstream_error")
    events = checked(events_in(data))
    response = last(events)
    assert events[-1]["type"] == "response.failed"
    assert response["status"] == "failed"
    assert response["error"] == {
        "code": "upstream_reset",
        "message": "The provider hung up.",
        "type": "upstream_error",
    }
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert response["output"][1]["arguments"] == '{"x'
    assert response["usage"]["total_tokens"] == 8


def test_failure_before_anything() -> None:
    events = checked(events_in(stream().fail("overloaded", "Later.")))
    assert types_of(events) == ["created", "in_progress", "failed"]
    assert last(events)["output"] == []


def test_nothing_comes_after_the_end() -> None:
    for end in ("ending", "fail"):
        translation = stream()
        assert translation.ending() if end == "ending" else translation.fail("a", "b")
        assert translation.feed(chunk({"content": "a"})) == b""
        assert translation.ending() == b""
        assert translation.fail("a", "b") == b""
        assert translation.keep_alive() == b""


def test_keep_alives_are_events_that_change_nothing() -> None:
    translation = stream()
    data = translation.keep_alive() + translation.keep_alive()
    data += translation.feed(chunk({"content": "a"})) + translation.keep_alive() + translation.ending()
    events = checked(events_in(data))
    assert types_of(events)[:4] == ["created", "in_progress", "in_progress", "output_item.added"]
    assert types_of(events)[6] == "in_progress"
    assert events[6]["response"] == events[0]["response"]


def test_whole_message_in_a_stream_counts_only_when_nothing_else_came() -> None:
    whole = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
    assert last(translated([whole]))["output"][0]["content"][0]["text"] == "Hello"
    events = translated([chunk({"content": "Hel"}), chunk({"content": "lo"}), whole])
    assert last(events)["output"][0]["content"][0]["text"] == "Hello"


def test_the_name_may_come_in_pieces() -> None:
    events = translated(
        [
            chunk(call_delta(0, id="c", name="crm__")),
            chunk(call_delta(0, name="find")),
            chunk(call_delta(0, "{}")),
        ],
        RAW,
    )
    assert (last(events)["output"][0]["name"], last(events)["output"][0]["namespace"]) == ("find", "crm")


def test_the_request_is_repeated() -> None:
    echo = {"tools": msgspec.Raw(b'[{"type":"web_search"}]'), "store": msgspec.Raw(b"false")}
    events = translated([], ResponsesContext(echo=echo))
    for event in (events[0], events[1], events[-1]):
        assert event["response"]["tools"] == [{"type": "web_search"}]
        assert event["response"]["store"] is False


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("delta", "content", "reasoning", "refusal", "tool_calls", "function", "name"),
                    *("arguments", "id", "index", "finish_reason", "usage", "text", "message"),
                    "prompt_tokens",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
DELTAS = st.dictionaries(
    st.sampled_from(["content", "reasoning_content", "refusal", "tool_calls"]),
    st.text(max_size=3)
    | st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "index": st.integers(0, 2) | st.none(),
                "id": st.sampled_from(["", "call_0", "call_1"]),
                "function": st.fixed_dictionaries(
                    {},
                    optional={
                        "name": st.sampled_from(["", "f", "crm__find", "apply_patch", "app"]),
                        "arguments": st.sampled_from(["", "{", '{"input":"', "a", '"}', "{}"]) | JSON,
                    },
                ),
            },
        ),
        max_size=3,
    ),
    max_size=3,
)
CHUNKS = DELTAS.map(chunk) | st.fixed_dictionaries(
    {}, optional={"choices": JSON | st.lists(JSON, max_size=2), "usage": JSON, "x_groq": JSON}
)


@given(
    chunks=st.lists(CHUNKS, max_size=12),
    context=st.sampled_from([SUMMARIES, RAW, ResponsesContext()]),
    end=st.sampled_from(["ending", "fail"]),
    alive=st.sets(st.integers(0, 12)),
)
def test_any_stream_keeps_the_rules(
    chunks: list[Fields], context: ResponsesContext, end: str, alive: set[int]
) -> None:
    translation = stream(context)
    data = b""
    for position, each in enumerate(chunks):
        data += translation.keep_alive() if position in alive else b""
        data += translation.feed(each)
    data += translation.ending() if end == "ending" else translation.fail("upstream_reset", "Gone.")
    checked(events_in(data))
