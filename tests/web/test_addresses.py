"""Host names and client addresses. docs/configuration.md"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import BadRequest, RequestRefused
from proxy.web.addresses import HostPolicy, forwarded_client, forwarded_scheme, is_loopback, networks


def verdict(policy: HostPolicy, host: bytes) -> int:
    """Return the status that a request for that host gets from the policy."""
    try:
        policy.check(host)
    except (BadRequest, RequestRefused) as error:
        return error.status
    return 200


class TestHostPolicy:
    @pytest.mark.parametrize(
        "host",
        [
            b"localhost",
            b"LOCALHOST:8484",
            b"localhost.",
            b"console.localhost",
            b"127.0.0.1:8484",
            b"127.9.9.9",
            b"[::1]:8484",
            b"[::ffff:127.0.0.1]",
            b"host.docker.internal:8484",
            b"host.containers.internal",
            b"localhost:",
        ],
    )
    @pytest.mark.parametrize("bind", ["127.0.0.1", "localhost", "::1"])
    def test_a_loopback_bind_answers_for_loopback_names(self, bind: str, host: bytes) -> None:
        assert verdict(HostPolicy(bind, ()), host) == 200
        assert verdict(HostPolicy(bind, ("gw.example.com",)), host) == 200

    @pytest.mark.parametrize(
        "host",
        [
            b"evil.test",
            b"localhost.evil.test",
            b"notlocalhost",
            b"0.0.0.0",
            b"192.168.1.5",
            b"[::]",
            b"127.evil",
        ],
    )
    def test_and_for_no_others(self, host: bytes) -> None:
        assert verdict(HostPolicy("127.0.0.1", ()), host) == 421

    @pytest.mark.parametrize(
        "host", [b"evil.test", b"localhost", b"192.168.1.5:8484", b"[2001:db8::1]", b"my_box"]
    )
    def test_another_bind_answers_for_any(self, host: bytes) -> None:
        assert verdict(HostPolicy("0.0.0.0", ()), host) == 200

    @pytest.mark.parametrize(
        "host",
        [
            b"",
            b" ",
            b"a b",
            b"a/b?c",
            b"a@b",
            b"a:b",
            b"a:1:2",
            b":80",
            b"a:123456",
            b".a",
            b"[::1",
            b"[x]",
            b"a,b",
            b"a" * 254,
            b"a\xff",
            b"a%41",
        ],
    )
    @pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
    def test_nonsense_is_a_bad_request(self, bind: str, host: bytes) -> None:
        assert verdict(HostPolicy(bind, ()), host) == 400

    @pytest.mark.parametrize(
        ("allowed", "host", "status"),
        [
            ("gw.example.com", b"gw.example.com", 200),
            ("GW.Example.com.", b"gw.EXAMPLE.com.:443", 200),
            ("gw.example.com", b"www.gw.example.com", 421),
            ("gw.example.com:443", b"gw.example.com:443", 200),
            ("gw.example.com:443", b"gw.example.com:80", 421),
            ("gw.example.com:443", b"gw.example.com", 421),
            ("*.example.com", b"a.b.example.com", 200),
            ("*.example.com", b"example.com", 421),
            ("*.example.com", b"badexample.com", 421),
            ("*", b"anything", 200),
            ("192.168.1.5", b"192.168.1.5:8484", 200),
            ("2001:db8::1", b"[2001:DB8::1]:8484", 200),
            ("[2001:db8::1]", b"[2001:db8::1]", 200),
            ("gw.example.com", b"localhost", 421),
        ],
    )
    def test_configured_ones(self, allowed: str, host: bytes, status: int) -> None:
        policy = HostPolicy("0.0.0.0", (allowed,))
        assert verdict(policy, host) == status
        assert verdict(policy, host) == status  # remembered or not

    def test_a_refusal_says_what_to_add(self) -> None:
        with pytest.raises(RequestRefused) as caught:
            HostPolicy("127.0.0.1", ()).check(b"gw.example.com:8484")
        assert caught.value.code == "misdirected_request"
        assert 'add "gw.example.com" to server.allowed_hosts' in caught.value.message

    def test_what_is_remembered_is_bounded(self) -> None:
        policy = HostPolicy("0.0.0.0", ())
        for number in range(1000):
            policy.check(b"host%d" % number)
        assert len(policy._remembered) == 256


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("0.0.0.0", False), ("::", False)])
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


class TestForwardedClient:
    TRUSTED = networks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"])

    @pytest.mark.parametrize(
        ("peer", "forwarded", "expected"),
        [
            ("203.0.113.9", [b"1.2.3.4"], "203.0.113.9"),
            ("10.0.0.1", [], "10.0.0.1"),
            ("10.0.0.1", [b"1.2.3.4"], "1.2.3.4"),
            ("192.0.2.7", [b"1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", [b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", [b"6.6.6.6", b"1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", [b"6.6.6.6, 1.2.3.4, 10.0.0.2,10.0.0.3"], "1.2.3.4"),
            ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", [b"1.2.3.4, unknown"], "10.0.0.1"),
            ("10.0.0.1", [b"unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", [b""], "10.0.0.1"),
            ("10.0.0.1", [b"\xff"], "10.0.0.1"),
            ("10.0.0.1", [b"1.2.3.4:5678"], "1.2.3.4"),
            ("10.0.0.1", [b"[2001:db8:0::1]:80, [2a00::00]:80"], "2a00::"),
            ("10.0.0.1", [b"2a00::1"], "2a00::1"),
            ("10.0.0.1", [b"::ffff:1.2.3.4"], "1.2.3.4"),
            ("::ffff:10.0.0.1", [b"1.2.3.4"], "1.2.3.4"),
            ("not an address", [b"1.2.3.4"], "not an address"),
        ],
    )
    def test_rightmost_untrusted(self, peer: str, forwarded: list[bytes], expected: str) -> None:
        headers = [(b"host", b"x"), *((b"x-forwarded-for", value) for value in forwarded)]
        assert forwarded_client(peer, headers, self.TRUSTED) == expected

    def test_nobody_is_trusted(self) -> None:
        assert forwarded_client("10.0.0.1", [(b"x-forwarded-for", b"1.2.3.4")], ()) == "10.0.0.1"

    @given(st.lists(st.binary(max_size=40)))
    def test_a_forged_beginning_changes_nothing(self, forged: list[bytes]) -> None:
        headers = [*((b"x-forwarded-for", value) for value in forged), (b"x-forwarded-for", b"1.2.3.4")]
        assert forwarded_client("10.0.0.1", headers, self.TRUSTED) == "1.2.3.4"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", [b"https"], "https"),
        ("10.0.0.1", [b"HTTPS "], "https"),
        ("10.0.0.1", [b"http, https"], "https"),
        ("10.0.0.1", [b"https", b"http"], "http"),
        ("10.0.0.1", [b"javascript"], "http"),
        ("10.0.0.1", [], "http"),
        ("203.0.113.9", [b"https"], "http"),
        ("", [b"https"], "http"),
    ],
)
def test_the_scheme_is_what_the_nearest_trusted_proxy_says(
    peer: str, forwarded: list[bytes], expected: str
) -> None:
    headers = [(b"host", b"x"), *((b"x-forwarded-proto", value) for value in forwarded)]
    assert forwarded_scheme(peer, headers, networks(["10.0.0.0/8"])) == expected
    assert forwarded_scheme(peer, headers, ()) == "http"
