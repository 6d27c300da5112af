"""The checks on the head of a request; the wire is in test_protocol.py."""

import pytest

from proxy.core.errors import BadRequest, RequestRefused
from proxy.web.addresses import HostPolicy
from proxy.web.head import MAX_HEADERS, RequestHead

HOSTS = HostPolicy("127.0.0.1", ())


def head(url: bytes = b"/", *headers: tuple[bytes, bytes]) -> RequestHead:
    made = RequestHead()
    made.url += url
    for name, value in headers:
        made.add(name, value)
    return made


def test_names_become_lower_case() -> None:
    assert head(b"/", (b"X-Y", b"Z")).headers == [(b"x-y", b"Z")]


def test_size_is_about_what_was_sent() -> None:
    assert head(b"/path", (b"host", b"a"), (b"x", b"y")).size == 5 + 9 + 6


def test_too_many_headers() -> None:
    made = head(b"/", *[(b"x", b"y")] * MAX_HEADERS)
    with pytest.raises(RequestRefused) as caught:
        made.add(b"x", b"y")
    assert (caught.value.status, caught.value.code) == (431, "headers_too_large")


@pytest.mark.parametrize("value", [b"chunked", b"Chunked"])
def test_chunked(value: bytes) -> None:
    made = head(b"/", (b"Transfer-Encoding", value), (b"host", b"localhost"))
    assert made.chunked
    made.check("POST", "1.1", HOSTS)
    with pytest.raises(BadRequest, match=r"HTTP/1\.0 has no Transfer-Encoding"):
        made.check("POST", "1.0", HOSTS)


@pytest.mark.parametrize("value", [b"gzip, chunked", b"identity", b"chunked, chunked"])
def test_other_codings(value: bytes) -> None:
    with pytest.raises(BadRequest, match="chunked"):
        head(b"/", (b"Transfer-Encoding", value))


@pytest.mark.parametrize(("value", "expected"), [(b"100-Continue", True), (b"other", False)])
def test_expectation(value: bytes, expected: bool) -> None:
    assert head(b"/", (b"Expect", value)).expects_continue is expected


def test_hosts() -> None:
    with pytest.raises(BadRequest, match="two Host"):
        head(b"/", (b"host", b"localhost"), (b"Host", b"localhost"))
    with pytest.raises(BadRequest, match="no Host"):
        head().check("GET", "1.1", HOSTS)
    head().check("GET", "1.0", HOSTS)
    with pytest.raises(RequestRefused, match=r'"evil\.test"'):
        head(b"/", (b"host", b"evil.test")).check("GET", "1.0", HOSTS)


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2"])
def test_versions(version: str) -> None:
    with pytest.raises(BadRequest, match=r"HTTP/1\.1"):
        head(b"/", (b"host", b"localhost")).check("GET", version, HOSTS)


def test_connect() -> None:
    with pytest.raises(RequestRefused) as caught:
        head(b"a:80", (b"host", b"localhost")).check("CONNECT", "1.1", HOSTS)
    assert caught.value.status == 405


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("GET", b"/a?b?c", (b"/a", b"b?c")),
        ("GET", b"//evil.test/a", (b"//evil.test/a", b"")),
        ("OPTIONS", b"*", (b"*", b"")),
        ("GET", b"http://localhost", (b"/", b"")),
        ("GET", b"http://localhost?a", (b"/", b"a")),
        ("GET", b"HTTPS://LOCALHOST:1/a/b?c", (b"/a/b", b"c")),
    ],
)
def test_targets(method: str, url: bytes, expected: tuple[bytes, bytes]) -> None:
    assert head(url).target(method, HOSTS) == expected


@pytest.mark.parametrize(
    "url", [b"*", b"/a#b", b"http://localhost#a", b"http:///a", b"ftp://localhost/", b"a:80"]
)
def test_targets_that_are_none(url: bytes) -> None:
    with pytest.raises(BadRequest):
        head(url).target("GET", HOSTS)


def test_target_of_another_host() -> None:
    with pytest.raises(RequestRefused):
        head(b"http://evil.test/").target("GET", HOSTS)


def test_path_of_a_request_that_may_be_refused() -> None:
    assert head(b"/v1/messages\xff?beta=true").path == "/v1/messages\xff"


def test_without_upgrade() -> None:
    made = head(
        b"/a?b",
        (b"Connection", b"Upgrade, keep-alive ,HTTP2-Settings"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"AAEA"),
        (b"Host", b"localhost"),
    )
    assert made.without_upgrade(b"POST", "1.1") == (
        b"POST /a?b HTTP/1.1\r\nconnection: keep-alive\r\nhost: localhost\r\n\r\n"
    )
