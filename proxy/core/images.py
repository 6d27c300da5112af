"""What an image in a prompt counts for, in LLM tokens, by the rules of the model families.

Source: docs/limits.md, "The estimate"
"""

import base64
import math
import struct
from fractions import Fraction
from typing import NamedTuple

# 128 KiB of image: the size stands in the first bytes of a PNG or GIF, and in a JPEG behind
# segments of up to 64 KiB each, usually a preview and a colour profile.
_HEAD_BASE64 = 4 * (128 * 1024 // 3 + 1)

# ITU T.81, table B.1: the start-of-frame markers are C0 to CF but for three others.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int


def openai_tokens(size: Size | None, detail: object) -> int:
    """Return 85, and unless the detail is low 170 for each tile of 512 pixels after scaling."""
    if detail == "low":
        return 85
    if size is None:
        return 85 + 170 * 4  # any square image of 768 pixels and more
    fit = min(Fraction(1), Fraction(2048, max(size)), Fraction(768, min(size)))
    return 85 + 170 * math.prod(math.ceil(side * fit / 512) for side in size)


def claude_tokens(size: Size | None, _detail: object) -> int:
    """Return a token for 750 pixels; large images are scaled down to 1,600 of them."""
    return 1500 if size is None else min(math.ceil(size.width * size.height / 750), 1600)


def qwen_tokens(size: Size | None, _detail: object) -> int:
    """Return a token for each patch of 28 pixels square; 1,280 of them is the usual bound."""
    return 1280 if size is None else min(math.ceil(size.width / 28) * math.ceil(size.height / 28), 16384)


def deepseek_tokens(_size: Size | None, _detail: object) -> int:
    """Return the most that an image counts for."""
    return 1024


def size_of(data_base64: str) -> Size | None:
    """Return the size that a PNG, GIF or JPEG states; None for anything else or damaged."""
    try:
        head = base64.b64decode(data_base64[:_HEAD_BASE64])
        size = _stated_size(head)
    except (ValueError, struct.error):
        return None
    return size if size and min(size) > 0 else None


def _stated_size(head: bytes) -> Size | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Size(*struct.unpack_from(">II", head, 16))
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Size(*struct.unpack_from("<HH", head, 6))
    if head.startswith(b"\xff\xd8"):
        return _jpeg_size(head)
    return None


def _jpeg_size(head: bytes) -> Size:
    """Walk the segments up to the frame header; struct.error where the data end before it."""
    at = 2
    while True:
        marker, length = struct.unpack_from(">xBH", head, at)
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", head, at + 5)
            return Size(width, height)
        at += 2 + length
