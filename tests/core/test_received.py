"""What is counted of an answer when nobody reports its usage."""

import pytest

from proxy.core.received import FOLD_AT_BYTES, ReceivedOutput


class Collected:
    """Stands in for the token counter: keeps the text itself."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, text: str) -> None:
        self.text += text

    @property
    def tokens(self) -> int:
        return len(self.text)


def collect(*blocks: bytes) -> tuple[str, bool]:
    counter = Collected()
    received = ReceivedOutput(counter)
    for block in blocks:
        received.keep(block)
    has_content = received.has_content
    return counter.text, has_content


def frame(delta: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":%b}]}\n\n' % delta.encode()


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ('{"content":"Hi"}', "Hi"),
        ('{"reasoning_content":"hm"}', "hm"),
        ('{"reasoning":"hm"}', "hm"),
        ('{"reasoning":"hm","reasoning_content":"hm"}', "hm"),
        ('{"refusal":"no"}', "no"),
        ('{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}', "f{}"),
        ('{"tool_calls":[{"index":0}]}', ""),
        ('{"role":"assistant","content":""}', ""),
        ('{"role":"assistant","content":null}', ""),
        ('{"content":[{"type":"text"}]}', ""),
        ('{"content":[{"type":"text","text":"a"},null,{"type":"text","text":"b"}]}', "ab"),
        ('{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}', "hm"),
        ('{"content":[{"type":"thinking","thinking":"hm"}]}', "hm"),
        ('{"content":{"odd":1},"reasoning_content":"hm"}', "hm"),
        ('{"reasoning_details":[{"type":"reasoning.text","text":"hm"}]}', "hm"),
        ('{"tool_calls":{"function":{"name":"f","arguments":"{}"}}}', "f{}"),
        ('{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}', 'f{"a":1}'),
        ('{"content":"a","tool_calls":[null,{"function":"odd"},7]}', "a"),
        ('{"content":"a\\ud83d"}', "a\ufffd"),
        ("null", ""),
    ],
)
def test_text_reasoning_and_tool_arguments_count(delta: str, text: str) -> None:
    assert collect(frame(delta)) == (text, bool(text))


def test_blocks_hold_several_frames_and_are_counted_once() -> None:
    block = frame('{"content":"a"}') + frame('{"content":"b"}')
    counter = Collected()
    received = ReceivedOutput(counter)
    received.keep(block)
    received.fold()
    received.fold()
    assert (counter.text, received.tokens) == ("ab", 2)


def test_memory_is_bounded() -> None:
    counter = Collected()
    received = ReceivedOutput(counter)
    block = frame('{"content":"%s"}' % ("x" * 1000))
    for _ in range(FOLD_AT_BYTES // 1000 + 1):
        received.keep(block)
    assert counter.text  # folded on the way, without having been asked


def test_other_shapes_of_answers() -> None:
    counter = Collected()
    received = ReceivedOutput(counter)
    received.add_data(b'{"choices":[{"text":"old"}]}')
    received.add_data(b'{"choices":[{"message":{"content":" whole"}}]}')
    received.add_data(b'{"object":"list"}')
    received.add_data(b"not json")
    received.add_data(b'{"choices":"odd"}')
    assert counter.text == "old whole"


def test_text_that_is_not_utf8_is_not_counted() -> None:
    received = ReceivedOutput(Collected())
    received.keep(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n')
    assert (received.has_content, received.tokens) == (False, 0)
