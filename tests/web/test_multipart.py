"""Forms received, kept and sent on."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest

from proxy.core.errors import BadRequest, RequestRefused, Unavailable
from proxy.upstream.client import BodyFile
from proxy.web.body import ClientDisconnected
from proxy.web.multipart import MEMORY_BYTES, MultipartForm, Spool, read_multipart

LIMIT = 8 * 1024 * 1024
SMALL = b"RIFF\x00\xff--b\r\n"
LARGE = b"0123456789abcdef" * (3 * MEMORY_BYTES // 16) + b"!"


def field(name: str, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)


def file(content: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return head + content + b"\r\n"


END = b"--b--\r\n"


class Client:
    """Sends a body in pieces of `size` bytes, as an ASGI server hands them on."""

    def __init__(self, body: bytes, size: int = 64 * 1024, *, leaves: bool = False) -> None:
        pieces = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        messages[-1]["more_body"] = leaves
        self._messages = iter(messages)

    async def __call__(self) -> dict[str, Any]:
        return next(self._messages, {"type": "http.disconnect"})


async def read(
    body: bytes, *, limit: int = LIMIT, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> MultipartForm:
    return await read_multipart(Client(body), list(headers), b"b", limit)


async def sent(body: BodyFile, size: int = 100_000) -> bytes:
    """Read a body as the transport does."""
    body.file.seek(0)
    pieces = []
    missing = body.length
    while missing:
        pieces.append(await body.read(min(size, missing)))
        missing -= len(pieces[-1])
    assert body.file.read(1) == b""
    return b"".join(pieces)


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["in memory", "on disk"])
class TestSentOn:
    async def test_the_model_is_replaced_wherever_it_stands(self, content: bytes) -> None:
        for before, after in [(b"", file(content)), (file(content), b""), (file(content), file(content))]:
            form = await read(before + field("model", b"whisper") + after + END)
            assert form.model == "whisper"
            for name in ("w", "a-much-longer-name/é"):
                body = form.with_model(name)
                assert await sent(body) == before + field("model", name.encode()) + after + END

    async def test_the_provider_is_left_out(self, content: bytes) -> None:
        pinned, model, rest = field("provider", b"groq"), field("model", b"m"), file(content)
        for body in (pinned + model + rest, rest + pinned + model, model + rest + pinned):
            form = await read(body + END)
            assert form.provider == "groq"
            expected = body.replace(pinned, b"").replace(model, field("model", b"n")) + END
            assert await sent(form.with_model("n"), size=999_999) == expected

    async def test_bodies_of_several_attempts_do_not_disturb_each_other(self, content: bytes) -> None:
        form = await read(field("model", b"m") + file(content) + END)
        first, second = form.with_model("one"), form.with_model("two")
        first.file.seek(0)
        beginning = await first.read(100)
        assert await sent(second) == field("model", b"two") + file(content) + END
        rest = [await first.read(50_000) for _ in range(0, first.length - 100, 50_000)]
        assert beginning + b"".join(rest) == field("model", b"one") + file(content) + END

    async def test_a_form_that_was_let_go_of_can_still_be_sent(self, content: bytes) -> None:
        body = (await read(field("model", b"m") + file(content) + END)).with_model("n")
        assert await sent(body) == field("model", b"n") + file(content) + END


async def test_pieces_may_be_of_any_size() -> None:
    body = field("model", b"m") + file(SMALL) + END
    for size in range(1, 50):
        form = await read_multipart(Client(body, size), [], b"b", LIMIT)
        assert await sent(form.with_model("n")) == field("model", b"n") + file(SMALL) + END


@pytest.mark.parametrize(
    ("value", "expected"), [(b"true", True), (b"True", True), (b"1", True), (b"false", False), (b"", False)]
)
async def test_stream(value: bytes, expected: bool) -> None:
    assert (await read(field("stream", value) + field("model", b"m") + END)).stream is expected


async def test_what_is_absent() -> None:
    form = await read(field("model", b"m") + END)
    assert (form.stream, form.provider) == (False, None)


async def test_a_provider_that_is_a_file_stays() -> None:
    pinned = field("provider", b"p").replace(b'"provider"', b'"provider"; filename="p"')
    form = await read(pinned + field("model", b"m") + END)
    assert form.provider is None
    assert await sent(form.with_model("n")) == pinned + field("model", b"n") + END


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (file(SMALL) + END, "missing_model"),
        (field("model", b"") + END, "missing_model"),
        (field("model", b"\xff") + END, "invalid_value"),
        (field("model", b"m"), "invalid_value"),
        (b"", "invalid_value"),
        (field("model", b"m") * 2 + END, "duplicate_key"),
    ],
)
async def test_refusals(body: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await read(body)
    assert caught.value.code == code


async def test_no_boundary() -> None:
    with pytest.raises(BadRequest, match="boundary"):
        await read_multipart(Client(END), [], None, LIMIT)


async def test_the_body_has_a_bound() -> None:
    body = field("model", b"m") + file(SMALL) + END
    await read(body, limit=len(body))
    for headers in ((), ((b"content-length", b"%d" % len(body)),)):
        with pytest.raises(RequestRefused) as caught:
            await read(body, limit=len(body) - 1, headers=headers)
        assert (caught.value.status, caught.value.code) == (413, "body_too_large")


async def test_a_client_that_leaves() -> None:
    with pytest.raises(ClientDisconnected):
        await read_multipart(Client(field("model", b"m"), leaves=True), [], b"b", LIMIT)


async def test_a_disk_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    await read(field("model", b"m") + file(SMALL) + END)
    with pytest.raises(Unavailable) as caught:
        await read(field("model", b"m") + file(LARGE) + END)
    assert caught.value.code == "overloaded"


async def test_a_closed_form_cannot_be_sent() -> None:
    form = await read(field("model", b"m") + file(LARGE) + END)
    body = form.with_model("n")
    form.close()
    with pytest.raises(ValueError, match="closed"):
        await sent(body)
    form.close()


async def test_bodies_are_files_that_can_be_sought() -> None:
    body = (await read(field("model", b"m") + END)).with_model("n")
    body.file.seek(-len(END), 2)
    assert body.file.read() == END
    body.file.seek(body.file.seek(0) + 5)
    assert body.file.tell() == 5


async def test_a_spool_is_read_at_any_place_by_any_thread() -> None:
    spool = Spool()
    content = bytes(range(256)) * (3 * MEMORY_BYTES // 256) + b"tail"
    for start in range(0, len(content), 700_001):
        await spool.append(content[start : start + 700_001])
    assert spool.length == len(content)
    offsets = range(0, len(content), 99_991)
    pieces = await asyncio.gather(*(asyncio.to_thread(spool.read_at, offset, 50) for offset in offsets))
    for offset, piece in zip(offsets, pieces, strict=True):
        assert piece
        assert content[offset:].startswith(piece)
    assert spool.read_at(len(content), 10) == b""
    spool.close()
