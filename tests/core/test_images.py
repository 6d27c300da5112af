"""Sizes that images state, and what the families count for them."""

import base64
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.images import (
    Size,
    claude_tokens,
    deepseek_tokens,
    openai_tokens,
    qwen_tokens,
    size_of,
)

SIDES = st.integers(min_value=1, max_value=65535)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height)


def jpeg(width: int, height: int, preview: int = 0) -> bytes:
    tables = b"\xff\xdb" + struct.pack(">H", 67) + bytes(65)
    exif = b"\xff\xe1" + struct.pack(">H", 2 + preview) + bytes(preview)
    frame = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width)
    return b"\xff\xd8" + exif + tables + frame


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


@pytest.mark.parametrize("image", [png, gif, jpeg])
@given(width=SIDES, height=SIDES)
def test_the_size_is_read_from_the_header(
    image: Callable[[int, int], bytes], width: int, height: int
) -> None:
    assert size_of(encoded(image(width, height))) == Size(width, height)


def test_a_jpeg_may_carry_a_preview_and_be_large() -> None:
    assert size_of(encoded(jpeg(4000, 3000, preview=65_533) + bytes(200_000))) == Size(4000, 3000)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "no base64!",
        "ü",
        "AAAA",
        encoded(png(3, 4)[:20]),
        encoded(gif(3, 4)[:8]),
        encoded(jpeg(3, 4)[:-6]),
        encoded(b"\xff\xd8" + b"\xff\xc4\0\0" * 5),
        encoded(png(0, 4)),
        encoded(jpeg(3, 4, preview=60_000))[:40_000],
    ],
    ids=["empty", "signs", "not ascii", "unknown", "png", "gif", "jpeg", "no frame", "zero", "cut"],
)
def test_damaged_and_unknown_images_have_no_size(data: str) -> None:
    assert size_of(data) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(junk: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"\xff\xd8"):
        size_of(encoded(start + junk))


@pytest.mark.parametrize(
    ("size", "detail", "tokens"),
    [
        (None, None, 765),
        (None, "low", 85),
        (Size(4000, 3000), "low", 85),
        (Size(512, 512), "high", 255),
        (Size(1024, 1024), "auto", 765),
        (Size(2048, 4096), "high", 1105),
        (Size(1, 1), None, 255),
        (Size(100_000, 1), None, 85 + 4 * 170),
    ],
)
def test_openai_counts_tiles(size: Size | None, detail: str | None, tokens: int) -> None:
    assert openai_tokens(size, detail) == tokens


@pytest.mark.parametrize(
    ("size", "claude", "qwen"),
    [
        (None, 1500, 1280),
        (Size(750, 10), 10, 27),
        (Size(4000, 3000), 1600, 15444),
        (Size(9000, 9000), 1600, 16384),
    ],
)
def test_claude_counts_pixels_and_qwen_patches(size: Size | None, claude: int, qwen: int) -> None:
    assert (claude_tokens(size, None), qwen_tokens(size, None)) == (claude, qwen)
    assert deepseek_tokens(size, None) == 1024
