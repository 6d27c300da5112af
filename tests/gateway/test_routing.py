"""Routing through a whole gateway: whom requests reach, who rests, who waits, and what clients are told."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import money
from tests.support.asking import eventually
from tests.support.gateway import Sluice
from tests.support.replies import (
    End,
    Reply,
    chat,
    chat_chunk,
    chat_stream,
    error,
    event_frame,
    hang,
    hang_up,
    json_reply,
    message_stream,
    reset,
    sse,
)
from tests.support.several import (
    FIRST,
    LATER,
    ask,
    bearers,
    code,
    errors_of,
    pass_time,
    several,
    state_of,
    stop_time,
)
from tests.support.upstream import Request, Upstream

TWO: dict[str, Any] = {"a": {}, "b": {}}
# `a` first, `b` where `a` cannot.
ONE_AFTER_THE_OTHER: dict[str, Any] = {
    "m": {"routes": ["a/x", {"provider": "b", "model": "x", "priority": 2}]}
}
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
OUT_OF_CREDIT = {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}
SECRET = "sk-provider-secret-0123456789abcdef"


def providers(answers: list[httpx2.Response]) -> list[str]:
    assert {answer.status_code for answer in answers} == {200}
    return [answer.headers["x-sluice-provider"] for answer in answers]


async def made_key(sluice: Sluice, **fields: Any) -> str:
    made = await sluice.admin.post("/admin/api/keys", json={"name": "other", **fields})
    key: str = made.json()["key"]
    return key


async def waiting(sluice: Sluice, count: int) -> None:
    await eventually(lambda: sluice.app.gateway.services.router.room.count == count)


# -- the order


async def test_lower_priorities_first_and_the_next_where_they_fail(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        assert providers([await ask(sluice) for _ in range(3)]) == ["a", "a", "a"]
        ups["a"].reply(error(500))
        answer = await ask(sluice)
        assert (answer.headers["x-sluice-provider"], answer.headers["x-sluice-attempts"]) == ("b", "2")
        assert providers([await ask(sluice)]) == ["a"]


async def test_weights_share_requests_out(tmp_path: Path) -> None:
    routes = [{"provider": "a", "model": "x", "weight": 3}, "b/x"]
    async with several(tmp_path, TWO, models={"m": {"routes": routes}}) as (sluice, _):
        sluice.app.gateway.services.router.chance = random.Random(4).random
        shares = Counter(providers([await ask(sluice) for _ in range(100)]))
        assert shares["a"] + shares["b"] == 100
        assert 65 <= shares["a"] <= 85


async def test_identical_first_turns_go_to_each_key_in_turn(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"api_keys": ["key-1", "key-2", "key-3"]}}) as (sluice, ups):
        for _ in range(6):
            await ask(sluice, "a/x")
        assert bearers(ups["a"]) == ["key-1", "key-2", "key-3"] * 2


async def test_a_conversation_stays_with_deployment_and_key(tmp_path: Path) -> None:
    config = {name: {"api_keys": [f"{name}-1", f"{name}-2"]} for name in ("a", "b")}
    async with several(tmp_path, config, models={"m": {"routes": ["a/x", "b/x"]}}) as (sluice, ups):
        sluice.app.gateway.services.router.chance = random.Random(1).random
        (name,) = providers([await ask(sluice)])
        (key,) = bearers(ups[name])
        assert providers([await ask(sluice, messages=LATER) for _ in range(8)]) == [name] * 8
        assert bearers(ups[name]) == [key] * 9
        other = [{"role": "user", "content": "Another"}, *LATER[1:]]
        await ask(sluice, messages=other)  # a conversation of its own
        assert len(bearers(ups["a"]) + bearers(ups["b"])) == 10


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_moves_when_what_served_it_fails(tmp_path: Path, stream: bool) -> None:
    async with several(tmp_path, TWO, models={"m": {"routes": ["a/x", "b/x"]}}) as (sluice, ups):
        await ask(sluice, stream=stream)
        ups["a"].reply(error(503))
        answers = [await ask(sluice, messages=LATER, stream=stream) for _ in range(3)]
        assert providers(answers) == ["b", "b", "b"]


# -- limits of our own, and waiting


async def test_a_key_over_its_rate_is_passed_over(tmp_path: Path) -> None:
    keys = [{"key": "key-1", "rpm": 2}, "key-2"]
    async with several(tmp_path, {"a": {"api_keys": keys}}) as (sluice, ups):
        stop_time(sluice)
        for _ in range(6):
            assert (await ask(sluice, "a/x")).status_code == 200
        assert Counter(bearers(ups["a"])) == {"key-1": 2, "key-2": 4}
        pass_time(sluice, 30)  # one more
        for _ in range(3):
            await ask(sluice, "a/x")
        assert Counter(bearers(ups["a"])) == {"key-1": 3, "key-2": 6}


async def test_a_key_at_its_concurrency_is_passed_over(tmp_path: Path) -> None:
    keys = [{"key": "key-1", "concurrency": 1}, "key-2"]
    async with several(tmp_path, {"a": {"api_keys": keys}}) as (sluice, ups):
        long = chat_stream("Hello").gated()
        ups["a"].reply(long)
        running = asyncio.create_task(ask(sluice, "a/x", stream=True))
        await ups["a"].received(1)
        for _ in range(3):
            await ask(sluice, "a/x")
        assert bearers(ups["a"]) == ["key-1", "key-2", "key-2", "key-2"]
        long.open_all()
        assert (await running).status_code == 200
        await ask(sluice, "a/x")
        assert bearers(ups["a"])[-1] == "key-1"


async def test_places_go_to_api_keys_in_turn(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"concurrency": 1}}) as (sluice, ups):
        greedy, modest = await made_key(sluice), await made_key(sluice)
        replies = [chat("Hello").gated() for _ in range(6)]
        ups["a"].reply(*replies)
        tasks = [asyncio.create_task(ask(sluice, "a/x", user="running"))]
        await ups["a"].received(1)
        asked = [(greedy, "g1"), (greedy, "g2"), (greedy, "g3"), (modest, "m1"), (modest, "m2")]
        for count, (key, user) in enumerate(asked, 1):
            tasks.append(asyncio.create_task(ask(sluice, "a/x", key=key, user=user)))
            await waiting(sluice, count)
        for count, reply in enumerate(replies, 1):
            await ups["a"].received(count)
            reply.open_all()
        assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {200}
        served = [request.json["user"] for request in ups["a"].requests]
        assert served == ["running", "g1", "m1", "g2", "m2", "g3"]


async def test_a_hundred_may_wait_for_thirty_seconds(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"concurrency": 1}}) as (sluice, ups):
        stop_time(sluice)
        long = chat("Hello").gated()
        ups["a"].reply(long)
        running = asyncio.create_task(ask(sluice, "a/x"))
        await ups["a"].received(1)
        tasks = [asyncio.create_task(ask(sluice, "a/x")) for _ in range(100)]
        await waiting(sluice, 100)
        refused = [await ask(sluice, "a/x")]
        pass_time(sluice, 29)
        await waiting(sluice, 100)
        pass_time(sluice, 1)
        refused += await asyncio.gather(*tasks)
        for answer in refused:
            assert (answer.status_code, code(answer)) == (503, "overloaded")
            assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("5", "true")
        assert len(ups["a"].requests) == 1
        assert sluice.records == []  # what the gateway itself refuses is not counted
        long.open_all()
        assert (await running).status_code == 200
        assert (await ask(sluice, "a/x")).status_code == 200


async def test_a_storm_of_clients_that_give_up_leaves_every_place_free(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"concurrency": 2}}) as (sluice, ups):
        ups["a"].always(hang())
        tasks = [asyncio.create_task(ask(sluice, "a/x")) for _ in range(60)]
        await waiting(sluice, 58)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await sluice.settled(60)
        await ups["a"].all_closed()
        assert sluice.app.gateway.services.router.room.count == 0
        assert (await state_of(sluice, "a"))["running"] == 0
        ups["a"].always(chat("Hello"))
        assert providers([await ask(sluice, "a/x") for _ in range(3)]) == ["a"] * 3


@pytest.mark.parametrize("end", ["shutdown", "revoked"])
async def test_who_waits_is_told_when_it_ends(tmp_path: Path, end: str) -> None:
    settings = {"server": {"shutdown_grace_s": 0}}
    async with several(tmp_path, {"a": {"concurrency": 1}}, **settings) as (sluice, ups):
        made = (await sluice.admin.post("/admin/api/keys", json={"name": "short-lived"})).json()
        ups["a"].reply(hang())
        running = asyncio.create_task(ask(sluice, "a/x"))
        await ups["a"].received(1)
        waits = asyncio.create_task(ask(sluice, "a/x", key=made["key"]))
        await waiting(sluice, 1)
        if end == "shutdown":
            sluice.server.stop()
        else:
            await sluice.admin.delete(f"/admin/api/keys/{made['id']}")
        answer = await waits
        told = {"shutdown": (503, "shutting_down"), "revoked": (401, "revoked_api_key")}
        assert (answer.status_code, code(answer)) == told[end]
        assert sluice.app.gateway.services.router.room.count == 0
        running.cancel()


async def test_who_waits_is_told_when_the_provider_fails_for_good(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"api_keys": [{"key": "key-1", "concurrency": 1}]}}) as (sluice, ups):
        first = error(402, "no money").gated()
        ups["a"].reply(first)
        ups["a"].always(error(402, "no money"))
        tasks = [asyncio.create_task(ask(sluice, "a/x")) for _ in range(4)]
        await ups["a"].received(1)
        await waiting(sluice, 3)
        first.open_all()
        answers = await asyncio.gather(*tasks)
        assert {(answer.status_code, code(answer)) for answer in answers} == {
            (503, "upstream_quota_exhausted")
        }
        assert len(ups["a"].requests) == 2  # one more, as the last resort


# -- classes of errors


@pytest.mark.parametrize(
    ("reply", "status", "told"),
    [
        (error(400, "bad", code="odd_value"), 400, "odd_value"),
        (error(404, "no such thing", type="invalid_request_error"), 404, "not_found"),
        (error(413, "too big", type="invalid_request_error"), 413, "body_too_large"),
        (error(415, "no forms", type="invalid_request_error"), 415, "unsupported_media_type"),
        (error(422, "unprocessable", code="odd_value"), 422, "odd_value"),
        (error(400, "too long", code="context_length_exceeded"), 400, "context_length_exceeded"),
        (error(400, "not that", code="content_filter"), 400, "content_filter"),
    ],
    ids=["400", "404", "413", "415", "422", "context length", "moderation"],
)
async def test_errors_of_the_request_are_passed_on(
    tmp_path: Path, reply: Reply, status: int, told: str
) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        ups["a"].always(reply)
        for _ in range(6):
            answer = await ask(sluice)
            assert (answer.status_code, code(answer)) == (status, told)
            assert answer.headers["x-should-retry"] == "false"
        assert (len(ups["a"].requests), len(ups["b"].requests)) == (6, 0)
        state = await state_of(sluice, "a")
        assert {item["state"] for item in (state, *state["keys"], *state["deployments"])} == {"ready"}


async def test_a_refused_key_rests_and_another_one_answers(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {"api_keys": ["key-1", "key-2"]}}) as (sluice, ups):
        stop_time(sluice)
        ups["a"].handler = lambda request: (
            error(401, "bad key") if request.header("authorization") == "Bearer key-1" else chat("Hello")
        )
        answer = await ask(sluice, "a/x")
        assert await errors_of(sluice, answer) == [("a", "upstream_auth_failed"), ("a", None)]
        for _ in range(4):
            await ask(sluice, "a/x")
        assert bearers(ups["a"]) == ["key-1", *["key-2"] * 5]
        pass_time(sluice, 599)
        await ask(sluice, "a/x")
        assert bearers(ups["a"]).count("key-1") == 1
        pass_time(sluice, 1)
        await ask(sluice, "a/x")
        await ask(sluice, "a/x")
        assert bearers(ups["a"]).count("key-1") == 2
        pass_time(sluice, 1199)  # twice as long
        await ask(sluice, "a/x")
        await ask(sluice, "a/x")
        assert bearers(ups["a"]).count("key-1") == 2
        pass_time(sluice, 1)
        ups["a"].always(chat("Hello"))
        for _ in range(4):
            await ask(sluice, "a/x")
        assert bearers(ups["a"]).count("key-1") == 4  # it takes its turns again


@pytest.mark.parametrize("status", [401, 403])
async def test_an_only_key_that_is_refused_is_told_without_the_providers_words(
    tmp_path: Path, status: int
) -> None:
    async with several(tmp_path, {"a": {"api_key": SECRET}}) as (sluice, ups):
        ups["a"].reply(error(status, f"Incorrect API key provided: {SECRET[:10]}. See https://keys.example"))
        answer = await ask(sluice, "a/x")
        assert (answer.status_code, code(answer)) == (502, "upstream_auth_failed")
        assert answer.headers["x-should-retry"] == "false"
        assert "upstream" not in answer.json()["error"]
        for words in (SECRET[:10], "Incorrect", "keys.example"):
            assert words not in answer.text


@pytest.mark.parametrize(
    "reply",
    [
        error(402, "Payment required"),
        error(429, "You exceeded your current quota", code="insufficient_quota"),
        json_reply(OUT_OF_CREDIT),
    ],
    ids=["402", "429", "200"],
)
async def test_a_key_without_funds_rests_for_an_hour(tmp_path: Path, reply: Reply) -> None:
    async with several(tmp_path, {"a": {"api_keys": ["key-1", "key-2"]}}) as (sluice, ups):
        stop_time(sluice)
        ups["a"].reply(reply)
        answer = await ask(sluice, "a/x")
        assert await errors_of(sluice, answer) == [("a", "upstream_quota_exhausted"), ("a", None)]
        pass_time(sluice, 3599)
        for _ in range(3):
            await ask(sluice, "a/x")
        assert bearers(ups["a"]) == ["key-1", *["key-2"] * 4]
        pass_time(sluice, 1)
        for _ in range(4):
            await ask(sluice, "a/x")
        assert bearers(ups["a"]).count("key-1") == 3


async def test_a_limited_rate_rests_as_long_as_the_provider_asks(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        stop_time(sluice)
        ups["a"].reply(error(429, "slow down", headers={"retry-after": "7"}))
        assert providers([await ask(sluice) for _ in range(3)]) == ["b", "b", "b"]
        assert providers([await ask(sluice, "a/another-model")]) == ["a"]  # it rests for that model
        pass_time(sluice, 6.9)
        assert providers([await ask(sluice)]) == ["b"]
        pass_time(sluice, 0.1)
        assert providers([await ask(sluice) for _ in range(2)]) == ["a", "a"]


@pytest.mark.parametrize(("seconds", "smallest"), [((40, 9), "9"), ((9, 40), "9"), ((3, None), "3")])
async def test_limited_everywhere_is_told_with_the_shortest_wait(
    tmp_path: Path, seconds: tuple[int | None, ...], smallest: str
) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        stop_time(sluice)
        for upstream, wait in zip(ups.values(), seconds, strict=True):
            upstream.reply(
                error(429, "slow down", headers={} if wait is None else {"retry-after": str(wait)})
            )
        answer = await ask(sluice)
        assert (answer.status_code, code(answer)) == (429, "upstream_rate_limited")
        assert answer.headers["retry-after"] == smallest
        assert len(ups["a"].requests) == len(ups["b"].requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_breaker_opens_and_one_request_tries_after_thirty_seconds(
    tmp_path: Path, stream: bool
) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        stop_time(sluice)
        down, up = ups["a"], ups["b"]
        down.always(error(529, "overloaded"))
        assert providers([await ask(sluice, stream=stream) for _ in range(8)]) == ["b"] * 8
        assert len(down.requests) == 5
        (deployment,) = (await state_of(sluice, "a"))["deployments"]
        assert (deployment["state"], deployment["cause"]["code"]) == ("open", "upstream_error")
        pass_time(sluice, 30)
        trial = error(529, "overloaded").gated()
        down.reply(trial)
        trying = asyncio.create_task(ask(sluice, stream=stream))
        await down.received(6)
        assert providers([await ask(sluice, stream=stream) for _ in range(3)]) == ["b"] * 3  # one tries
        trial.open_all()
        assert providers([await trying]) == ["b"]
        pass_time(sluice, 59.9)  # twice as long
        assert providers([await ask(sluice, stream=stream)]) == ["b"]
        assert len(down.requests) == 6
        pass_time(sluice, 0.1)
        down.handler = up.handler
        assert providers([await ask(sluice, stream=stream) for _ in range(5)]) == ["a"] * 5


async def test_a_breaker_is_of_one_model(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {}}) as (sluice, ups):
        ups["a"].handler = lambda request: error(500) if request.json["model"] == "bad" else chat("Hello")
        for _ in range(6):
            assert (await ask(sluice, "a/bad")).status_code == 502
        assert providers([await ask(sluice, "a/good")]) == ["a"]


# -- attempts


ROLE = chat_chunk({"role": "assistant", "content": ""})
FAILS_BEFORE_CONTENT = {
    "closed": (sse(ROLE, "").broken(1, End.CLOSE), "upstream_stream_truncated"),
    "reset": (sse(ROLE, "").broken(1, End.RESET), "upstream_reset"),
    "an error event": (sse(ROLE, {"error": {"message": "no capacity", "code": 503}}), "upstream_error"),
    "a finish reason": (sse(ROLE, chat_chunk({}, finish="network_error")), "upstream_error"),
    "out of funds": (sse(ROLE, OUT_OF_CREDIT), "upstream_quota_exhausted"),
    "too long an event": (
        sse(ROLE, b"data: " + b"x" * (17 * 1024 * 1024) + b"\n\n"), "upstream_invalid_response"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "reason"), FAILS_BEFORE_CONTENT.values(), ids=FAILS_BEFORE_CONTENT.keys())
async def test_a_stream_that_fails_before_its_content_is_answered_by_another(
    tmp_path: Path, reply: Reply, reason: str
) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        ups["a"].reply(reply)
        ups["b"].always(chat_stream("Hel", "lo"))
        answer = await ask(sluice, stream=True, stream_options={"include_usage": True})
        assert answer.content == chat_stream("Hel", "lo").body
        assert answer.headers["x-sluice-provider"] == "b"
        assert await errors_of(sluice, answer) == [("a", reason), ("b", None)]


def response_event(kind: str) -> bytes:
    response = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
    return event_frame({"type": f"response.{kind}", "response": response})


#: How each protocol begins, natively and translated, with nothing that is content.
BEGINNINGS: dict[str, tuple[str, dict[str, str], Reply]] = {
    "messages": ("messages", {"messages_base_url": "origin"}, message_stream("Hello").broken(2, End.CLOSE)),
    "messages, translated": ("messages", {}, chat_stream("Hello").broken(1, End.CLOSE)),
    "responses": (
        "responses",
        {"responses_base_url": "url"},
        sse(response_event("created"), response_event("in_progress"), "").broken(2, End.CLOSE),
    ),
    "responses, translated": ("responses", {}, chat_stream("Hello").broken(1, End.CLOSE)),
}


@pytest.mark.parametrize(("path", "speaks", "reply"), BEGINNINGS.values(), ids=BEGINNINGS.keys())
async def test_what_other_protocols_begin_with_is_held_too(
    tmp_path: Path, path: str, speaks: dict[str, str], reply: Reply
) -> None:
    async with Upstream() as failing:
        own = {"base_url": failing.url, **{name: getattr(failing, what) for name, what in speaks.items()}}
        async with several(tmp_path, {"a": own, "b": {}}, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
            failing.reply(reply)
            ups["b"].always(chat_stream("Good", " day"))
            said = {"input": "Say hello"} if path == "responses" else {"messages": FIRST, "max_tokens": 9}
            answer = await sluice.http.post(f"/v1/{path}", json={"model": "m", "stream": True, **said})
            assert answer.status_code == 200
            assert (answer.headers["x-sluice-provider"], answer.headers["x-sluice-attempts"]) == ("b", "2")
            assert "Good" in answer.text
            assert "failed" not in answer.text
            assert "event: error" not in answer.text
            start = "response.created" if path == "responses" else "message_start"
            assert answer.text.count(f"event: {start}\n") == 1


async def test_what_was_held_for_five_seconds_is_sent_and_then_nobody_else_is_asked(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        reply = sse(ROLE, {"error": {"message": "no capacity", "code": 503}}).gated()
        ups["a"].reply(reply)
        reply.gates[0].open()
        asking = asyncio.create_task(ask(sluice, stream=True))
        await ups["a"].received(1)
        gateway = sluice.app.gateway
        await eventually(lambda: any(each._delivery._held_since_ns for each in gateway._running))
        (exchange,) = gateway._running
        pass_time(sluice, 5)
        exchange.tick(gateway.services.clock.monotonic_ns())
        await eventually(lambda: exchange._sink.started)
        reply.open_all()
        answer = await asking
        assert answer.status_code == 200
        assert b'"code":"upstream_error"' in answer.content
        assert (len(ups["a"].requests), ups["b"].requests) == (1, [])


async def test_what_is_held_is_bounded(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        endless = sse(*[b": " + b"x" * 100_000 + b"\n\n"] * 20).then(End.HANG)
        ups["a"].reply(endless)
        asking = asyncio.create_task(ask(sluice, stream=True))
        await eventually(lambda: any(each._sink.started for each in sluice.app.gateway._running))
        asking.cancel()
        await sluice.settled(1)


async def test_a_stream_that_fails_after_content_is_not_retried(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        ups["a"].reply(chat_stream("Hel", "lo").broken(2, End.CLOSE))
        answer = await ask(sluice, stream=True)
        assert b'"code":"upstream_stream_truncated"' in answer.content
        assert b"[DONE]" not in answer.content
        assert (len(ups["a"].requests), ups["b"].requests) == (1, [])


@pytest.mark.parametrize("reply", [hang_up(), reset(), chat().cut(40, End.CLOSE)], ids=["eof", "rst", "cut"])
async def test_a_connection_that_breaks_before_the_answer_is_retried(tmp_path: Path, reply: Reply) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        ups["a"].reply(reply)
        assert providers([await ask(sluice)]) == ["b"]


@pytest.mark.parametrize("retries", [False, True])
async def test_a_time_out_of_the_first_byte_is_retried_only_where_it_is_told(
    tmp_path: Path, retries: bool
) -> None:
    slow = {"timeouts": {"first_byte_s": 0.1}, "retry_on_read_timeout": retries}
    async with several(tmp_path, {"a": slow, "b": {}}, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        ups["a"].reply(hang())
        answer = await ask(sluice)
        if retries:
            assert providers([answer]) == ["b"]
        else:
            assert (answer.status_code, code(answer)) == (504, "upstream_first_byte_timeout")
            assert ups["b"].requests == []


async def test_never_more_than_three_attempts_and_never_the_same_twice(tmp_path: Path) -> None:
    config = {"a": {"api_keys": ["a-1", "a-2"]}, "b": {}, "c": {}}
    models = {"m": {"routes": ["a/x", "b/x", "c/x"]}, "short": {"routes": ["b/x"]}}
    async with several(tmp_path, config, models=models, fallbacks={"short": ["m"]}) as (sluice, ups):
        for upstream in ups.values():
            upstream.always(error(500))
        answer = await ask(sluice)
        assert (answer.status_code, code(answer)) == (502, "upstream_error")
        told = await errors_of(sluice, answer)
        assert told == [(name, "upstream_error") for name in "abc"]  # its other key would have been last
        answer = await ask(sluice, "short")
        assert [name for name, _ in await errors_of(sluice, answer)] == ["b", "a", "c"]
        assert len(ups["b"].requests) == 2


async def test_retries_are_a_fifth_of_the_requests_and_ten_in_any_case(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        stop_time(sluice)

        async def one_that_fails_at_first() -> int:
            ups["a"].reply(error(500))
            await sluice.admin.post("/admin/api/providers/a/reset")
            return (await ask(sluice)).status_code

        assert [await one_that_fails_at_first() for _ in range(12)] == [200] * 10 + [502] * 2
        assert providers([await ask(sluice) for _ in range(42)]) == ["a"] * 42
        assert [await one_that_fails_at_first() for _ in range(2)] == [200, 502]  # 11 of 55
        pass_time(sluice, 65)
        assert await one_that_fails_at_first() == 200


async def test_a_cause_outranks_that_another_one_cannot_be_asked(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {}, "b": {"protocol": "anthropic"}}, models=ONE_AFTER_THE_OTHER) as (
        sluice,
        ups,
    ):
        stop_time(sluice)
        ups["a"].always(error(402, "no money"))
        told = [await ask(sluice, n=2) for _ in range(3)]  # Messages has no such thing
        assert {(answer.status_code, code(answer)) for answer in told} == {(503, "upstream_quota_exhausted")}
        assert (len(ups["a"].requests), ups["b"].requests) == (2, [])
        await sluice.admin.post("/admin/api/providers/a/disable")
        assert (await ask(sluice, n=2)).status_code == 400


async def test_the_last_resort_is_tried_once_in_five_seconds(tmp_path: Path) -> None:
    async with several(tmp_path, {"a": {}}) as (sluice, ups):
        stop_time(sluice)
        ups["a"].always(error(402, "Your account is overdue"))
        told: list[tuple[int, str]] = []
        for seconds in (0, 0, 0, 4.9, 0.1, 0):
            pass_time(sluice, seconds)
            answer = await ask(sluice, "a/x")
            told.append((answer.status_code, code(answer)))
            assert "overdue" in answer.json()["error"]["upstream"]["message"]
        assert set(told) == {(503, "upstream_quota_exhausted")}
        assert len(ups["a"].requests) == 3  # the first, one forced at once, one forced after five seconds
        assert answer.headers["retry-after"] == "3595"
        assert (await sluice.receipt(answer))["attempts"] == []
        pass_time(sluice, 5)
        ups["a"].always(chat("Hello"))
        assert providers([await ask(sluice, "a/x") for _ in range(3)]) == ["a"] * 3  # and it works again


# -- other models


FALLBACK: dict[str, Any] = {
    "models": {
        "m": {"routes": ["a/x"], "price": PRICE},
        "cheap": {"routes": ["b/y"], "price": PRICE | {"input": 1, "output": 1}},
    },
    "fallbacks": {"m": ["cheap"]},
}


async def test_a_fallback_answers_at_its_own_price(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, **FALLBACK) as (sluice, ups):
        ups["a"].always(error(500))
        ups["b"].always(chat("Hello", usage=(100, 100)))
        answer = await ask(sluice)
        assert (answer.headers["x-sluice-model"], answer.headers["x-sluice-cost"]) == ("cheap", "0.000200000")
        receipt = await sluice.receipt(answer)
        assert (receipt["model"], receipt["upstream_model"], receipt["cost"]) == ("m", "y", "0.000200000")
        ups["a"].always(chat("Hello", usage=(100, 100)))
        answer = await ask(sluice)
        assert (answer.headers["x-sluice-model"], answer.headers["x-sluice-cost"]) == ("m", "0.001000000")


async def test_no_fallback_for_who_may_not_use_it_or_pins_a_provider(tmp_path: Path) -> None:
    async with several(tmp_path, TWO, **FALLBACK) as (sluice, ups):
        ups["a"].always(error(500))
        key = await made_key(sluice, models=["m"])
        answers = [await ask(sluice, key=key), await ask(sluice, provider="a"), await ask(sluice, "a/x")]
        assert {(answer.status_code, code(answer)) for answer in answers} == {(502, "upstream_error")}
        assert ups["b"].requests == []
        assert providers([await ask(sluice)]) == ["b"]


async def test_too_long_a_request_is_answered_by_a_larger_model(tmp_path: Path) -> None:
    settings = {"models": FALLBACK["models"], "context_fallbacks": {"m": ["cheap"]}}
    async with several(tmp_path, TWO, **settings) as (sluice, ups):
        ups["a"].reply(error(400, "maximum context length is 4096 tokens", code="context_length_exceeded"))
        answer = await ask(sluice)
        assert (providers([answer]), answer.headers["x-sluice-model"]) == (["b"], "cheap")
        told = [("a", "context_length_exceeded"), ("b", None)]
        assert await errors_of(sluice, answer) == told
        ups["a"].reply(error(500))  # that is no reason to take a larger one
        assert (await ask(sluice)).status_code == 502
        ups["a"].reply(error(400, "too long", code="context_length_exceeded"))
        answer = await ask(sluice, provider="a")
        assert (answer.status_code, code(answer)) == (400, "context_length_exceeded")


# -- receipts and money


async def test_a_receipt_lists_every_attempt_with_its_reason(tmp_path: Path) -> None:
    config = {"a": {"api_keys": ["provider-key-1111", "provider-key-2222"]}, "b": {}}
    async with several(tmp_path, config, models=ONE_AFTER_THE_OTHER) as (sluice, ups):
        ups["a"].reply(error(429, "slow down"), error(401, "no"))
        answer = await ask(sluice)
        attempts = (await sluice.receipt(answer))["attempts"]
        assert [
            (each["provider"], each["model"], each["provider_key"], each["status"], each["error"])
            for each in attempts
        ] == [
            ("a", "x", "…1111", 429, "upstream_rate_limited"),
            ("a", "x", "…2222", 401, "upstream_auth_failed"),
            ("b", "x", None, 200, None),
        ]
        assert all(each["total_ms"] >= 0 for each in attempts)


@pytest.mark.parametrize("stream", [False, True])
async def test_all_attempts_share_one_hold_and_one_is_charged(tmp_path: Path, stream: bool) -> None:
    config = {"a": {}, "b": {}, "c": {}}
    models = {"m": {"routes": ["a/x", "b/x", "c/x"], "price": PRICE}}
    settings = {"models": models, "billing": {"mode": "prepaid", "currency": "USD"}}
    async with several(tmp_path, config, **settings) as (sluice, ups):
        await money.top_up(sluice, money.DOLLAR)
        held: list[int] = []

        def noting(reply: Reply) -> Any:
            def handler(request: Request) -> Reply:
                held.append(money.funds_of(sluice).held_nanos)
                return reply

            return handler

        ups["a"].handler = noting(error(500))
        broken = chat_chunk({"role": "assistant"}, usage=(5000, 5000))
        ups["b"].handler = noting(sse(broken).broken(1, End.CLOSE) if stream else json_reply(OUT_OF_CREDIT))
        good = chat_stream("Hello", usage=(100, 50)) if stream else chat("Hello", usage=(100, 50))
        ups["c"].handler = noting(good)
        answer = await ask(sluice, stream=stream)
        assert providers([answer]) == ["c"]
        assert len(held) == 3
        assert len(set(held)) == 1
        assert held[0] > 0
        assert money.wallet(sluice) == money.DOLLAR - 100 * 2_000 - 50 * 8_000
        assert money.nothing_held(sluice)
        money.check_books(money.database(sluice))


async def test_an_exchange_whose_attempts_all_fail_costs_nothing(tmp_path: Path) -> None:
    models = {"m": {"routes": ["a/x", "b/x"], "price": PRICE}}
    settings = {"models": models, "billing": {"mode": "prepaid", "currency": "USD"}}
    async with several(tmp_path, TWO, **settings) as (sluice, ups):
        await money.top_up(sluice, money.DOLLAR)
        ups["a"].reply(error(500))
        ups["b"].reply(hang_up())
        answer = await ask(sluice)
        assert (answer.status_code, code(answer)) == (502, "upstream_reset")
        assert money.wallet(sluice) == money.DOLLAR
        assert money.nothing_held(sluice)
        money.check_books(money.database(sluice))


# -- an outage


async def test_an_outage_is_seen_by_nobody(tmp_path: Path) -> None:
    async with (
        Upstream(refusing=True) as down,
        several(
            tmp_path,
            {"limited": {}, "good": {}, "down": {"base_url": down.url}},
            models={"m": {"routes": ["down/x", "limited/x", "good/x"]}, "usual": {"routes": ["good/x"]}},
        ) as (sluice, ups),
    ):
        sluice.app.gateway.services.router.chance = random.Random(9).random
        places = asyncio.Semaphore(6)

        async def asked(model: str) -> str:
            async with places:
                answer = await ask(sluice, model, messages=FIRST)
                assert answer.status_code == 200, answer.text
                provider: str = answer.headers["x-sluice-provider"]
                return provider

        async def asked_often(model: str, count: int) -> Counter[str]:
            return Counter(await asyncio.gather(*(asked(model) for _ in range(count))))

        ups["limited"].always(error(429, "slow down", headers={"retry-after": "25"}))
        assert await asked_often("usual", 200) == {"good": 200}
        assert await asked_often("m", 500) == {"good": 500}
        assert (await state_of(sluice, "down"))["deployments"][0]["state"] == "open"
        assert (await state_of(sluice, "limited"))["keys"][0]["rate_limited"][0]["state"] == "resting"

        await down.accept()
        ups["limited"].handler = ups["good"].handler
        pass_time(sluice, 30)
        shares = await asked_often("m", 300)
        assert min(shares[name] for name in ("down", "limited", "good")) > 50
        wasted = [attempt for record in sluice.records for attempt in record.attempts if attempt.error]
        assert len(wasted) < 20
        assert len(sluice.records) == 1000
