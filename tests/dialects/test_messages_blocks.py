"""The order of content blocks, whatever order their pieces come in."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.chat_calls import StreamedCall
from proxy.dialects.messages_answer import CallIds
from proxy.dialects.messages_blocks import TEXT, THINKING, BlockStream
from tests.support.messages import events_of

PIECES = ["{", '"a"', ":", "1", "}", ""]


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(PIECES))))
def test_nothing_is_lost_and_nothing_is_out_of_order(steps: list[tuple[int, str]]) -> None:
    """0 and 1 are texts, the others calls; all that each says is written, a call in one block."""
    blocks = BlockStream(CallIds("msg_1"))
    calls = {number: StreamedCall(f"call_abcdefg{number}") for number in (2, 3, 4)}
    said = {"text": "", "thinking": ""}
    stream = b""
    for number, piece in steps:
        if number in calls:
            call = calls[number]
            call.add_name(f"f{number}")
            if not call.complete:
                stream += blocks.call(call, call.add(piece) if piece else "")
        elif piece:
            stream += blocks.text((TEXT, THINKING)[number], piece)
            said[("text", "thinking")[number]] += piece
    written = blocks_written(stream + blocks.end())
    for kind, text in said.items():
        assert "".join(piece for key, piece in written if key == kind) == text
    ids = [key for key, _ in written if key not in said]
    assert len(ids) == len(set(ids))
    assert {(call.id, call.settled) for call in calls.values() if call.name} == {
        (key, piece) for key, piece in written if key not in said
    }


def blocks_written(stream: bytes) -> list[tuple[str, str]]:
    """Return each block's kind or call id, and its text; they are numbered and one is open at a time."""
    written: list[tuple[str, str]] = []
    is_open = False
    for event in events_of(stream):
        if event["type"] == "content_block_start":
            assert not is_open
            written.append((event["content_block"].get("id", event["content_block"]["type"]), ""))
        else:
            assert is_open
        assert event["index"] == len(written) - 1
        is_open = event["type"] != "content_block_stop"
        if event["type"] == "content_block_delta":
            [text] = [value for name, value in event["delta"].items() if name != "type"]
            written[-1] = (written[-1][0], written[-1][1] + text)
    assert not is_open
    return written


def test_a_message_has_at_least_one_block() -> None:
    events = events_of(BlockStream(CallIds("msg_1")).end())
    assert [event["type"] for event in events] == ["content_block_start", "content_block_stop"]


def test_what_is_doubtful_is_written_when_the_block_closes() -> None:
    blocks = BlockStream(CallIds("msg_1"))
    call = StreamedCall("call_abcdefgh")
    call.add_name("f")
    assert blocks.call(call, call.add('{"a":'))
    assert blocks.call(call, call.add('{"a":1}')) == b""
    events = events_of(blocks.end())
    assert [event["type"] for event in events] == ["content_block_delta", "content_block_stop"]
    assert events[0]["delta"]["partial_json"] == "1}"
