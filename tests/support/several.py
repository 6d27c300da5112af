"""A gateway over several scripted providers, whose shuffling and whose time a test decides.

async with several(tmp_path, {"a": {}, "b": {"api_keys": ["kb1", "kb2"]}}, models=…) as (sluice, ups):
    ups["a"].always(error(500))
    …
    pass_time(sluice, 30)
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.support.clients import MESSAGES
from tests.support.gateway import Sluice, gateway
from tests.support.upstream import Request, Upstream

#: Requests of one conversation: its first turn, and a later one.
FIRST = MESSAGES
LATER = [*MESSAGES, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Once more"}]


@asynccontextmanager
async def several(
    directory: Path, providers: Mapping[str, Mapping[str, Any]], **settings: Any
) -> AsyncIterator[tuple[Sluice, dict[str, Upstream]]]:
    """Run one upstream for each provider, and a gateway over them that keeps its configuration's order."""
    async with AsyncExitStack() as stack:
        upstreams = {name: await stack.enter_async_context(Upstream()) for name in providers}
        whole = {name: {"base_url": upstreams[name].url, **more} for name, more in providers.items()}
        sluice = await stack.enter_async_context(gateway(directory, providers=whole, **settings))
        sluice.app.gateway.services.router.chance = lambda: 0.5
        yield sluice, upstreams


async def ask(sluice: Sluice, model: str = "m", *, key: str | None = None, **body: Any) -> httpx2.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    whole = {"model": model, "messages": FIRST, **body}
    return await sluice.http.post("/v1/chat/completions", json=whole, headers=headers)


def code(answer: httpx2.Response) -> str:
    found: str = answer.json()["error"]["code"]
    return found


def pass_time(sluice: Sluice, seconds: float) -> None:
    """Move the gateway's monotonic clock on, and let those look who wait."""
    services = sluice.app.gateway.services
    clock, before = services.clock, services.clock.monotonic_ns
    ahead_ns = int(seconds * 10**9)
    clock.monotonic_ns = lambda: before() + ahead_ns  # type: ignore[method-assign]  # one clock, set ahead
    services.router.room.look()


def stop_time(sluice: Sluice) -> None:
    """Let the gateway's monotonic clock stand still from now on, except for `pass_time`."""
    clock, now_ns = sluice.app.gateway.services.clock, time.monotonic_ns()
    clock.monotonic_ns = lambda: now_ns  # type: ignore[method-assign]  # one clock, stopped


def bearer(request: Request) -> str:
    """Return the provider key of a request."""
    value = request.header("authorization")
    assert value is not None
    return value.removeprefix("Bearer ")


def bearers(upstream: Upstream) -> list[str]:
    return [bearer(request) for request in upstream.requests]


async def state_of(sluice: Sluice, provider: str) -> dict[str, Any]:
    answer = await sluice.admin.get(f"/admin/api/providers/{provider}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def errors_of(sluice: Sluice, answer: httpx2.Response) -> list[tuple[str, str | None]]:
    """Return of each attempt whom it asked and how it failed, as the receipt has it."""
    attempts = (await sluice.receipt(answer))["attempts"]
    return [(attempt["provider"], attempt["error"]) for attempt in attempts]
