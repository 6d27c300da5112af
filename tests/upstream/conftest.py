"""The transport runs on uvloop and, where there is none, on asyncio's own loop: tests run on both."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from proxy.upstream.client import UpstreamClient
from tests.support.upstream import Upstream


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient()
    yield made
    await made.close()
    assert made.open_connections == 0
