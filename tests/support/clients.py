"""Clients of a running gateway that an HTTP library does not make."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.support.gateway import API_KEY, Sluice
from tests.support.raw import RawClient

MESSAGES = [{"role": "user", "content": "Say hello"}]


class StreamingClient(RawClient):
    """A client that has begun to receive a stream."""

    @classmethod
    @asynccontextmanager
    async def begun(cls, sluice: Sluice, **body: Any) -> AsyncIterator["StreamingClient"]:
        content = json.dumps({"model": "up/m", "messages": MESSAGES, "stream": True, **body}).encode()
        url = httpx2.URL(sluice.url)
        async with cls((url.host, url.port or 80)) as client:
            client.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
                % (API_KEY.encode(), len(content), content)
            )
            yield client
