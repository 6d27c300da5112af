"""A gateway that is killed: what it had begun is settled by the next one, what it had told is kept."""

import asyncio
import json
import random
import sqlite3
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Billing, Finish
from proxy.gateway import exchange as exchange_module
from proxy.store.usage import UsageStore
from tests.support import money
from tests.support.asking import eventually
from tests.support.clients import MESSAGES, StreamingClient
from tests.support.gateway import API_KEY, configuration, gateway
from tests.support.process import GatewayProcess
from tests.support.raw import RawClient
from tests.support.replies import Reply, chat_stream
from tests.support.upstream import Upstream

# 2,000 nanos for each token of input, 8,000 for each of output.
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
IN_NANOS, OUT_NANOS = 2_000, 8_000
FUNDS = 1000 * money.DOLLAR
RUNNING = "SELECT count(*) FROM exchanges WHERE finish IS NULL"
PROGRESS = "SELECT count(*) FROM exchanges WHERE finish IS NULL AND progress IS NOT NULL"

# Enough for a start on a machine that does many other things at once; usually it takes a second.
START_S = 10


def settings(upstream: Upstream) -> dict[str, Any]:
    return {
        "providers": {"up": {"base_url": upstream.url}, "demo": {"preset": "echo"}},
        "models": {
            "m": {"routes": ["up/m"], "price": PRICE},
            "echo": {"routes": ["demo/x"], "price": PRICE},
        },
        "billing": {"mode": "prepaid"},
    }


def streaming() -> Reply:
    return chat_stream("Hello there", " and more").gated()


# -- what was running


async def test_what_a_crash_left_is_charged_by_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "PROGRESS_NS", 0)
    (crash := tmp_path / "crash").mkdir()
    async with Upstream() as upstream, AsyncExitStack() as stack:
        configured = settings(upstream)
        async with gateway(tmp_path, **configured) as sluice:
            await money.top_up(sluice, FUNDS)
            path = money.database(sluice)
            replies = [streaming() for _ in range(5)]
            upstream.reply(*replies)
            for _ in replies:
                await stack.enter_async_context(StreamingClient.begun(sluice, model="m"))
            await upstream.received(5)
            for reply in replies[:3]:
                for gate in reply.gates[:2]:
                    gate.open()
            exchanges = list(sluice.app.gateway._running)
            relays = [exchange._delivery for exchange in exchanges]
            await eventually(lambda: sum(bool(each.relay and each.relay.has_content) for each in relays) == 3)
            sluice.app.gateway._tick()
            await sluice.app._database.writer.submit(lambda connection: None)
            assert money.read(path, RUNNING) == [(5,)]
            assert money.read(path, PROGRESS) == [(3,)]
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("VACUUM INTO ?", (str(crash / "sluice.db"),))
            for reply in replies:
                reply.open_all()
            await sluice.settled(5)
        async with gateway(crash, **configured) as again:
            usage: UsageStore = again.app.gateway.services.usage
            records, _ = await usage.list(limit=10)
            noted = [record for record in records if record.billing is Billing.ESTIMATED]
            void = [record for record in records if record.billing is Billing.VOID]
            assert (len(noted), len(void)) == (3, 2)
            assert {record.finish for record in records} == {Finish.CRASH}
            assert {record.cost_nanos for record in noted} == {9 * IN_NANOS + 2 * OUT_NANOS}
            assert {record.paid_wallet_nanos for record in noted} == {9 * IN_NANOS + 2 * OUT_NANOS}
            assert {record.cost_nanos for record in void} == {0}
            left = FUNDS - 3 * (9 * IN_NANOS + 2 * OUT_NANOS)
            assert money.wallet(again) == left
            assert money.nothing_held(again)
            # It has served since, as ever, and a second look finds nothing more.
            upstream.reply(chat_stream("hi", usage=(1, 1)))
            body = {"model": "m", "messages": MESSAGES, "stream": True}
            answer = await again.http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200
            await eventually(lambda: money.nothing_held(again))
            assert await usage.recover() == 0
        for _ in range(2):
            money.check_books(crash / "sluice.db")
            async with gateway(crash, **configured) as third:
                assert money.wallet(third) == left - IN_NANOS - OUT_NANOS
                assert len((await third.app.gateway.services.usage.list(limit=10))[0]) == 6


@pytest.mark.slow
async def test_a_process_that_is_killed_in_long_streams(tmp_path: Path) -> None:
    """As above, with nothing helped along: a real process, its own ticks, SIGKILL."""
    async with Upstream() as upstream:
        configured = settings(upstream)
        await funded(tmp_path, configured)
        path = tmp_path / "sluice.db"
        config = configuration(tmp_path, **configured)
        async with AsyncExitStack() as stack:
            process = stack.enter_context(GatewayProcess(config))
            replies = [streaming() for _ in range(8)]
            upstream.reply(*replies)
            for _ in replies:
                client = await stack.enter_async_context(RawClient(process.address))
                client.send(request("m", "Say hello", stream=True))
            await upstream.received(8)
            for reply in replies[:5]:
                for gate in reply.gates[:2]:
                    gate.open()
            await eventually(lambda: money.read(path, PROGRESS) == [(5,)])
            process.kill()
        for _ in range(2):
            with GatewayProcess(config):
                ends = (
                    "SELECT finish, billing, cost_nanos, count(*) FROM exchanges GROUP BY 1, 2, 3 ORDER BY 2"
                )
                charged = 9 * IN_NANOS + 2 * OUT_NANOS
                assert money.read(path, ends) == [("crash", "estimated", charged, 5), ("crash", "void", 0, 3)]
                assert money.read(path, "SELECT wallet_nanos FROM accounts") == [(FUNDS - 5 * charged,)]
                money.check_books(path)


# -- what was told


@dataclass
class Told:
    """What clients of a gateway had before it was killed."""

    #: What each whole answer cost, by its request's id, as far as the answer says so.
    whole: dict[str, int | None] = field(default_factory=dict)
    begun: int = 0


async def funded(folder: Path, configured: dict[str, Any]) -> None:
    """Make a database in which the default account has funds."""
    async with gateway(folder, **configured) as sluice:
        await money.top_up(sluice, FUNDS)


def request(model: str, text: str, *, stream: bool) -> bytes:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    content = json.dumps(body).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (API_KEY.encode(), len(content), content)
    )


def cost_of(answer: bytes) -> int:
    """Return the cost of the usage that the end of a stream reports."""
    *_, frame = (line for line in answer.split(b"\n\n") if b'"usage":{' in line)
    usage = json.loads(frame.removeprefix(b"data: "))["usage"]
    return int(usage["prompt_tokens"] * IN_NANOS + usage["completion_tokens"] * OUT_NANOS)


async def ask_until_killed(
    address: tuple[str, int], chance: random.Random, told: Told, enough: asyncio.Event, count: int
) -> None:
    """Ask over and over, streaming or not, sometimes leaving early; write down each whole answer."""
    with suppress(OSError, EOFError, TimeoutError):
        while True:
            async with RawClient(address) as client:
                for _ in range(chance.randrange(1, 9)):
                    stream, text = chance.random() < 0.6, "word " * chance.choice((1, 20, 400))
                    client.send(request("echo", text, stream=stream))
                    told.begun += 1
                    if chance.random() < 0.1:
                        break  # and leave
                    answer = await client.answer()
                    assert answer.status == 200, answer.body
                    id = answer.headers["x-request-id"]
                    assert id not in told.whole
                    if not stream:
                        amount = answer.headers["x-sluice-cost"]
                        told.whole[id] = int(amount.replace(".", ""))
                    elif answer.body.endswith(b"data: [DONE]\n\n"):
                        told.whole[id] = cost_of(answer.body)
                    if len(told.whole) >= count:
                        enough.set()


@pytest.mark.parametrize(
    "rounds", [pytest.param(3, id="short"), pytest.param(200, id="long", marks=pytest.mark.slow)]
)
async def test_killed_under_load(tmp_path: Path, rounds: int, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20261121)
    async with Upstream() as upstream:
        configured = settings(upstream)
        await funded(tmp_path, configured)
        config, path = configuration(tmp_path, **configured), tmp_path / "sluice.db"
        whole: dict[str, int | None] = {}
        starts = []
        begun = 0
        for _ in range(rounds):
            told = Told()
            with GatewayProcess(config) as process:
                starts.append(process.start_s)
                enough = asyncio.Event()
                count = chance.randrange(1, 250)
                clients = [
                    asyncio.create_task(ask_until_killed(process.address, chance, told, enough, count))
                    for _ in range(20)
                ]
                await enough.wait()
                process.kill()
                await asyncio.gather(*clients)
            with GatewayProcess(config) as process:
                starts.append(process.start_s)
                check_told(path, told)
                process.kill()
            whole |= told.whole
            begun += told.begun
        check_told(path, Told(whole))
        ends = money.read(path, "SELECT finish, billing, count(*) FROM exchanges GROUP BY 1, 2")
        with capsys.disabled():
            print(  # noqa: T201  # the figures are what the long run is for
                f"\n{rounds} kills: {begun} requests, {len(whole)} answers received whole, all recorded and "
                f"charged once; ends {ends}; {len(starts)} starts, median "
                f"{sorted(starts)[len(starts) // 2]:.2f} s, the longest "
                f"{', '.join(f'{each:.2f}' for each in sorted(starts)[-5:])} s"
            )
        assert max(starts) < START_S


def check_told(path: Path, told: Told) -> None:
    """Assert that what clients were told is in the books, which are right."""
    money.check_books(path)
    assert money.read(path, "PRAGMA integrity_check") == [("ok",)]
    rows = money.read(path, "SELECT id, cost_nanos, paid_wallet_nanos FROM exchanges WHERE finish = 'ok'")
    charged = {id: (cost, paid) for id, cost, paid in rows}
    for id, cost in told.whole.items():
        assert charged[id] == (cost, cost)
    (paid,) = money.read(path, "SELECT sum(paid_wallet_nanos) FROM exchanges")[0]
    assert money.read(path, "SELECT wallet_nanos FROM accounts") == [(FUNDS - (paid or 0),)]
