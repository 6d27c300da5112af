"""Clients that leave at random moments: nothing is lost, nothing is left."""

import asyncio
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.core.entities import Finish
from tests.support.clients import MESSAGES, StreamingClient
from tests.support.gateway import gateway
from tests.support.replies import chat_stream
from tests.support.upstream import Upstream


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_aborted_streams(tmp_path: Path, count: int) -> None:
    chance = random.Random(20261121)
    async with (
        Upstream() as upstream,
        gateway(tmp_path, providers={"up": {"base_url": upstream.url}}) as sluice,
    ):
        upstream.always(chat_stream(*["word "] * 200).in_pieces(64))
        # What is there once stays: a connection of each client, the readers of the database.
        await sluice.http.post(
            "/v1/chat/completions", json={"model": "up/m", "messages": MESSAGES, "stream": True}
        )
        await sluice.admin.get("/admin/api/usage")
        tasks, files = len(asyncio.all_tasks()), open_files()
        at_once = asyncio.Semaphore(50)

        async def leave() -> None:
            async with at_once, StreamingClient.begun(sluice) as client:
                with suppress(ConnectionError):
                    for _ in range(chance.choice((0, 0, 1, 5, 40))):
                        await asyncio.wait_for(client.reader.read(512), 20)
                    for _ in range(chance.randrange(20)):
                        await asyncio.sleep(0)
                    chance.choice((client.reset, client.writer.close, client.half_close))()

        await asyncio.gather(*(leave() for _ in range(count)))
        async with asyncio.timeout(20):
            while sluice.app.gateway.running or upstream.open_connections > 1:
                await asyncio.sleep(0)
        ids = [record.id for record in sluice.records]
        assert len(set(ids)) == len(ids) >= len(upstream.requests)
        assert {record.finish for record in sluice.records} <= {Finish.OK, Finish.CLIENT_GONE}
        assert sluice.app.gateway.services.client.open_connections <= 1
        usage = (await sluice.admin.get("/admin/api/usage")).json()
        assert usage["requests"] == len(ids)
        async with asyncio.timeout(20):
            while len(asyncio.all_tasks()) > tasks or open_files() > files + 1:
                await asyncio.sleep(0)
