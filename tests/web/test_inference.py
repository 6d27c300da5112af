"""The endpoints that call models, through a whole gateway."""

import asyncio
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.core.entities import Finish
from tests.support.clients import StreamingClient
from tests.support.gateway import API_KEY, Sluice, gateway
from tests.support.replies import Reply, chat, chat_stream, error, hang, json_reply, sse, text
from tests.support.upstream import Upstream

MESSAGES = [{"role": "user", "content": "Say hello"}]
PRICE = {"input": 2, "output": 8, "cached_input": 0.2, "currency": "CNY", "per": "1M"}


def settings(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "providers": {
            "up": {"base_url": upstream.url, "api_key": "sk-upstream-secret"},
            "demo": {"preset": "echo"},
        },
        "billing": {"exchange_rates": {"CNY": 0.14}},
        "models": {
            "m": {"routes": ["up/um"], "price": PRICE, "max_output": 100},
            "alias": {"alias": "m"},
            "star-*": {"routes": ["up/real-*"]},
        },
    } | more


async def ask(sluice: Sluice, path: str = "/v1/chat/completions", **body: Any) -> httpx2.Response:
    return await sluice.http.post(path, json={"model": "m", "messages": MESSAGES, **body})


async def test_an_unknown_field_goes_up_and_nothing_else_changes(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        body = (
            b'{"model":"m","messages":[{"role":"user","content":"h\\u00e9 \\ud83d\\ude00"}],'
            b'"temperature":1.0,"x_new":{"deep":[1, 2.50, null]},"big":12345678901234567890,'
            b'"provider":{"order":["a"]}}'
        )
        answer = await sluice.http.post(
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 200
        assert upstream.requests[0].body == body.replace(b'"model":"m"', b'"model":"um"')


async def test_upstream_gets_its_own_key_and_none_of_the_clients_headers(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        await sluice.http.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": MESSAGES},
            headers={"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "x-api-key": "other"},
        )
        request = upstream.requests[0]
        assert request.header("authorization") == "Bearer sk-upstream-secret"
        assert request.header("accept-encoding") == "identity"
        assert not {"cookie", "x-forwarded-for", "x-api-key"} & {name for name, _ in request.headers}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat/completions", "/chat/completions"])
async def test_every_prefix_serves(tmp_path: Path, path: str) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        answer = await ask(sluice, path)
        assert answer.json()["choices"][0]["message"]["content"] == "Hello"
        assert answer.headers["x-sluice-provider"] == "up"
        assert answer.headers["x-sluice-model"] == "m"
        assert answer.headers["x-sluice-attempts"] == "1"


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "x-goog-api-key"])
async def test_the_key_may_come_in_other_headers(tmp_path: Path, header: str) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        del sluice.http.headers["authorization"]
        sluice.http.headers[header] = API_KEY
        assert (await ask(sluice)).status_code == 200


async def test_cost_is_the_formula_in_exact_decimals(tmp_path: Path) -> None:
    usage = {
        "prompt_tokens": 1001,
        "completion_tokens": 77,
        "total_tokens": 1078,
        "prompt_tokens_details": {"cached_tokens": 500},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(chat("hello", usage=usage))
        answer = await ask(sluice)
        exact = (501 * 2 + 500 * Fraction("0.2") + 77 * 8) / Fraction(10**6) * Fraction("0.14")
        assert Fraction(answer.headers["x-sluice-cost"]) == exact
        receipt = await sluice.receipt(answer)
        assert receipt["cost"] == answer.headers["x-sluice-cost"]
        assert receipt["usage"]["cached_tokens"] == 500
        assert receipt["usage"]["reasoning_tokens"] == 30
        assert (receipt["billing"], receipt["finish"], receipt["estimated"]) == ("settled", "ok", False)


async def test_a_stream_passes_byte_for_byte(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        reply = chat_stream("Hel", "lo \u2028 wörld", usage=(9, 4))
        upstream.reply(reply)
        answer = await ask(sluice, stream=True, stream_options={"include_usage": True})
        assert answer.content == reply.body
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        receipt = await sluice.receipt(answer)
        assert receipt["usage"]["input_tokens"] == 9
        assert receipt["usage"]["output_tokens"] == 4


async def test_usage_is_asked_for_and_hidden_from_those_who_did_not_ask(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(chat_stream("Hel", "lo", usage=(9, 4)))
        answer = await ask(sluice, stream=True)
        assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
        assert b'"choices":[]' not in answer.content
        assert answer.content.endswith(b"data: [DONE]\n\n")
        assert (await sluice.receipt(answer))["usage"]["output_tokens"] == 4


async def test_missing_usage_is_estimated(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(chat("Hello there, this is a short answer.", usage=None))
        upstream.reply(chat_stream("Hello there, ", "this is a short answer.", usage=None))
        whole = await sluice.receipt(await ask(sluice))
        streamed = await sluice.receipt(await ask(sluice, stream=True))
        assert whole["billing"] == streamed["billing"] == "estimated"
        assert whole["finish"] == "ok"
        assert whole["usage"] == streamed["usage"]
        assert whole["usage"]["output_tokens"] in range(6, 12)
        assert whole["usage"]["input_tokens"] in range(5, 14)


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ({}, {}),
        ({"max_tokens": 50}, {"max_tokens": 50}),
        ({"max_tokens": 5000}, {"max_tokens": 100}),
        ({"max_completion_tokens": 5000}, {"max_completion_tokens": 100}),
    ],
)
async def test_max_tokens_is_clamped_and_never_invented(
    tmp_path: Path, sent: dict[str, int], arrives: dict[str, int]
) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        await ask(sluice, **sent)
        body = upstream.requests[0].json
        assert {name: value for name, value in body.items() if name.startswith("max_")} == arrives


@pytest.mark.parametrize(
    ("model", "upstream_model", "served"),
    [("alias", "um", "m"), ("star-9", "real-9", "star-9"), ("up/any/thing", "any/thing", "any/thing")],
)
async def test_names_lead_to_models(tmp_path: Path, model: str, upstream_model: str, served: str) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        answer = await ask(sluice, model=model)
        assert upstream.requests[0].json["model"] == upstream_model
        assert answer.headers["x-sluice-model"] == served
        assert answer.json()["model"] == "upstream-model"  # native answers keep the upstream's


async def test_the_provider_pin(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        assert (await ask(sluice, provider="up")).status_code == 200
        assert "provider" not in upstream.requests[0].json
        unknown = await ask(sluice, provider="nobody")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "invalid_provider")
        mismatch = await ask(sluice, provider="demo")
        assert (mismatch.status_code, mismatch.json()["error"]["code"]) == (400, "provider_model_mismatch")
        sluice.http.headers["x-sluice-provider"] = "demo"
        assert (await ask(sluice, model="anything", provider="up")).headers["x-sluice-provider"] == "demo"


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (b"[1]", 400, "invalid_json", None),
        (b'{"model":NaN}', 400, "invalid_json", None),
        (b'{"messages":[]}', 400, "missing_model", "model"),
        (b'{"model":7}', 400, "invalid_value", "model"),
        (b'{"model":"m","model":"n"}', 400, "duplicate_key", "model"),
        (b'{"model":"m","max_tokens":0}', 400, "invalid_value", "max_tokens"),
        (b'{"model":"m","max_tokens":"5"}', 400, "invalid_value", "max_tokens"),
        (b'{"model":"m","max_tokens":1.5}', 400, "invalid_value", "max_tokens"),
        (b'{"model":"m","max_tokens":true}', 400, "invalid_value", "max_tokens"),
        (b'{"model":"m","stream":"true"}', 400, "invalid_value", "stream"),
        (b'{"model":"m","stream_options":true}', 400, "invalid_value", "stream_options"),
        (b'{"model":"nope"}', 404, "model_not_found", "model"),
        (b"[" * 100_000, 400, "invalid_json", None),
        (b'{"model":"m\\u0000\\r\\nx: y"}', 404, "model_not_found", "model"),
    ],
)
async def test_bad_requests(tmp_path: Path, body: bytes, status: int, code: str, param: str | None) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        answer = await sluice.http.post(
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        told = answer.json()["error"]
        assert (answer.status_code, told["code"], told["param"]) == (status, code, param)
        assert told["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["x-should-retry"] == "false"
        assert not upstream.requests
        assert not sluice.records


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_other_media_types(tmp_path: Path, kind: str) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        answer = await sluice.http.post("/v1/chat/completions", content=b"{}", headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


async def test_a_large_body_is_refused(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        gateway(tmp_path, **settings(upstream), server={"max_body_mib": 1}) as sluice,
    ):
        answer = await ask(sluice, padding="x" * (1024 * 1024))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("key", "code"),
    [(None, "missing_api_key"), ("sk-sluice-wrong", "invalid_api_key")],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/images/generations"])
async def test_without_a_right_key(tmp_path: Path, path: str, key: str | None, code: str) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        del sluice.http.headers["authorization"]
        if key:
            sluice.http.headers["authorization"] = f"Bearer {key}"
        answer = await ask(sluice, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
        assert answer.json()["error"]["type"] == "authentication_error"
        assert not upstream.requests


async def test_wrong_methods_and_paths(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        wrong = await sluice.http.get("/v1/chat/completions")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        assert wrong.json()["error"]["code"] == "method_not_allowed"
        missing = await sluice.http.post("/v1/nothing")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
        assert missing.headers["x-request-id"]


async def test_embeddings_pass_through(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        body = {"model": "m", "input": ["a", "b"], "encoding_format": "base64"}
        answer = await sluice.http.post("/v1/embeddings", json=body)
        assert answer.status_code == 200
        assert upstream.requests[0].json == body | {"model": "um"}
        assert upstream.requests[0].target == "/v1/embeddings"
        assert (await sluice.receipt(answer))["billing"] == "settled"


async def test_completions(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        frames = [{"choices": [{"index": 0, "text": "Hi there", "finish_reason": "stop"}]}, "[DONE]"]
        upstream.reply(sse(*frames))
        answer = await sluice.http.post(
            "/v1/completions", json={"model": "m", "prompt": "Say hi", "stream": True}
        )
        assert b"Hi there" in answer.content
        receipt = await sluice.receipt(answer)
        assert (receipt["billing"], receipt["usage"]["output_tokens"]) == ("estimated", 2)


async def test_passed_through_answers_of_any_kind(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(text(bytes(range(256)) * 1000, content_type="audio/mpeg"))
        speech = await sluice.http.post("/v1/audio/speech", json={"model": "m", "input": "x", "voice": "y"})
        assert (speech.content, speech.headers["content-type"]) == (bytes(range(256)) * 1000, "audio/mpeg")
        receipt = await sluice.receipt(speech)
        assert (receipt["usage"]["total_tokens"], receipt["billing"]) == (0, "settled")
        assert speech.headers["x-sluice-cost"] == "0.000000000"
        usage = {"input_tokens": 10, "output_tokens": 4160, "total_tokens": 4170}
        upstream.reply(json_reply({"created": 1, "data": [{"b64_json": "x"}], "usage": usage}))
        image = await sluice.http.post("/v1/images/generations", json={"model": "m", "prompt": "x"})
        assert (await sluice.receipt(image))["usage"]["output_tokens"] == 4160
        assert image.headers["x-sluice-cost"] == (await sluice.receipt(image))["cost"] != "0.000000000"


async def test_a_form_goes_up_with_its_model_rewritten(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(json_reply({"text": "hello"}))
        audio = bytes(range(256)) * 8000  # two megabytes: on disk on the way
        answer = await sluice.http.post(
            "/v1/audio/transcriptions",
            files={"file": ("a.wav", audio, "audio/wav")},
            data={"model": "m", "language": "en"},
        )
        assert answer.json() == {"text": "hello"}
        request = upstream.requests[0]
        assert audio in request.body
        assert b'name="model"\r\n\r\num\r\n' in request.body
        assert request.header("content-type").startswith("multipart/form-data; boundary=")  # type: ignore[union-attr]


async def test_upstream_refusals_keep_status_and_code(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(error(422, "temperature is too hot", code="too_hot"))
        answer = await ask(sluice)
        told = answer.json()["error"]
        assert (answer.status_code, told["code"]) == (422, "too_hot")
        assert told["upstream"] == {
            "provider": "up",
            "status": 422,
            "code": "too_hot",
            "message": "temperature is too hot",
        }
        receipt = await sluice.receipt(answer)
        assert (receipt["billing"], receipt["finish"], receipt["cost"]) == (
            "void",
            "upstream_error",
            "0.000000000",
        )


@pytest.mark.parametrize(
    ("reply", "code", "retry_after"),
    [
        (chat("whole"), "upstream_invalid_response", None),
        (text("<html>no</html>", content_type="text/html"), "upstream_invalid_response", None),
        (sse({"error": {"message": "slow down", "code": 429}}), "upstream_rate_limited", "5"),
    ],
    ids=["whole answer", "html", "first event"],
)
async def test_what_is_no_stream(tmp_path: Path, reply: Reply, code: str, retry_after: str | None) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(reply)
        answer = await ask(sluice, stream=True)
        assert answer.json()["error"]["code"] == code
        assert answer.headers["x-should-retry"] == "true"
        assert answer.headers.get("retry-after") == retry_after
        assert (await sluice.receipt(answer))["billing"] == "void"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_name_may_hold_what_headers_may_not(tmp_path: Path, stream: bool) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        answer = await ask(sluice, model="demo/a\x00\r\nx-evil: b\u00e9", stream=stream)
        assert (answer.status_code, len(sluice.records)) == (200, 1)
        assert answer.headers["x-sluice-model"] == r"a\x00\r\nx-evil: b\xe9"
        assert "x-evil" not in answer.headers


async def test_a_client_that_leaves_before_the_answer_is_recorded_as_499(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(hang())
        async with StreamingClient.begun(sluice, model="m") as client:
            await upstream.received(1)
            client.reset()
            (record,) = await sluice.settled(1)
        assert (record.status, record.finish) == (499, Finish.CLIENT_GONE)


async def test_web_pages_of_the_configured_origins(tmp_path: Path) -> None:
    page = {"origin": "https://chat.example.com"}
    server = {"cors_origins": [page["origin"]]}
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream, server=server)) as sluice:
        preflight = await sluice.http.options(
            "/v1/chat/completions",
            headers=page
            | {
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,x-stainless-os",
            },
        )
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == page["origin"]
        assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
        answer = await sluice.http.get("/v1/models", headers=page)
        assert answer.headers["access-control-allow-origin"] == page["origin"]
        other = await sluice.http.get("/v1/models", headers={"origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in other.headers


async def test_upstream_keys_never_show(tmp_path: Path) -> None:
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:
        upstream.reply(error(401, "Incorrect API key provided: sk-upstream-secret"))
        answer = await ask(sluice)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_auth_failed")
        assert "upstream-secret" not in answer.text
        assert "Incorrect" not in answer.text


async def test_two_hundred_mixed_requests_at_once(tmp_path: Path) -> None:
    """Every one has its receipt, with the upstream's tokens and the formula's cost."""
    async with Upstream() as upstream, gateway(tmp_path, **settings(upstream)) as sluice:

        def answer_by_number(request: Any) -> Any:
            number = int(request.json["messages"][0]["content"])
            usage = (number + 1, 2 * number)
            return (
                chat_stream(str(number), usage=usage)
                if request.json.get("stream")
                else chat(str(number), usage=usage)
            )

        upstream.handler = answer_by_number

        async def one(number: int) -> None:
            messages = [{"role": "user", "content": str(number)}]
            answer = await ask(sluice, messages=messages, stream=bool(number % 2))
            assert str(number) in answer.text
            receipt = await sluice.receipt(answer)
            assert receipt["usage"]["input_tokens"] == number + 1
            assert receipt["usage"]["output_tokens"] == 2 * number
            exact = Decimal(2 * (number + 1) + 8 * 2 * number) / 10**6 * Decimal("0.14")
            assert Decimal(receipt["cost"]) == exact

        await asyncio.gather(*(one(number) for number in range(200)))
        assert len({record.id for record in sluice.records}) == 200
        usage = (await sluice.admin.get("/admin/api/usage")).json()
        assert usage["requests"] == 200
        assert usage["input_tokens"] == sum(range(1, 201))
        assert json.loads(usage["total_cost_value"].replace(".", "").lstrip("0")) == sum(
            record.cost_nanos for record in sluice.records
        )
