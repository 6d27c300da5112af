"""What ships with the program about models, and how it is looked up."""

import re
from datetime import date
from decimal import Decimal
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from proxy.config.catalogue import (
    IMPORTED,
    NOTHING_IMPORTED,
    SHIPPED,
    Catalogue,
    Entry,
    PriceList,
    Row,
    shipped_catalogue,
)
from proxy.config.presets import PRESETS
from proxy.config.problems import Wrong
from proxy.core.pricing import NANOS

LISTS = msgspec.json.decode(
    files("proxy.config").joinpath("catalogue.json").read_bytes(), type=tuple[PriceList, ...]
)
ROWS = [(one, row) for one in LISTS for row in one.models]
EVERY_ROW = pytest.mark.parametrize(
    ("one", "row"), ROWS, ids=[f"{one.preset}-{one.region}-{one.currency}-{row.id}" for one, row in ROWS]
)


def price_list(*rows: dict[str, Any], **fields: Any) -> PriceList:
    given = {"preset": "openai", "currency": "USD", "source": "a test", "date": "2026-11-01", **fields}
    return msgspec.convert({**given, "models": rows}, PriceList)


def entry(preset: str, region: str, model: str) -> Entry:
    found = shipped_catalogue().find(preset, region, model)
    assert found is not None, f"{preset} {region} {model}"
    return found


class TestRows:
    @EVERY_ROW
    def test_every_row_says_who_said_so_and_when(self, one: PriceList, row: Row) -> None:
        assert row.source or one.source
        assert date(2025, 1, 1) <= date.fromisoformat(row.date or one.date) <= date(2026, 11, 21)

    @EVERY_ROW
    def test_every_row_is_found_as_it_stands(self, one: PriceList, row: Row) -> None:
        found = entry(one.preset, one.region, row.id)
        assert (found.context_window, found.max_output, found.category) == (
            row.context_window,
            row.max_output,
            row.category,
        )
        prices = {offer.price.currency: offer.price for offer in found.offers}
        if row.price is None:
            assert not prices
        else:
            assert prices[one.currency].input == Decimal(row.price.input or 0) * NANOS
            assert prices[one.currency].cached_input <= prices[one.currency].input

    @EVERY_ROW
    def test_output_is_priced_but_for_embeddings(self, one: PriceList, row: Row) -> None:
        assert re.fullmatch(r"[a-z-]+", row.category or "")
        if row.price is not None:
            assert (row.price.output is None) is (row.category == "embedding")
        if row.max_output and row.context_window:
            assert row.max_output <= row.context_window or row.id == "MiniMax-M3"

    def test_lists_are_of_regions_that_presets_have(self) -> None:
        assert {one.preset for one in LISTS} <= {row.name for row in PRESETS.values()}
        assert {one.currency for one in LISTS} == {"CNY", "USD"}
        assert all((one.currency == "CNY") is (one.region == "cn") for one in LISTS if one.region)

    def test_what_is_free_is_not_what_is_unknown(self) -> None:
        (free,) = entry("zai", "intl", "glm-4.7-flash").offers
        assert free.price.is_free
        assert entry("iflytek", "", "4.0Ultra").offers == ()


class TestFinding:
    def test_a_price_is_exact_and_says_where_it_comes_from(self) -> None:
        (offer,) = entry("openai", "", "gpt-4o").offers
        assert (offer.price.input, offer.price.cached_input) == (2_500_000_000, 1_250_000_000)
        assert offer.price.output == 10 * NANOS
        assert (offer.origin, offer.date) == (SHIPPED, "2026-11-12")

    @pytest.mark.parametrize(("preset", "region", "currency"), [("ali", "cn", "CNY"), ("ali", "intl", "USD")])
    def test_each_region_has_its_own_row(self, preset: str, region: str, currency: str) -> None:
        (offer,) = entry(preset, region, "qwen3-max").offers
        assert offer.price.currency == currency

    @pytest.mark.parametrize(
        ("preset", "region", "model"),
        [
            ("ali", "us", "qwen3-max"),
            ("ali", "", "qwen3-max"),
            ("siliconflow", "cn", "Qwen/Qwen3-32B"),
            ("openai", "", "gpt-4o-2024-05-13"),  # costs twice what gpt-4o does
            ("openai", "", "gpt-4"),
            ("ollama", "", "gpt-4o"),
            ("", "", "gpt-4o"),
        ],
    )
    def test_what_is_not_known_for_sure_is_not_known(self, preset: str, region: str, model: str) -> None:
        assert shipped_catalogue().find(preset, region, model) is None

    @pytest.mark.parametrize(
        ("preset", "region", "other"),
        [("zhipu", "intl", ("zai", "intl")), ("zai", "cn", ("zhipu", "cn"))],
        ids=str,
    )
    def test_two_presets_of_one_company_share_its_lists(
        self, preset: str, region: str, other: tuple[str, str]
    ) -> None:
        assert entry(preset, region, "glm-5.3") is entry(*other, "glm-5.3")

    @pytest.mark.parametrize(
        ("preset", "written", "stands_for"),
        [
            ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            ("gemini", "models/gemini-3.8-flash", "gemini-3.8-flash"),
        ],
    )
    def test_other_ways_to_write_a_name(self, preset: str, written: str, stands_for: str) -> None:
        assert entry(preset, "", written) is entry(preset, "", stands_for)

    def test_a_provider_with_one_list_in_each_currency_has_both_prices(self) -> None:
        offers = entry("deepseek", "", "deepseek-v4-pro").offers
        assert [(offer.price.currency, offer.price.input) for offer in offers] == [
            ("CNY", 9 * NANOS),
            ("USD", 1_320_000_000),
        ]
        assert all("peak" in (offer.note or "") for offer in offers)


class TestTiers:
    def test_a_tier_begins_above_its_thousands(self) -> None:
        price = entry("ali", "cn", "qwen3-max").offers[0].price
        assert (price.at(32_000).input, price.at(32_001).input, price.at(128_001).input) == (
            2_500_000_000,
            4 * NANOS,
            7 * NANOS,
        )

    def test_what_a_price_does_not_set_apart_follows_the_tier(self) -> None:
        row = {
            "id": "m",
            "price": {"input": "1", "output": "2", "tiers": [tier := {"input": "3", "output": "5"}]},
        }
        tier["above_input_tokens"] = 10  # type: ignore[assignment]  # the others are text
        found = Catalogue([price_list(row)], IMPORTED).find("openai", "", "m")
        assert found is not None
        above = found.offers[0].price.at(11)
        assert (above.cached_input, above.cache_write, above.reasoning) == (3 * NANOS, 3 * NANOS, 5 * NANOS)

    def test_what_it_sets_apart_is_the_base_s_where_the_tier_is_silent(self) -> None:
        row = {
            "id": "m",
            "price": {
                "input": "1",
                "output": "2",
                "cached_input": "0.5",
                "tiers": [{"above_input_tokens": 10, "input": "3"}],
            },
        }
        found = Catalogue([price_list(row)], IMPORTED).find("openai", "", "m")
        assert found is not None
        above = found.offers[0].price.at(11)
        assert (above.cached_input, above.output, above.reasoning) == (NANOS // 2, 2 * NANOS, 2 * NANOS)


@pytest.mark.parametrize(
    ("lists", "path"),
    [
        ([price_list(preset="opnai")], (0, "preset")),
        ([price_list(preset="claude")], (0, "preset")),  # only a name of its own
        ([price_list(region="cn")], (0, "region")),
        ([price_list(), price_list(preset="ali")], (1, "region")),
        ([price_list({"id": "a"}, {"id": "a"})], (0, "models", 1, "id")),
        ([price_list({"id": "a"}), price_list({"id": "a"})], (1, "models", 0, "id")),
        ([price_list({"id": "a", "price": {"cached_input": "1"}})], (0, "models", 0, "price", "input")),
        ([price_list({"id": "a", "price": {"input": "1000001"}})], (0, "models", 0, "price", "input")),
        (
            [price_list({"id": "a", "price": {"input": "1", "tiers": [{"above_input_tokens": 9}] * 2}})],
            (0, "models", 0, "price", "tiers", 1, "above_input_tokens"),
        ),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "lists",
)
def test_wrong_lists_are_refused(lists: list[PriceList], path: tuple[str | int, ...]) -> None:
    with pytest.raises(Wrong) as raised:
        Catalogue(lists, IMPORTED)
    assert raised.value.path == path


@pytest.mark.parametrize(
    "amount", ["-1", "1e9", "NaN", "Infinity", "", "1.", ".5", "1\n", "0.1234567890", 1.5, 1]
)
def test_amounts_are_decimal_text(amount: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        price_list({"id": "a", "price": {"input": amount}})


def test_nothing_imported_knows_nothing() -> None:
    assert NOTHING_IMPORTED.find("openai", "", "gpt-4o") is None
    assert len(NOTHING_IMPORTED) == 0
    assert len(shipped_catalogue()) == len({(one.preset, one.region, row.id) for one, row in ROWS})
