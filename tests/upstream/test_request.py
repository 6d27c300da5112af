import io

import pytest

from proxy.upstream.request import BodyFile, Origin, encode_head


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        (Origin("https", "api.example", 443), b"api.example"),
        (Origin("https", "api.example", 8443), b"api.example:8443"),
        (Origin("https", "api.example", 80), b"api.example:80"),
        (Origin("http", "api.example", 80), b"api.example"),
        (Origin("http", "127.0.0.1", 11434), b"127.0.0.1:11434"),
        (Origin("http", "::1", 80), b"[::1]"),
        (Origin("http", "fe80::1", 8000), b"[fe80::1]:8000"),
        (Origin("https", "例え.example", 443), b"xn--r8jz45g.example"),
    ],
)
def test_authority(origin: Origin, authority: bytes) -> None:
    assert origin.authority == authority


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", ".example"])
def test_hosts_that_cannot_be_names(host: str) -> None:
    with pytest.raises(UnicodeError):
        Origin("http", host, 80)


def test_origins_are_told_apart_without_showing_a_password() -> None:
    plain = Origin("http", "api.example", 80)
    proxied = Origin("http", "api.example", 80, http_proxy="http://user:secret@proxy:1")
    assert plain != proxied
    assert plain == Origin("http", "api.example", 80)
    assert hash(plain) == hash(Origin("http", "api.example", 80))
    assert "secret" not in f"{proxied!r} {proxied}"


ORIGIN = Origin("https", "api.example", 443)


def test_head() -> None:
    assert encode_head(ORIGIN, "POST", b"/v1/x?y=z", [(b"a", b"b"), (b"c", b"")], b"12345") == (
        b"POST /v1/x?y=z HTTP/1.1\r\n"
        b"host: api.example\r\n"
        b"accept-encoding: identity\r\n"
        b"a: b\r\n"
        b"c: \r\n"
        b"content-length: 5\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", b"", None),
        ("GET", b"x", b"1"),
        ("POST", b"", b"0"),
        ("DELETE", b"", b"0"),
        ("POST", BodyFile(io.BytesIO(), 123), b"123"),
    ],
)
def test_content_length(method: str, body: bytes | BodyFile, length: bytes | None) -> None:
    head = encode_head(ORIGIN, method, b"/", [], body)
    expected = b"" if length is None else b"content-length: %b\r\n" % length
    assert head.endswith(b"identity\r\n" + expected + b"\r\n")


@pytest.mark.parametrize("text", [b"a\r\nb: c", b"a\nb: c", b"a\rb: c", b"\r\n", b"a\r\n\r\n"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_line_breaks(text: bytes, method: str) -> None:
    for target, headers in ((text, []), (b"/", [(text, b"x")]), (b"/", [(b"x", text)])):
        with pytest.raises(ValueError, match="line break"):
            encode_head(ORIGIN, method, target, headers, b"")


async def test_body_file() -> None:
    body = BodyFile(io.BytesIO(b"hello"), 7)
    assert await body.read(3) == b"hel"
    assert await body.read(3) == b"lo"
    with pytest.raises(EOFError, match="7 bytes"):
        await body.read(3)
