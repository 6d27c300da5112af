"""JSON with halves of surrogate pairs."""

from typing import Any

import msgspec
import pytest

from proxy.core.answerjson import decoded, without_halves

ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb"\ud83d", "\ufffd"),
        (rb"a\uDE00b", "a\ufffdb"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\ud83d\n\ude00", "\ufffd\n\ufffd"),
        (rb"\\ud83d \\\ud83d", "\\ud83d \\\ufffd"),
    ],
)
def test_halves_are_replaced(text: bytes, value: str) -> None:
    assert decoded(ANY, b'["%b"]' % text) == [value]


@pytest.mark.parametrize("data", [rb'"\\ud83d"', rb'"\ud83d\ude00"', b"", rb'"\u00e9"'])
def test_all_else_stays(data: bytes) -> None:
    assert without_halves(data) == data


@pytest.mark.parametrize("data", [b"", b"{", rb'{"a":"\ud83d"', rb'"\ud8"'])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decoded(ANY, data)


def test_raw_members_can_be_decoded() -> None:
    assert decoded(ANY, msgspec.Raw(rb'"\ud83d"')) == "\ufffd"
    with pytest.raises(msgspec.DecodeError):
        decoded(ANY, msgspec.Raw(b"{"))
