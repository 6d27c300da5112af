"""Hosts and URLs."""

from collections.abc import Callable

import pytest

from proxy.config.urls import (
    allowed_host,
    base_url,
    host,
    is_any,
    is_loopback,
    is_private,
    origin,
    port_of,
    proxy_url,
)


@pytest.mark.parametrize(
    ("check", "text", "expected"),
    [
        (host, "localhost", "localhost"),
        (host, "0.0.0.0", "0.0.0.0"),
        (host, "::1", "::1"),
        (host, "my_host.example.com.", "my_host.example.com."),
        (allowed_host, "LLM.example.com", "llm.example.com"),
        (allowed_host, "*.example.com", "*.example.com"),
        (origin, "https://App.example.com:8443", "https://app.example.com:8443"),
        (base_url, "https://a.b/v1//", "https://a.b/v1"),
        (base_url, "http://[::1]:8000", "http://[::1]:8000"),
        (proxy_url, "http://me:pass@proxy:3128", "http://me:pass@proxy:3128"),
        (proxy_url, "http://proxy/", "http://proxy/"),
    ],
)
def test_good_ones(check: Callable[[str, str], str], text: str, expected: str) -> None:
    assert check(text, "") == expected


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (host, ""), (host, "a b"), (host, "[::1]"), (host, "-a"), (host, "300.1.1.1"), (host, "a..b"),
        (host, "a" * 254), (host, "*.a"), (host, "http://a"),
        (allowed_host, "*"), (allowed_host, "a.*"), (allowed_host, "a:80"),
        (origin, "*"), (origin, "null"), (origin, "https://a/"), (origin, "https://*.a.com"), (origin, "ftp://a"),
        (origin, "https://me@a"), (origin, "https://a?b"), (origin, "https://a#b"),
        (base_url, ""), (base_url, "a/v1"), (base_url, "http://"), (base_url, "http://a b"), (base_url, "http://a:0"),
        (base_url, "http://a:99999"), (base_url, "http://[::1"), (base_url, "http://a\n"), (base_url, "ws://a"),
        (base_url, "http://a/v1?key=1"), (base_url, "http://a/#x"), (base_url, "http://me@a"),
        (base_url, "http://a/v1/embeddings/"), (base_url, "http://ü.de"),
        (proxy_url, "https://a"), (proxy_url, "http://a/b"), (proxy_url, "a:3128"), (proxy_url, "http://a?b"),
        (proxy_url, "http://a#b"),
    ],
)  # fmt: skip
def test_bad_ones(check: Callable[[str, str], str], text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|URL"):
        check(text, "this")


@pytest.mark.parametrize(
    ("name", "loopback", "private"),
    [
        ("127.0.0.1", True, True),
        ("127.8.8.8", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("LOCALHOST", True, True),
        ("a.localhost", True, True),
        ("localhost.example.com", False, False),
        ("10.1.2.3", False, True),
        ("192.168.0.1", False, True),
        ("100.64.0.1", False, True),
        ("fd00::1", False, True),
        ("169.254.1.1", False, True),
        ("0.0.0.0", False, True),
        ("ollama", False, True),
        ("nas.local", False, True),
        ("gpu.home.arpa.", False, True),
        ("8.8.8.8", False, False),
        ("2606:4700::1", False, False),
        ("::ffff:8.8.8.8", False, False),
        ("example.com", False, False),
        ("notlocal", False, True),
        ("a.notlocal", False, False),
    ],
)
def test_which_hosts_are_near(name: str, loopback: bool, private: bool) -> None:
    assert (is_loopback(name), is_private(name)) == (loopback, private)


def test_addresses_that_mean_all() -> None:
    assert [is_any(name) for name in ("0.0.0.0", "::", "127.0.0.1", "localhost")] == [
        True,
        True,
        False,
        False,
    ]


def test_ports_follow_from_schemes() -> None:
    assert [port_of(url) for url in ("http://a", "https://a", "https://a:1")] == [80, 443, 1]
