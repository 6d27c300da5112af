"""Every row of the settlement table of docs/billing.md, on real sockets, with and without prepaid funds.

The rows are data: the same ones are driven here and printed there, which one test compares.
`scripts/settlement-table` writes them into the page.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Finish
from proxy.core.money import decimal_text
from proxy.gateway.exchange import Exchange
from proxy.gateway.settlement import Reached
from proxy.store import usage as usage_module
from proxy.store import writer as writer_module
from tests.support import money
from tests.support.asking import eventually
from tests.support.clients import MESSAGES, StreamingClient
from tests.support.gateway import Sluice, gateway
from tests.support.replies import End, Reply, chat, chat_chunk, chat_stream, error, hang, sse
from tests.support.upstream import Upstream

PAGE = Path(__file__).parents[2] / "docs/billing.md"
BEGIN, END = "<!-- settlement table: generated -->", "<!-- end -->"

# 2,000 nanos for each token of input, 8,000 for each of output.
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
QUICK: dict[str, Any] = {"timeouts": {"connect_s": 5, "first_byte_s": 0.2, "idle_s": 0.2, "total_s": 5}}
DRAIN: dict[str, Any] = {"on_disconnect": "drain"}
# More than any row costs.
FUNDS = 1_000_000_000
TOKENS_A_DAY = 1_000_000

# What the provider reports where it does: 100 × 2,000 + 50 × 8,000.
REPORTED, REPORTED_COST = (100, 50), 600_000
# "Say hello": 2 tokens, 4 around the message, 3 for the reply; "Hello there" are 2.
WHOLE, WHOLE_COST = (9, 2), 9 * 2_000 + 2 * 8_000
INPUT, INPUT_COST = (9, 0), 9 * 2_000
NOTHING, NOTHING_COST = (0, 0), 0

FAR_NS = 10**30


@dataclass
class World:
    """A gateway, its provider, and what a row does with them."""

    sluice: Sluice
    upstream: Upstream
    folder: Path
    restart: "Restart"

    async def ask(self, *, stream: bool, model: str = "m") -> None:
        body = {"model": model, "messages": MESSAGES, "stream": stream}
        await self.sluice.http.post("/v1/chat/completions", json=body)

    @asynccontextmanager
    async def half_answered(
        self, reply: Reply, *, stream: bool = True, content: bool = True
    ) -> AsyncIterator[Exchange]:
        """Have a client at the point where the provider's 2xx came, and the first content if there is any.

        Its connection is closed at the end of the block.
        """
        self.upstream.reply(reply)
        async with StreamingClient.begun(self.sluice, model="m", stream=stream) as client:
            if stream:
                for gate in reply.gates[: 2 if content else 1]:
                    gate.open()
                await client.head()
                seen = b""
                chunks = client.chunks()
                while content and b"Hello there" not in seen:
                    seen += await anext(chunks)
            await self.upstream.received(1)
            await eventually(lambda: self.exchange._account.reached is Reached.ANSWERED)
            yield self.exchange

    @property
    def exchange(self) -> Exchange:
        (exchange,) = self.sluice.app.gateway._running
        return exchange

    async def reads_on(self) -> None:
        await eventually(lambda: self.sluice.app.gateway.services.read_on == 1)


#: Ends the process, as far as the disk can tell, and starts another one.
Restart = Callable[[], Awaitable[None]]
Drive = Callable[[World], Awaitable[None]]


def whole(usage: tuple[int, int] | None = REPORTED) -> Reply:
    return chat("Hello there", usage=usage)


def streamed(usage: tuple[int, int] | None = REPORTED) -> Reply:
    return chat_stream("Hello there", usage=usage)


def half(end: End, usage: tuple[int, int] | None = None) -> Reply:
    """A role and a piece of content, with which usage may be reported, and then that end."""
    first, content = chat_chunk({"role": "assistant"}), chat_chunk({"content": "Hello there"}, usage=usage)
    return sse(first, content, chat_chunk({"content": "!"})).broken(2, end)


def broken_later() -> Reply:
    """A role and a piece of content, each behind a gate, and behind another the end of the connection."""
    return streamed().gated().broken(5, End.CLOSE)


def reported_early() -> Reply:
    content = chat_chunk({"content": "Hello there"}, usage=REPORTED)
    return sse(chat_chunk({"role": "assistant"}), content, chat_chunk({"content": "!"}), "[DONE]").gated()


# -- how the rows come about


def asked(reply: Reply, *, stream: bool) -> Drive:
    async def drive(world: World) -> None:
        world.upstream.reply(reply)
        await world.ask(stream=stream)

    return drive


async def refused(world: World) -> None:
    await world.ask(stream=False, model="no-such-model")


def gone_early(*, stream: bool) -> Drive:
    async def drive(world: World) -> None:
        world.upstream.reply(hang())
        async with StreamingClient.begun(world.sluice, model="m", stream=stream):
            await world.upstream.received(1)

    return drive


def gone(reply: Callable[[], Reply], *, stream: bool = True, content: bool = True) -> Drive:
    async def drive(world: World) -> None:
        async with world.half_answered(reply(), stream=stream, content=content):
            pass

    return drive


def read_on(reply: Callable[[], Reply], *, stream: bool, in_time: bool) -> Drive:
    async def drive(world: World) -> None:
        gated = reply()
        async with world.half_answered(gated, stream=stream) as exchange:
            pass
        await world.reads_on()
        if in_time:
            gated.open_all()
        else:
            exchange.tick(FAR_NS)

    return drive


async def revoke(world: World) -> None:
    state = money.key_state(world.sluice)
    assert (await world.sluice.admin.delete(f"/admin/api/keys/{state.key.id}")).status_code == 200


async def stop(world: World) -> None:
    world.sluice.app.gateway.stop()
    world.sluice.app.gateway.end_all()


def ended_early(end: Drive) -> Drive:
    async def drive(world: World) -> None:
        world.upstream.reply(hang())
        async with StreamingClient.begun(world.sluice, model="m"):
            await world.upstream.received(1)
            await end(world)
            await world.sluice.settled(1)

    return drive


def ended(end: Drive) -> Drive:
    async def drive(world: World) -> None:
        async with world.half_answered(streamed().gated()):
            await end(world)
            await world.sluice.settled(1)

    return drive


def crashed(*, noted: bool) -> Drive:
    async def drive(world: World) -> None:
        async with world.half_answered(streamed().gated()) as exchange:
            # In track mode the row of a running exchange comes a little later than its provider.
            row = "SELECT id FROM exchanges WHERE finish IS NULL"
            await eventually(lambda: money.read(money.database(world.sluice), row) != [])
            if noted:
                progress = exchange.progress(FAR_NS)
                assert progress is not None
                world.sluice.app.gateway.services.usage.note([progress])
                await world.sluice.app._database.writer.submit(lambda connection: None)
            await world.restart()

    return drive


# -- the table


@dataclass(frozen=True)
class Row:
    """One way to end, and what it must come to. `usage` None: it leaves no record."""

    end: str
    answer: str
    drive: Drive
    usage: tuple[int, int] | None
    cost: int
    billing: str = "void"
    finish: str = ""
    status: int = 200
    provider: Mapping[str, Any] = field(default_factory=dict)
    #: Whether the connection to the provider can be used again.
    keeps: bool = False


def row(
    end: str,
    answer: str,
    drive: Drive,
    charged: tuple[tuple[int, int] | None, int],
    told: str,
    *,
    keeps: bool = False,
    **provider: Any,
) -> Row:
    billing, finish, status = told.split()
    return Row(end, answer, drive, *charged, billing, finish, int(status), provider, keeps)


NONE: tuple[None, int] = (None, 0)
VOID = (NOTHING, NOTHING_COST)
SETTLED = (REPORTED, REPORTED_COST)
ESTIMATED = (WHOLE, WHOLE_COST)
ONLY_INPUT = (INPUT, INPUT_COST)

COMPLETE = "complete, usage reported"
COMPLETE_SILENT = "complete, usage missing"
BEFORE = "provider fails before its 2xx"
AFTER = "provider fails after its 2xx, before any content"
BREAKS = "an answer that is not streamed breaks"
GONE_BEFORE = "client gone before the provider's 2xx"
GONE_AFTER = "client gone after it (`cancel`)"
DRAINED = "client gone after it (`drain`), the rest in time"
DRAINED_LATE = "client gone after it (`drain`), not in time"
DRAINED_BROKEN = "client gone after it (`drain`), then the provider fails"
FAILS = "provider fails after streamed content"
FAILS_REPORTED = "the same, and it had reported usage"
STOPPED = "stopping, and the grace is over"
REVOKED = "key revoked in mid-stream"
CRASHED = "crash"

ROLE = sse(chat_chunk({"role": "assistant"}))
FAULT = {"error": {"message": "it broke", "code": 500}}
FAULT_FIRST = sse(FAULT).broken(1, End.HANG)
FAULTY = sse(chat_chunk({"role": "assistant"}), chat_chunk({"content": "Hello there"}), FAULT).broken(
    3, End.HANG
)

ROWS = [
    row(COMPLETE, "whole", asked(whole(), stream=False), SETTLED, "settled ok 200", keeps=True),
    row(COMPLETE, "stream", asked(streamed(), stream=True), SETTLED, "settled ok 200", keeps=True),
    row(
        COMPLETE_SILENT, "whole", asked(whole(None), stream=False), ESTIMATED, "estimated ok 200", keeps=True
    ),
    row(
        COMPLETE_SILENT,
        "stream",
        asked(streamed(None), stream=True),
        ESTIMATED,
        "estimated ok 200",
        keeps=True,
    ),
    row("refused by the gateway", "–", refused, NONE, "– – 404"),
    row(BEFORE, "error", asked(error(500), stream=True), VOID, "void upstream_error 502", keeps=True),
    row(BEFORE, "refusal", asked(error(400), stream=False), VOID, "void upstream_error 400", keeps=True),
    row(BEFORE, "silence", asked(hang(), stream=True), VOID, "void timeout 504", **QUICK),
    row(AFTER, "stream, error event", asked(FAULT_FIRST, stream=True), VOID, "void upstream_error 502"),
    row(AFTER, "stream, broken", asked(sse().broken(0, End.CLOSE), stream=True), VOID, "void truncated 502"),
    row(
        AFTER,
        "stream, a role, silence",
        asked(ROLE.broken(1, End.HANG), stream=True),
        VOID,
        "void timeout 504",
        **QUICK,
    ),
    row(BREAKS, "whole, cut", asked(whole().cut(120, End.CLOSE), stream=False), VOID, "void truncated 502"),
    row(
        BREAKS,
        "whole, silence",
        asked(whole().cut(120, End.HANG), stream=False),
        VOID,
        "void timeout 504",
        **QUICK,
    ),
    row(GONE_BEFORE, "whole", gone_early(stream=False), VOID, "void client_gone 499"),
    row(GONE_BEFORE, "stream", gone_early(stream=True), VOID, "void client_gone 499"),
    row(
        GONE_AFTER,
        "whole",
        gone(lambda: whole().gated(), stream=False),
        ONLY_INPUT,
        "estimated client_gone 499",
    ),
    row(
        GONE_AFTER,
        "stream, a role",
        gone(lambda: streamed().gated(), content=False),
        ONLY_INPUT,
        "estimated client_gone 200",
    ),
    row(
        GONE_AFTER,
        "stream, content",
        gone(lambda: streamed().gated()),
        ESTIMATED,
        "estimated client_gone 200",
    ),
    row(GONE_AFTER, "stream, content, usage", gone(reported_early), SETTLED, "estimated client_gone 200"),
    row(
        DRAINED,
        "whole, usage",
        read_on(lambda: whole().gated(), stream=False, in_time=True),
        SETTLED,
        "settled client_gone 499",
        keeps=True,
        **DRAIN,
    ),
    row(
        DRAINED,
        "whole, no usage",
        read_on(lambda: whole(None).gated(), stream=False, in_time=True),
        ESTIMATED,
        "estimated client_gone 499",
        keeps=True,
        **DRAIN,
    ),
    row(
        DRAINED,
        "stream, usage",
        read_on(lambda: streamed().gated(), stream=True, in_time=True),
        SETTLED,
        "settled client_gone 200",
        keeps=True,
        **DRAIN,
    ),
    row(
        DRAINED,
        "stream, no usage",
        read_on(lambda: streamed(None).gated(), stream=True, in_time=True),
        ESTIMATED,
        "estimated client_gone 200",
        keeps=True,
        **DRAIN,
    ),
    row(
        DRAINED_LATE,
        "whole",
        read_on(lambda: whole().gated(), stream=False, in_time=False),
        ONLY_INPUT,
        "estimated client_gone 499",
        **DRAIN,
    ),
    row(
        DRAINED_LATE,
        "stream, content",
        read_on(lambda: streamed().gated(), stream=True, in_time=False),
        ESTIMATED,
        "estimated client_gone 200",
        **DRAIN,
    ),
    row(
        DRAINED_BROKEN,
        "stream, content",
        read_on(broken_later, stream=True, in_time=True),
        ESTIMATED,
        "estimated client_gone 200",
        **DRAIN,
    ),
    row(
        FAILS,
        "stream, content, cut",
        asked(half(End.CLOSE), stream=True),
        ESTIMATED,
        "estimated truncated 200",
    ),
    row(
        FAILS,
        "stream, content, reset",
        asked(half(End.RESET), stream=True),
        ESTIMATED,
        "estimated truncated 200",
    ),
    row(
        FAILS,
        "stream, content, silence",
        asked(half(End.HANG), stream=True),
        ESTIMATED,
        "estimated timeout 200",
        **QUICK,
    ),
    row(
        FAILS,
        "stream, content, error event",
        asked(FAULTY, stream=True),
        ESTIMATED,
        "estimated upstream_error 200",
    ),
    row(
        FAILS_REPORTED,
        "stream, content, cut",
        asked(half(End.CLOSE, REPORTED), stream=True),
        SETTLED,
        "settled truncated 200",
    ),
    row(
        FAILS_REPORTED,
        "stream, content, silence",
        asked(half(End.HANG, REPORTED), stream=True),
        SETTLED,
        "settled timeout 200",
        **QUICK,
    ),
    row(STOPPED, "nothing yet", ended_early(stop), VOID, "void shutdown 503"),
    row(STOPPED, "stream, content", ended(stop), ESTIMATED, "estimated shutdown 200"),
    row(REVOKED, "nothing yet", ended_early(revoke), VOID, "void revoked 401"),
    row(REVOKED, "stream, content", ended(revoke), ESTIMATED, "estimated revoked 200"),
    row(CRASHED, "stream, content, noted", crashed(noted=True), ESTIMATED, "estimated crash 200"),
    row(CRASHED, "stream, nothing noted", crashed(noted=False), VOID, "void crash 500"),
]


def ids(row: Row) -> str:
    return f"{row.end}: {row.answer}".replace(" ", "-").replace("`", "")


def settings(upstream: Upstream, mode: str, provider: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "providers": {"up": {"base_url": upstream.url, **provider}},
        "models": {"m": {"routes": ["up/m"], "price": PRICE}},
        "billing": {"mode": mode},
        "plans": {"watched": {"rpd": 100, "tpd": TOKENS_A_DAY}},
        "limits": {"default_plan": "watched"},
    }


def copied(source: Path, target: Path) -> None:
    """Copy what a database has committed so far: what a kill would leave."""
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))


@pytest.mark.parametrize("mode", ["track", "prepaid"])
@pytest.mark.parametrize("row", ROWS, ids=ids)
async def test_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row, mode: str) -> None:
    monkeypatch.setattr(usage_module, "ADMISSION_S", 0)
    monkeypatch.setattr(writer_module, "POST_S", 0)
    async with Upstream() as upstream:
        configured = settings(upstream, mode, row.provider)
        crash = tmp_path / "crash"
        crash.mkdir()

        async def restart() -> None:
            copied(tmp_path / "sluice.db", crash / "sluice.db")

        async with gateway(tmp_path, **configured) as sluice:
            await money.top_up(sluice, FUNDS)
            world = World(sluice, upstream, tmp_path, restart)
            await row.drive(world)
            await sluice.settled(0 if row.usage is None else 1)
            await eventually(lambda: sluice.app.gateway.running == 0 and money.nothing_held(sluice))
            if not (crash / "sluice.db").exists():
                await check(row, sluice, paid=mode == "prepaid")
            if row.keeps:
                await eventually(lambda: sluice.app.gateway.services.client.idle_connections == 1)
            else:
                await upstream.all_closed()
            assert sluice.app.gateway.services.read_on == 0
            assert len(upstream.requests) == (row.usage is not None)
        money.check_books(tmp_path / "sluice.db")
        if (crash / "sluice.db").exists():
            async with gateway(crash, **configured) as again:
                await check(row, again, paid=mode == "prepaid")
            money.check_books(crash / "sluice.db")


async def check(row: Row, sluice: Sluice, *, paid: bool) -> None:
    """Check the record, the funds, the quota's and the limits' count of one exchange."""
    records, _ = await sluice.app.gateway.services.usage.list(limit=10)
    state = money.key_state(sluice)
    day = sluice.app.gateway.services.clock.instant()
    limits = dict(state.limiter.headers(*day))
    if row.usage is None:
        assert records == []
    else:
        (record,) = records
        assert (record.usage.input_tokens, record.usage.output_tokens) == row.usage
        assert record.cost_nanos == row.cost
        assert (record.billing, record.finish, record.status) == (row.billing, row.finish, row.status)
        assert record.estimated == (row.billing == "estimated")
        assert (record.paid_tokens, record.paid_subscription_nanos) == (0, 0)
        assert record.paid_wallet_nanos == (row.cost if paid else 0)
    assert money.wallet(sluice) == FUNDS - (row.cost if paid else 0)
    assert money.nothing_held(sluice)
    assert int(limits[b"x-ratelimit-remaining-requests"]) == 100 - len(records)
    assert int(limits[b"x-ratelimit-remaining-tokens"]) == TOKENS_A_DAY - sum(row.usage or NOTHING)
    assert state.spending.running_nanos == 0
    assert state.spending.spent("total", day.day) == row.cost


def test_every_finish_has_a_row() -> None:
    assert {row.finish for row in ROWS} == {finish.value for finish in Finish} | {"–"}


def table() -> str:
    """Return the rows as the page shows them."""
    lines = [
        "In numbers, as the tests drive it: a prompt of 9 estimated tokens, content of 2, a report of",
        "100 + 50, at `price: {input: 2, output: 8, per: 1M}`. *Status* is what the client got; 499: it was",
        "gone before it got any.",
        "",
        "| end | answer | charged tokens | cost | `billing` | `finish` | status |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        tokens, cost = "–", "–"
        if row.usage is not None:
            tokens, cost = "{} + {}".format(*row.usage), decimal_text(row.cost)
        cells = (row.end, row.answer, tokens, cost, row.billing, row.finish, str(row.status))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_is_the_documented_one() -> None:
    page = PAGE.read_text()
    assert BEGIN in page, f"{PAGE} lacks the line {BEGIN}"
    before, rest = page.split(BEGIN)
    written, after = rest.split(END, 1)
    if os.environ.get("WRITE_SETTLEMENT_TABLE"):
        PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")
        return
    assert written.strip() == table(), "scripts/settlement-table writes it anew"
