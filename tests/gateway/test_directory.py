"""Which models are listed, for whom, and what is said of them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.entities import Account
from proxy.core.errors import PermissionRefused, RequestRefused, UpstreamTimeout
from proxy.core.funding import Funds
from proxy.gateway import directory
from proxy.gateway.directory import Directory, first_name
from proxy.gateway.funds import AccountFunds
from proxy.gateway.keystate import KeyState
from proxy.gateway.management import blank_key
from proxy.gateway.snapshot import Snapshot
from proxy.upstream.providers import ProviderClient
from tests.support.configuration import configuration
from tests.support.keys import NOW_MS, SetClock

TEXT = """
billing: {currency: USD, exchange_rates: {CNY: 0.14}}
providers:
  demo: {preset: echo}
  ali: {base_url: https://ali.example/v1, api_key: "${KEY}", models: [qwen-max, "qwen-vl-*"]}
  volc: {base_url: https://volc.example/v1, api_key: "${KEY}", models: [ep-1]}
  off: {base_url: https://off.example/v1, api_key: "${NONE:-}"}
models:
  fast:
    routes: [ali/qwen-max, {provider: volc, model: ep-1, priority: 2}]
    category: fast
    context_window: 128000
    max_output: 8192
    price: {input: 2, output: 8, cached_input: 0.2, currency: CNY, per: 1M}
  claude: {alias: fast}
  "gpt-*": {routes: ["volc/*"]}
  sleeping: {routes: [off/x]}
"""


class Provider:
    """Answers which models it has, and counts how often it was asked."""

    def __init__(self, *models: str) -> None:
        self.models = list(models)
        self.asked: list[str] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.error: Exception | None = None

    async def __call__(self, provider: ProviderClient) -> list[str]:
        self.asked.append(provider.name)
        await self.answering.wait()
        if self.error is not None:
            raise self.error
        return self.models


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def provider() -> Provider:
    return Provider("qwen-vl-plus", "qwen-turbo")


@pytest.fixture
def snapshot() -> Snapshot:
    return Snapshot.build(configuration(TEXT, KEY="sk-0123456789"))


@pytest.fixture
def here(snapshot: Snapshot, provider: Provider, clock: SetClock) -> Directory:
    return Directory(lambda: snapshot, provider, clock)


def key(**fields: Any) -> KeyState:
    account = Account("default", None, enabled=True, created_ms=0)
    return KeyState(
        replace(blank_key(0), **fields), account, AccountFunds("default", Funds()), None, now_ns=0
    )


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


ALL = ["fast", "claude", "demo/echo", "ali/qwen-max", "ali/qwen-vl-plus", "volc/ep-1"]


async def test_the_list_has_every_name_that_can_be_called(here: Directory, provider: Provider) -> None:
    assert ids(await here.listing(key(), None, None)) == ALL
    assert provider.asked == ["ali"]


async def test_an_item_serves_both_protocols_and_tells_the_price(here: Directory) -> None:
    fast = here.one(key(), "fast")
    assert fast == {
        "id": "fast",
        "object": "model",
        "type": "model",
        "display_name": "fast",
        "created": NOW_MS // 1000,
        "created_at": "2100-05-21T12:00:00.000Z",
        "owned_by": "ali",
        "provider": "ali",
        "providers": ["ali", "volc"],
        "category": "fast",
        "context_window": 128000,
        "max_output_tokens": 8192,
        "pricing": {
            "input": "¥0.002/1K",
            "output": "¥0.008/1K",
            "cached_input": "¥0.0002/1K",
            "currency": "CNY",
            "input_per_million": "2",
            "output_per_million": "8",
            "cached_input_per_million": "0.2",
            "converted": {
                "currency": "USD",
                "input_per_million": "0.28",
                "output_per_million": "1.12",
                "cached_input_per_million": "0.028",
            },
        },
    }
    assert here.one(key(), "claude") == fast | {"id": "claude", "display_name": "claude"}


async def test_what_is_free_costs_nothing_and_what_has_no_price_says_so(here: Directory) -> None:
    echo = here.one(key(), "demo/anything/at/all")
    assert echo["pricing"]["input"] == "$0.00/1K"
    assert echo["pricing"]["converted"] is None
    assert echo["category"] is None
    assert here.one(key(), "volc/ep-1")["pricing"] is None


@pytest.mark.parametrize(
    ("fields", "listed"),
    [
        ({"models": ("fast",)}, ["fast"]),
        ({"models": ("ali/*",)}, ["ali/qwen-max", "ali/qwen-vl-plus"]),
        ({"models": ()}, []),
        ({"providers": ("volc",)}, ["fast", "claude", "volc/ep-1"]),
        ({"providers": ("volc",), "models": ("*/*",)}, ["volc/ep-1"]),
    ],
    ids=str,
)
async def test_only_what_the_key_may_use_is_listed(
    here: Directory, fields: dict[str, Any], listed: list[str]
) -> None:
    items = await here.listing(key(**fields), None, None)
    assert ids(items) == listed
    if "providers" in fields:
        assert {tuple(item["providers"]) for item in items} == {("volc",)}


@pytest.mark.parametrize(
    ("provider_name", "category", "listed"),
    [
        ("volc", None, ["fast", "claude", "volc/ep-1"]),
        (None, "fast", ["fast", "claude"]),
        ("demo", "fast", []),
        ("nobody", None, []),
    ],
)
async def test_filters(
    here: Directory, provider_name: str | None, category: str | None, listed: list[str]
) -> None:
    assert ids(await here.listing(key(), provider_name, category)) == listed


async def test_a_name_behind_a_wildcard_is_found_though_not_listed(here: Directory) -> None:
    with pytest.raises(RequestRefused):
        here.one(key(), "gpt-5")  # volc has an allow list without it
    with pytest.raises(RequestRefused, match="fast"):
        here.one(key(), "fasst")
    with pytest.raises(RequestRefused, match="NONE"):
        here.one(key(), "sleeping")


@pytest.mark.parametrize("fields", [{"models": ("other",)}, {"providers": ("other",)}], ids=str)
async def test_one_model_that_the_key_may_not_use(here: Directory, fields: dict[str, Any]) -> None:
    with pytest.raises(PermissionRefused) as raised:
        here.one(key(**fields), "fast")
    assert raised.value.code == "model_not_allowed"


class TestAsking:
    async def test_an_answer_is_kept_for_five_minutes(
        self, here: Directory, provider: Provider, clock: SetClock
    ) -> None:
        await here.listing(key(), None, None)
        provider.models = ["qwen-vl-max"]
        clock.ms += 299_000
        assert "ali/qwen-vl-plus" in ids(await here.listing(key(), None, None))
        clock.ms += 1_000
        assert "ali/qwen-vl-max" in ids(await here.listing(key(), None, None))
        assert len(provider.asked) == 2

    async def test_many_listings_at_once_ask_once(self, here: Directory, provider: Provider) -> None:
        provider.answering.clear()
        listings = [asyncio.create_task(here.listing(key(), None, None)) for _ in range(25)]
        await asyncio.sleep(0)
        provider.answering.set()
        for items in await asyncio.gather(*listings):
            assert ids(items) == ALL
        assert len(provider.asked) == 1

    async def test_who_leaves_does_not_take_the_answer_from_the_others(
        self, here: Directory, provider: Provider
    ) -> None:
        provider.answering.clear()
        leaving, staying = (asyncio.create_task(here.listing(key(), None, None)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        provider.answering.set()
        assert ids(await staying) == ALL

    @pytest.mark.parametrize("silent", [False, True], ids=["failing", "silent"])
    async def test_a_provider_that_does_not_say_keeps_its_last_answer_and_is_asked_again_soon(
        self,
        here: Directory,
        provider: Provider,
        clock: SetClock,
        monkeypatch: pytest.MonkeyPatch,
        silent: bool,
    ) -> None:
        await here.listing(key(), None, None)
        clock.ms += 300_000
        monkeypatch.setattr(directory, "ASK_S", 0)
        if silent:
            provider.answering.clear()
        else:
            provider.error = UpstreamTimeout("upstream_first_byte_timeout", "ali did not answer.")
        for _ in range(2):
            assert ids(await here.listing(key(), None, None)) == ALL
        assert len(provider.asked) == 2
        clock.ms += 30_000
        await here.listing(key(), None, None)
        assert len(provider.asked) == 3

    async def test_a_provider_that_never_answered_has_what_is_configured(
        self, here: Directory, provider: Provider
    ) -> None:
        provider.error = UpstreamTimeout("upstream_first_byte_timeout", "ali did not answer.")
        assert "ali/qwen-max" in ids(await here.listing(key(), None, None))

    async def test_after_a_reload_everything_is_asked_anew(self, provider: Provider, clock: SetClock) -> None:
        current = Snapshot.build(configuration(TEXT, KEY="sk-0123456789"))
        here = Directory(lambda: current, provider, clock)
        await here.listing(key(), None, None)
        current = Snapshot.build(configuration(TEXT, KEY="sk-another-9876"))
        provider.models = []
        assert "ali/qwen-vl-plus" not in ids(await here.listing(key(), None, None))
        assert len(provider.asked) == 2

    async def test_a_list_is_made_of_one_configuration(self, provider: Provider, clock: SetClock) -> None:
        current = Snapshot.build(configuration(TEXT, KEY="sk-0123456789"))
        here = Directory(lambda: current, provider, clock)
        provider.answering.clear()
        listing, entries = (
            asyncio.create_task(call) for call in (here.listing(key(), None, None), here.entries())
        )
        while not provider.asked:
            await asyncio.sleep(0)
        current = Snapshot.build(configuration("providers: {demo: {preset: echo}}"))
        provider.answering.set()
        assert ids(await listing) == ALL
        assert "sleeping" in ids(await entries)
        assert ids(await here.listing(key(), None, None)) == ["demo/echo"]

    async def test_an_answer_outlives_a_reload_that_leaves_its_provider_alone(
        self, provider: Provider, clock: SetClock
    ) -> None:
        current = Snapshot.build(configuration(TEXT, KEY="sk-0123456789"))
        here = Directory(lambda: current, provider, clock)
        await here.listing(key(), None, None)
        current = Snapshot.build(
            configuration(
                TEXT.replace("fast:", "quick:", 1).replace("alias: fast", "alias: quick"), KEY="sk-0123456789"
            )
        )
        assert "ali/qwen-vl-plus" in ids(await here.listing(key(), None, None))
        assert provider.asked == ["ali"]

    async def test_who_lists_no_models_is_not_asked(self, provider: Provider, clock: SetClock) -> None:
        text = """
            providers:
              zhipu: {api_key: sk-0123456789, models: ["glm-5.3*", own]}
              iflytek: {api_key: sk-0123456789}
              other: {base_url: 'https://o.example/v1'}
              azure: {resource: r, api_key: sk-0123456789}
        """
        snapshot = Snapshot.build(configuration(text))
        items = await Directory(lambda: snapshot, provider, clock).listing(key(), None, None)
        assert ids(items)[:5] == [
            *("zhipu/own", "zhipu/glm-5.3", "zhipu/glm-5.3-flash", "zhipu/glm-5.3-flashx", "iflytek/4.0Ultra")
        ]
        assert ids(items)[-2:] == ["other/qwen-vl-plus", "other/qwen-turbo"]
        assert provider.asked == ["other"]

    async def test_who_did_not_answer_yet_has_the_models_that_ship(
        self, provider: Provider, clock: SetClock
    ) -> None:
        snapshot = Snapshot.build(configuration("providers: {openai: {api_key: sk-0123456789}}"))
        here = Directory(lambda: snapshot, provider, clock)
        provider.error = UpstreamTimeout("upstream_first_byte_timeout", "openai did not answer.")
        assert "openai/gpt-4o" in ids(await here.listing(key(), None, None))
        (embedding, *_) = await here.listing(key(), None, "embedding")
        assert embedding["id"] == "openai/text-embedding-3-large"
        provider.error = None
        clock.ms += 30_000
        assert ids(await here.listing(key(), None, None)) == ["openai/qwen-vl-plus", "openai/qwen-turbo"]


async def test_administrators_see_every_entry_with_its_routes(here: Directory) -> None:
    entries = {entry["id"]: entry for entry in await here.entries()}
    assert list(entries) == ["fast", "claude", "gpt-*", "sleeping", *ALL[2:]]
    assert entries["claude"]["alias"] == "fast"
    assert entries["fast"]["alias"] is None
    assert [route["provider"] for route in entries["fast"]["routes"]] == ["ali", "volc"]
    assert entries["fast"]["routes"][1] == {
        "provider": "volc",
        "model": "ep-1",
        "priority": 2,
        "weight": 1,
        "active": True,
        "price": entries["fast"]["routes"][0]["price"],
        "price_source": "configuration",
        "price_date": None,
    }
    assert entries["fast"]["routes"][0]["price"]["input"] == "2"
    assert entries["gpt-*"]["routes"][0]["model"] == "*"
    assert entries["sleeping"]["routes"][0]["active"] is False
    assert entries["sleeping"]["providers"] == ["off"]
    assert entries["volc/ep-1"]["routes"][0]["price"] is None


async def test_an_alias_for_many_names_has_no_routes_of_its_own(provider: Provider, clock: SetClock) -> None:
    text = "{providers: {demo: {preset: echo}}, models: {'claude-*': {alias: demo/echo}}}"
    snapshot = Snapshot.build(configuration(text))
    entries = await Directory(lambda: snapshot, provider, clock).entries()
    assert (entries[0]["id"], entries[0]["alias"], entries[0]["routes"]) == ("claude-*", "demo/echo", [])
    assert entries[0]["provider"] is entries[0]["pricing"] is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TEXT, "fast"),
        ("{providers: {demo: {preset: echo}}, models: {'*': {alias: demo/echo}}}", "demo/echo"),
        ("{providers: {a: {base_url: 'https://a.example/v1', models: ['x-*', y]}}}", "a/y"),
        ("{providers: {a: {base_url: 'https://a.example/v1'}}}", "a/MODEL"),
        ("{providers: {a: {base_url: 'https://a.example/v1', api_key: '${NONE:-}'}}}", "MODEL"),
        ("{}", "MODEL"),
        (
            "{providers: {demo: {preset: echo}}, models: {e: {routes: [demo/e], category: embedding},"
            " m: {routes: [demo/m]}}}",
            "m",
        ),
    ],
    ids=["configured", "echo", "allow list", "anything", "inactive", "nothing", "no embedding"],
)
def test_an_example_names_something_that_can_be_called(text: str, name: str) -> None:
    assert first_name(Snapshot.build(configuration(text, KEY="sk-0123456789"))) == name
