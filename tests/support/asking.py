"""Calls of the upstream client with everything filled in that a test does not care about."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from proxy.core.errors import UpstreamFailure
from proxy.upstream.client import Response, UpstreamClient
from proxy.upstream.request import Body, Deadlines, Headers, Origin
from tests.support.upstream import Upstream

# Seconds; far more than any test takes.
PATIENT = Deadlines(connect_s=30, first_byte_s=30, idle_s=30, total_s=30)


def impatient(**seconds: float) -> Deadlines:
    return replace(PATIENT, **seconds)


def origin_of(upstream: Upstream) -> Origin:
    return Origin("http", "127.0.0.1", upstream.port)


async def ask(
    client: UpstreamClient,
    target: Upstream | Origin,
    *,
    method: str = "POST",
    path: bytes = b"/v1/chat/completions",
    headers: Headers | None = None,
    body: Body = b'{"model":"m"}',
    deadlines: Deadlines = PATIENT,
) -> Response:
    origin = origin_of(target) if isinstance(target, Upstream) else target
    return await client.send(origin, method, path, headers or [], body, deadlines)


async def ask_whole(
    client: UpstreamClient, target: Upstream | Origin, *, deadlines: Deadlines = PATIENT
) -> bytes:
    response = await ask(client, target, deadlines=deadlines)
    return await response.read_all(1_000_000)


async def failure_of(
    client: UpstreamClient, target: Upstream | Origin, *, deadlines: Deadlines = PATIENT
) -> tuple[bytes, UpstreamFailure]:
    """Return what was received of the body, and the failure that ended the answer."""
    received = b""
    try:
        response = await ask(client, target, deadlines=deadlines)
        while (block := await response.read()) is not None:
            received += block
    except UpstreamFailure as error:
        return received, error
    raise AssertionError(f"the answer was complete: {received!r}")


async def eventually(predicate: Callable[[], bool]) -> None:
    """Let the event loop turn until something holds that nobody announces."""
    while not predicate():
        await asyncio.sleep(0)
