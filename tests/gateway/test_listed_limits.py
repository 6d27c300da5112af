"""Limits and prices out of lists, through a whole gateway."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import gateway
from tests.support.replies import chat, message
from tests.support.upstream import Upstream

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("model", "field", "sent", "arrives"),
    [
        ("up/gpt-4o", "max_completion_tokens", 99_999, 16_384),
        ("up/gpt-4o", "max_completion_tokens", 16_000, 16_000),
        ("up/gpt-4o", "max_completion_tokens", None, None),
        ("up/unknown", "max_completion_tokens", 99_999, 99_999),
        ("mine", "max_completion_tokens", 99_999, 500),
    ],
)
async def test_a_length_is_bounded_by_what_a_list_says(
    tmp_path: Path, model: str, field: str, sent: int | None, arrives: int | None
) -> None:
    body: dict[str, Any] = {"model": model, "messages": MESSAGES}
    async with Upstream() as upstream:
        up = {"preset": "openai", "base_url": upstream.url, "api_key": "sk-up"}
        models = {"mine": {"routes": ["up/gpt-4o"], "max_output": 500}}
        async with gateway(tmp_path, providers={"up": up}, models=models) as sluice:
            await sluice.http.post(
                "/v1/chat/completions", json=body if sent is None else body | {field: sent}
            )
            assert upstream.requests[0].json.get(field) == arrives


@pytest.mark.parametrize(("model", "arrives"), [("claude-haiku-4-5-20251001", 64_000), ("claude-9", 4096)])
async def test_messages_gets_the_length_that_it_demands(tmp_path: Path, model: str, arrives: int) -> None:
    async with Upstream() as upstream:
        up = {"preset": "anthropic", "base_url": upstream.origin, "api_key": "sk-up"}
        async with gateway(tmp_path, providers={"up": up}) as sluice:
            for path in ("/v1/chat/completions", "/v1/messages"):
                upstream.reply(message())
                await sluice.http.post(path, json={"model": f"up/{model}", "messages": MESSAGES})
        assert [request.json["max_tokens"] for request in upstream.requests] == [arrives, arrives]


async def test_what_a_list_says_is_charged_and_an_import_holds_for_the_next_request(tmp_path: Path) -> None:
    price = {"id": "gpt-6.1-sol", "price": {"input": "1", "output": "2"}}
    lists = [{"preset": "openai", "currency": "USD", "source": "s", "date": "2026-11-20", "models": [price]}]
    async with Upstream() as upstream:
        up = {"preset": "openai", "base_url": upstream.url, "api_key": "sk-up"}
        async with gateway(tmp_path, providers={"up": up}) as sluice:

            async def cost(input_tokens: int) -> str:
                upstream.reply(chat("hi", usage=(input_tokens, 100)))
                body = {"model": "up/gpt-6.1-sol", "messages": MESSAGES}
                answer = await sluice.http.post("/v1/chat/completions", json=body)
                charged: str = answer.headers["x-sluice-cost"]
                return charged

            assert await cost(1000) == "0.003000000"
            assert await cost(300_000) == "1.201500000"
            imported = await sluice.admin.post("/admin/api/prices", json={"file": "f", "lists": lists})
            assert imported.status_code == 200
            assert await cost(300_000) == "0.300200000"
