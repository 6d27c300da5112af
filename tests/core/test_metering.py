"""Usage in the shapes that providers report."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.core.metering import MOST_TOKENS, ReportedUsage, UsageMeter, usage_from

OPENAI = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
}
DEEPSEEK = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_cache_hit_tokens": 40,
    "prompt_cache_miss_tokens": 60,
    "completion_tokens_details": {"reasoning_tokens": 20},
}
MOONSHOT = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "cached_tokens": 40}
DASHSCOPE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "prompt_tokens_details": {"cached_tokens": 40, "cache_creation_input_tokens": 10},
}
XAI = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 150,
    "completion_tokens_details": {"reasoning_tokens": 20},
}
MESSAGES = {
    "input_tokens": 50,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 10,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
    "service_tier": "standard",
}
RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 150,
}
AUDIO = {
    "type": "tokens",
    "input_tokens": 100,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 100},
    "output_tokens": 50,
    "total_tokens": 150,
}

ALL = ReportedUsage(100, 50, 40, 10, 20)
CACHED = ReportedUsage(100, 50, 40)
PLAIN = ReportedUsage(100, 50)
PLAIN_USAGE = {"prompt_tokens": 100, "completion_tokens": 50}


def read(*events: object) -> ReportedUsage | None:
    meter = UsageMeter()
    for event in events:
        meter.feed(json.dumps(event).encode())
    return meter.reported


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"usage": OPENAI}, ALL),
        ({"usage": DEEPSEEK}, ReportedUsage(100, 50, 40, 0, 20)),
        ({"choices": [{"index": 0, "delta": {}, "usage": MOONSHOT}]}, CACHED),
        ({"usage": None, "choices": [{}, {"usage": MOONSHOT}]}, CACHED),
        ({"usage": MOONSHOT}, CACHED),
        ({"usage": DASHSCOPE}, ReportedUsage(100, 50, 40, 10)),
        ({"usage": XAI}, ReportedUsage(100, 50, 0, 0, 20)),
        ({"x_groq": {"id": "req_1", "usage": {**PLAIN_USAGE, "queue_time": 0.01}}}, PLAIN),
        ({"type": "message", "usage": MESSAGES}, ALL),
        ({"object": "response", "usage": RESPONSES}, ALL),
        ({"type": "response.completed", "response": {"id": "resp_1", "usage": RESPONSES}}, ALL),
        ({"usage": AUDIO}, PLAIN),
        ({"type": "transcript.text.done", "text": "hi", "usage": AUDIO}, PLAIN),
        ({"object": "list", "usage": {"prompt_tokens": 8, "total_tokens": 8}}, ReportedUsage(8, 0)),
        ({"object": "list", "usage": {"prompt_tokens": 8}}, ReportedUsage(8)),
        ({"results": [], "usage": {"total_tokens": 8}}, ReportedUsage(8, 0)),
        ({"results": [], "meta": {"tokens": {"input_tokens": 8, "output_tokens": 0}}}, ReportedUsage(8, 0)),
        ({"results": [], "tokens": {"input_tokens": 8, "output_tokens": 1}}, ReportedUsage(8, 1)),
        ({"usage": {"completion_tokens": 50, "total_tokens": 150}}, PLAIN),
        ({"choices": [], "timings": {"prompt_n": 60, "cache_n": 40, "predicted_n": 50}}, CACHED),
        ({"usage": PLAIN_USAGE, "timings": {"prompt_n": 1, "predicted_n": 1}}, PLAIN),
        ({"timings": {"prompt_n": 100, "predicted_n": 50, "predicted_ms": 12.5}}, PLAIN),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, ReportedUsage(0, 0)),
        ({"usage": {**PLAIN_USAGE, "prompt_tokens_details": None, "cached_tokens": None}}, PLAIN),
        ({"usage": {"type": "duration", "seconds": 12}}, None),
        ({"usage": {}}, None),
        ({"usage": None}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_every_shape_is_read_into_one(answer: object, expected: ReportedUsage | None) -> None:
    assert usage_from(json.dumps(answer).encode()) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"prompt_tokens": -1}, None),
        ({"completion_tokens": -1}, None),
        ({"prompt_tokens": 12.5}, None),
        ({"prompt_tokens": "100"}, None),
        ({"prompt_tokens": True}, None),
        ({"completion_tokens": [50]}, None),
        ({"prompt_tokens": MOST_TOKENS}, ReportedUsage(MOST_TOKENS, 50)),
        ({"prompt_tokens": MOST_TOKENS + 1}, None),
        ({"completion_tokens": 10**18}, None),
        ({"prompt_tokens_details": {"cached_tokens": 101}}, None),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, None),
        ({"cached_tokens": 60, "cache_write_tokens": 41}, None),
        ({"cached_tokens": 60, "cache_write_tokens": 40}, ReportedUsage(100, 50, 60, 40)),
        ({"prompt_tokens_details": "none"}, PLAIN),
        ({"reasoning_tokens": 51}, None),
        ({"reasoning_tokens": 51, "total_tokens": 150}, None),
        ({"reasoning_tokens": 51, "total_tokens": 201}, ReportedUsage(100, 101, 0, 0, 51)),
        ({"reasoning_tokens": 50}, ReportedUsage(100, 50, 0, 0, 50)),
        ({"reasoning_tokens": 0.5}, None),
        ({"prompt_tokens": None, "reasoning_tokens": 5}, ReportedUsage(None, 50, 0, 0, 5)),
        ({"total_tokens": 7}, PLAIN),
        ({"total_tokens": -7}, PLAIN),
        ({"completion_tokens": None, "total_tokens": 99}, ReportedUsage(100)),
        ({"completion_tokens": None, "total_tokens": -1}, None),
        ({"prompt_tokens": -1, "completion_tokens": -1}, None),
    ],
    ids=str,
)  # fmt: skip
def test_one_absurd_member_discredits_the_whole_report(
    changes: dict[str, Any], expected: ReportedUsage | None
) -> None:
    assert read({"usage": {**PLAIN_USAGE, **changes}}) == expected


def test_caches_beside_the_input_of_messages_may_not_exceed_the_bound() -> None:
    assert read({"usage": {"input_tokens": MOST_TOKENS, "cache_read_input_tokens": 1}}) is None


def test_chat_input_includes_its_caches_whatever_they_are_called() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "cache_read_input_tokens": 40}
    assert read({"usage": usage}) == CACHED


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[DONE]", b"null", b"[]", b'"usage"', b"{", b'{"usage":', b"\xff",
        b'{"usage":{"prompt_tokens":1e400}}', b'{"usage":5}', b'{"usage":[]}', b'{"usage":' + b"[" * 100_000,
        b'{"choices":{}}', b'{"choices":[null]}', b'{"message":"Success","code":0}', b'{"type":{"a":1}}',
        b'{"x_groq":"no"}', b'{"response":null}', b'{"meta":7}', b'{"timings":"fast"}', b'{"tokens":[1,2]}',
        b'{"type":"message_start"}', b'{"type":"message_start","message":"Success"}',
        b'{"type":"message_delta","usage":1}',
    ],
)  # fmt: skip
def test_what_reports_nothing_does_not_raise(data: bytes) -> None:
    assert usage_from(data) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
        lambda values: (
            st.lists(values, max_size=2)
            | st.dictionaries(
                st.sampled_from([*OPENAI, *RESPONSES, *MESSAGES, "cached_tokens", "usage"]), values
            )
        ),
    ),
    st.sampled_from(["usage", "choices", "response", "message", "x_groq", "meta", "tokens", "timings"]),
    st.sampled_from(["message_start", "message_delta", "response.completed", None]),
)
def test_whatever_is_reported_is_plausible(value: object, place: str, kind: str | None) -> None:
    reported = read({"type": kind, place: value})
    if reported is not None:
        usage = reported.completed(input_tokens=MOST_TOKENS, output_tokens=MOST_TOKENS)
        assert 0 <= usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens <= MOST_TOKENS
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens <= MOST_TOKENS


def chunk(prompt: object, completion: object) -> dict[str, object]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def test_the_last_valid_report_wins_and_never_the_sum() -> None:
    assert read(chunk(10, 1), chunk(10, 5), chunk(10, 9), {"choices": []}) == ReportedUsage(10, 9)
    assert read(chunk(10, 9), chunk(10, 5)) == ReportedUsage(10, 5)
    assert read(chunk(10, 9), chunk(-1, -1), {"usage": None}) == ReportedUsage(10, 9)
    assert read(chunk(10, 9), chunk(11, -1)) == ReportedUsage(10, 9)


def test_a_later_report_replaces_the_parts_too() -> None:
    assert read({"usage": OPENAI}, {"usage": PLAIN_USAGE}) == PLAIN


MESSAGE_START = {
    "type": "message_start",
    "message": {"id": "msg_1", "content": [], "usage": {**MESSAGES, "output_tokens": 1}},
}


def message_delta(**usage: int | None) -> dict[str, object]:
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


def test_a_messages_stream_begins_with_its_input() -> None:
    """Its first output_tokens is where counting begins, not a report."""
    assert read(MESSAGE_START) == ReportedUsage(100, None, 40, 10)


def test_a_messages_stream_ends_with_its_output() -> None:
    assert read(MESSAGE_START, message_delta(output_tokens=15)) == ReportedUsage(100, 15, 40, 10)
    assert read(message_delta(output_tokens=15)) == ReportedUsage(None, 15)


def test_message_deltas_are_cumulative_and_overwrite_what_they_name() -> None:
    events = [
        MESSAGE_START,
        message_delta(output_tokens=5),
        message_delta(input_tokens=60, cache_read_input_tokens=None, output_tokens=15),
    ]
    assert read(*events) == ReportedUsage(110, 15, 40, 10)


def test_usage_that_is_already_decoded_is_absorbed() -> None:
    meter = UsageMeter()
    meter.absorb(RESPONSES)
    meter.absorb(None)
    meter.absorb("none")
    assert meter.reported == ALL


@pytest.mark.parametrize(
    ("reported", "complete", "usage"),
    [
        (ALL, True, Usage(100, 50, 40, 10, 20)),
        (ReportedUsage(0, 0), True, Usage(0, 0)),
        (ReportedUsage(100, None, 40), False, Usage(100, 8, 40)),
        (ReportedUsage(None, 50, reasoning_tokens=20), False, Usage(7, 50, 0, 0, 20)),
    ],
)
def test_only_what_is_missing_is_estimated(reported: ReportedUsage, complete: bool, usage: Usage) -> None:
    assert reported.complete is complete
    assert reported.completed(input_tokens=7, output_tokens=8) == usage
