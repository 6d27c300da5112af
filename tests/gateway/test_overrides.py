"""Configured changes to bodies, through a whole gateway."""

from pathlib import Path
from typing import Any

from tests.support.gateway import gateway
from tests.support.upstream import Upstream

ROUTE = {
    "set": {"thinking": {"type": "disabled", "of": [1, None]}, "seed": 2},
    "default": {"top_p": 0.5, "user": "route"},
    "remove": ["stop"],
}
PROVIDER = {"set": {"seed": 1, "stop": ["x"]}, "default": {"user": "provider"}, "remove": ["top_p"]}


async def sent(directory: Path, path: str, model: str, **members: Any) -> dict[str, Any]:
    """Return the body that a provider gets of a request."""
    async with Upstream() as upstream:
        settings: dict[str, Any] = {
            "providers": {"up": {"base_url": upstream.url, "overrides": PROVIDER}},
            "models": {
                "plain": {"routes": ["up/m"]},
                "own": {"routes": [{"provider": "up", "model": "m", "overrides": ROUTE}]},
                "x-*": {"routes": [{"provider": "up", "model": "*", "overrides": {"set": {"n": 1}}}]},
            },
        }
        async with gateway(directory, **settings) as sluice:
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **members}
            answer = await sluice.http.post(path, json=body)
            assert answer.status_code == 200, answer.text
        received: dict[str, Any] = upstream.requests[0].json
        return received


async def test_those_of_the_route_come_after_the_providers(tmp_path: Path) -> None:
    body = await sent(tmp_path, "/v1/chat/completions", "own", top_p=1)
    assert body["thinking"] == {"type": "disabled", "of": [1, None]}
    assert (body["seed"], body["top_p"], body["user"]) == (2, 0.5, "provider")
    assert "stop" not in body


async def test_other_routes_to_the_same_model_are_left_alone(tmp_path: Path) -> None:
    body = await sent(tmp_path, "/v1/chat/completions", "plain", top_p=1)
    assert (body["seed"], body["stop"], body["user"]) == (1, ["x"], "provider")
    assert not {"thinking", "top_p"} & body.keys()


async def test_translated_bodies_and_wildcards_have_them_too(tmp_path: Path) -> None:
    body = await sent(tmp_path, "/v1/messages", "x-large", max_tokens=9)
    assert (body["model"], body["n"], body["seed"]) == ("large", 1, 1)
