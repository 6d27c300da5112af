"""Addresses and attempts; TLS and tunnels have files of their own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.upstream import dial
from tests.support.asking import eventually
from tests.support.descriptors import open_descriptors
from tests.support.ports import refusing_port, silent_port
from tests.support.upstream import Upstream

V4, V6 = socket.AF_INET, socket.AF_INET6


def address(port: int, family: int = V4) -> dial.Address:
    where = ("127.0.0.1", port) if family == V4 else ("::1", port, 0, 0)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)


@pytest.fixture
def resolve_to(monkeypatch: pytest.MonkeyPatch) -> list[dial.Address]:
    """What every name resolves to."""
    addresses: list[dial.Address] = []

    async def resolve(host: str, port: int) -> list[dial.Address]:
        return addresses

    monkeypatch.setattr(dial, "_resolve", resolve)
    return addresses


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[socket.socket]:
    sock = await dial.connect("name.example", 1)
    with sock:
        yield sock


async def test_first_address_that_answers_is_used(
    upstream: Upstream, resolve_to: list[dial.Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_DELAY_S", 30)  # a refusal is not waited for
    with refusing_port() as refusing:
        resolve_to += [address(refusing), address(refusing), address(upstream.port)]
        async with connected() as sock:
            assert sock.getpeername() == ("127.0.0.1", upstream.port)


async def test_silent_address_does_not_keep_the_next_waiting(
    upstream: Upstream, resolve_to: list[dial.Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_DELAY_S", 0.02)
    with silent_port() as silent:
        resolve_to += [address(silent), address(silent), address(upstream.port)]
        async with connected() as sock:
            assert sock.getpeername() == ("127.0.0.1", upstream.port)


async def test_all_addresses_refuse(resolve_to: list[dial.Address]) -> None:
    with refusing_port() as first, refusing_port() as second:
        resolve_to += [address(first), address(second)]
        with pytest.raises(ConnectionRefusedError):
            await dial.connect("name.example", 1)


async def test_slow_address_is_waited_for_when_the_others_refuse(resolve_to: list[dial.Address]) -> None:
    descriptors = open_descriptors()
    with silent_port() as silent, refusing_port() as refusing:
        resolve_to += [address(silent), address(refusing)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await dial.connect("name.example", 1)
    await eventually(lambda: open_descriptors() == descriptors)


async def test_losers_of_the_race_are_closed(
    upstream: Upstream, resolve_to: list[dial.Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_DELAY_S", 0)
    resolve_to += [address(upstream.port)] * 5
    descriptors = open_descriptors()
    async with connected():
        await eventually(lambda: open_descriptors() == descriptors + 2)  # the winner's two ends
    await eventually(lambda: open_descriptors() == descriptors)


async def test_attempt_that_connects_too_late_is_closed() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        late: asyncio.Task[socket.socket] = asyncio.create_task(asyncio.sleep(0, ours))
        late.add_done_callback(dial._close_late_socket)
        await late
        await eventually(lambda: ours.fileno() == -1)
        assert theirs.recv(1) == b""


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_race_leaves_no_socket(
    upstream: Upstream, resolve_to: list[dial.Address], monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_DELAY_S", 0)
    resolve_to += [address(upstream.port)] * 3
    descriptors = open_descriptors()
    racing = asyncio.create_task(dial.connect("name.example", 1))
    for _ in range(turns):
        await asyncio.sleep(0)
    if not racing.cancel():
        racing.result().close()
    await asyncio.wait([racing])
    await eventually(lambda: open_descriptors() == descriptors)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(V6, "a"), (V6, "b"), (V4, "c"), (V4, "d")], "acbd"),
        ([(V4, "a"), (V4, "b"), (V6, "c")], "acb"),
        ([(V4, "a"), (V4, "b")], "ab"),
        ([(V6, "a"), (V4, "b"), (V4, "c"), (V4, "d")], "abcd"),
    ],
)
async def test_families_take_turns(
    monkeypatch: pytest.MonkeyPatch, found: list[tuple[int, str]], expected: str
) -> None:
    answers = [(family, socket.SOCK_STREAM, 6, "", (host, 80)) for family, host in found]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)
    addresses = await dial._resolve("name.example", 80)
    assert "".join(where[0] for *_, where in addresses) == expected


async def test_names_are_resolved(upstream: Upstream) -> None:
    sock = await dial.connect("localhost", upstream.port)
    with sock:
        assert sock.getpeername()[1] == upstream.port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_numbers_need_no_name_server(host: str) -> None:
    assert [where[0] for *_, where in await dial._resolve(host, 80)] == [host]
