"""What passes between provider and client, byte for byte."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.core.estimation import OutputCounter
from proxy.core.metering import UsageMeter
from proxy.core.received import ReceivedOutput
from proxy.core.tokenizers import O200K
from proxy.gateway.relay import DONE, ChatRelay, RawRelay


class Relayed:
    """A chat relay that was fed some chunks to the end of the stream."""

    def __init__(self, *chunks: bytes, usage_wanted: bool = False) -> None:
        self.meter = UsageMeter()
        self.output = ReceivedOutput(OutputCounter(O200K))
        self.relay = ChatRelay(self.meter, self.output, usage_wanted=usage_wanted)
        self.sent = b""
        for chunk in chunks:
            if self._is_over():
                break
            self.sent += self.relay.feed(chunk)
        if not self._is_over():
            self.sent += self.relay.close()
        self.whole = self.sent + (self.relay.ending(Usage()) if self.relay.complete else b"")

    def _is_over(self) -> bool:
        return self.relay.done or self.relay.failure is not None


def frame(**chunk: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode()


def delta(content: str | None = None, finish: str | None = None, **more: object) -> bytes:
    part = {} if content is None else {"content": content}
    return frame(id="c1", choices=[{"index": 0, "delta": part, "finish_reason": finish}], **more)


ROLE = frame(id="c1", choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
USAGE = frame(id="c1", choices=[], usage={"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8})
STREAM = ROLE + delta("Hel") + delta("lo") + delta(finish="stop")


def test_a_canonical_stream_passes_unchanged() -> None:
    relayed = Relayed(STREAM, USAGE, DONE, usage_wanted=True)
    assert relayed.whole == STREAM + USAGE + DONE
    assert relayed.relay.complete
    assert relayed.relay.done


def test_a_plain_block_is_the_same_object() -> None:
    relay = Relayed().relay
    block = delta("Hel") + delta("lo")
    assert relay.feed(block) is block


def test_the_usage_event_is_dropped_for_those_who_did_not_ask() -> None:
    relayed = Relayed(STREAM + USAGE + DONE)
    assert relayed.whole == STREAM + DONE
    assert relayed.meter.reported is not None
    assert relayed.meter.reported.completed(0, 0) == Usage(3, 5)


def test_usage_on_the_last_choice_stays() -> None:
    last = delta(finish="stop", usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
    relayed = Relayed(delta("x") + last + DONE)
    assert relayed.whole == delta("x") + last + DONE
    assert relayed.meter.reported is not None


@pytest.mark.parametrize("space", ["", " "])
def test_null_usage_and_null_finish_reasons_are_nothing_to_look_into(space: str) -> None:
    block = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":%bnull}],"usage":%bnull}\n\n' % (
        (space.encode(),) * 2
    )
    relayed = Relayed(block)
    assert relayed.sent == block
    assert not relayed.relay.complete


def test_the_end_is_held_back() -> None:
    relay = Relayed().relay
    assert relay.feed(STREAM + DONE) == STREAM
    assert relay.done
    assert relay.ending(Usage()) == DONE


@pytest.mark.parametrize("ending", [b"", DONE, b"data: [DONE]", b"data:[DONE]\r\n\r\n"])
def test_a_complete_stream_always_ends_with_done(ending: bytes) -> None:
    assert Relayed(STREAM + ending).whole == STREAM + DONE


@pytest.mark.parametrize("reason", ["stop", "length", "eos", ""])
def test_any_finish_reason_completes(reason: str) -> None:
    assert Relayed(delta("x"), delta(finish=reason)).relay.complete


def test_done_alone_completes() -> None:
    assert Relayed(delta("x"), DONE).relay.complete


def test_a_stream_without_an_end_is_incomplete() -> None:
    relayed = Relayed(ROLE, delta("x"))
    assert not relayed.relay.complete
    assert relayed.whole == ROLE + delta("x")  # and no [DONE]
    assert relayed.relay.has_content


def test_roles_are_no_content() -> None:
    assert not Relayed(ROLE).relay.has_content


@pytest.mark.parametrize(
    "failed",
    [
        frame(error={"message": "boom", "code": 500}),
        frame(error="boom"),
        frame(base_resp={"status_code": 1002, "status_msg": "slow down"}),
        frame(code=10013, message="no", sid="x"),
        delta(finish="error", error={"message": "boom"}),
        delta(finish="error"),
        delta(finish="network_error"),
    ],
)
def test_an_error_event_ends_the_stream_and_is_not_passed_on(failed: bytes) -> None:
    relayed = Relayed(delta("x"), failed, delta("y"), DONE)
    assert relayed.whole == delta("x")
    assert relayed.relay.failure is not None
    assert not relayed.relay.complete


def test_nothing_after_done_is_passed_on() -> None:
    assert Relayed(STREAM + DONE + delta("more")).whole == STREAM + DONE


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b'data:{"choices":[]  }\n\n', b""),
        (b": OPENROUTER PROCESSING\n\n" + delta("x"), b": OPENROUTER PROCESSING\n\n" + delta("x")),
        (b"event: message\nid: 7\nretry: 100\n" + delta("x"), delta("x")),
        (delta("x").replace(b"\n", b"\r\n"), delta("x")),
        (delta("x").replace(b"\n", b"\r"), delta("x")),
        (b"\xef\xbb\xbf" + delta("x"), delta("x")),
        (b"data: not json\n\n", b"data: not json\n\n"),
        (delta("a\u2028b\u0085c"), delta("a\u2028b\u0085c")),
        (delta('"usage" "error" "finish_reason"'), delta('"usage" "error" "finish_reason"')),
        (delta("usage"), delta("usage")),
        (delta("x", code=0, base_resp={"status_code": 0}), delta("x", code=0, base_resp={"status_code": 0})),
    ],
)
def test_other_framings_are_normalised_and_data_is_not_touched(raw: bytes, canonical: bytes) -> None:
    assert Relayed(raw).whole == canonical
    assert Relayed(*(raw[i : i + 1] for i in range(len(raw)))).whole == canonical


def test_moonshots_usage_within_a_choice() -> None:
    last = frame(choices=[{"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 2}}])
    relayed = Relayed(delta("x"), last)
    assert relayed.meter.reported is not None
    assert relayed.meter.reported.input_tokens == 2


@given(st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_chunk_boundaries_change_nothing(cuts: list[int], usage_wanted: bool) -> None:
    stream = b": ping\n\n" + STREAM.replace(b"lo", "l\u2028o".encode()) + USAGE + DONE
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    split = Relayed(*(stream[a:b] for a, b in pairwise(edges)), usage_wanted=usage_wanted)
    whole = Relayed(stream, usage_wanted=usage_wanted)
    assert split.whole == whole.whole
    assert split.meter.reported == whole.meter.reported
    assert split.output.tokens == whole.output.tokens


def test_a_raw_answer_is_held_back_by_one_block() -> None:
    relay = RawRelay(UsageMeter(), b"audio/mpeg")
    assert [relay.feed(b"a"), relay.feed(b"b"), relay.close()] == [b"", b"a", b""]
    assert relay.complete
    assert relay.ending(Usage()) == b"b"


def test_a_raw_answer_that_breaks_is_not_complete() -> None:
    relay = RawRelay(UsageMeter(), b"audio/mpeg")
    assert not relay.has_content
    relay.feed(b"a")
    assert relay.has_content
    assert not relay.complete


def test_usage_is_read_from_raw_events() -> None:
    meter = UsageMeter()
    relay = RawRelay(meter, b"text/event-stream")
    body = b'data: {"type":"x","usage":{"input_tokens":7,"output_tokens":0}}\n\n'
    for at in range(len(body)):
        relay.feed(body[at : at + 1])
    relay.close()
    assert meter.reported is not None
    assert meter.reported.input_tokens == 7
