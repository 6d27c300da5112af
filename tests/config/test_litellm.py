"""LiteLLM's price file, read."""

import json
from typing import Any

import pytest

from proxy.config.catalogue import IMPORTED, Catalogue, Entry
from proxy.config.litellm import PLACES, PriceFile, UnusablePriceFile, read_price_file
from proxy.config.presets import PRESETS

GPT = {
    "litellm_provider": "openai",
    "mode": "chat",
    "max_input_tokens": 128000,
    "max_output_tokens": 16384,
    "input_cost_per_token": 2.5e-06,
    "output_cost_per_token": 1e-05,
    "cache_read_input_token_cost": 1.25e-06,
    "input_cost_per_token_batches": 1.25e-06,
    "supports_vision": True,
}
FILE: dict[str, Any] = {
    "sample_spec": {
        "litellm_provider": "one of https://docs.litellm.ai/docs/providers",
        "max_tokens": "LEGACY parameter",
        "input_cost_per_token": 0.0,
        "mode": "one of: chat, embedding",
    },
    "gpt-4o": GPT,
    "azure/gpt-4o": GPT | {"litellm_provider": "azure"},
    "claude-x": {
        "litellm_provider": "anthropic",
        "mode": "chat",
        "max_input_tokens": 200000.0,
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 1.5e-05,
        "cache_creation_input_token_cost": 3.75e-06,
        "cache_creation_input_token_cost_above_1hr": 6e-06,
        "cache_read_input_token_cost": 3e-07,
        "input_cost_per_token_above_200k_tokens": 6e-06,
        "output_cost_per_token_above_200k_tokens": 2.25e-05,
        "input_cost_per_token_above_200k_tokens_priority": 1e-05,
    },
    "dashscope/qwen-x": {
        "litellm_provider": "dashscope",
        "mode": "chat",
        "tiered_pricing": [
            {"range": [32000.0, 128000.0], "input_cost_per_token": 2.4e-06, "output_cost_per_token": 1.2e-05},
            {"range": [0, 32000.0], "input_cost_per_token": 1.2e-06, "output_cost_per_token": 6e-06},
        ],
    },
    "openrouter/vendor/model": {
        "litellm_provider": "openrouter",
        "mode": "chat",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06,
        "output_cost_per_reasoning_token": 3e-06,
        "input_cost_per_request": 0.004,
        "cache_creation_input_token_cost": 0.0,
    },
    "text-embedding-x": {
        "litellm_provider": "openai",
        "mode": "embedding",
        "max_input_tokens": 8191,
        "max_output_tokens": 8191,
        "input_cost_per_token": 2e-08,
        "output_cost_per_token": 0.0,
    },
    "dall-e": {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 0.04},
    "bedrock/claude": {"litellm_provider": "bedrock", "mode": "chat", "input_cost_per_token": "anything"},
    "fallback_generalizations": {"rules": []},
}


def read(file: dict[str, Any]) -> PriceFile:
    return read_price_file(json.dumps(file).encode(), "2026-11-21")


def found(file: dict[str, Any], preset: str, region: str, model: str) -> Entry:
    entry = Catalogue(read(file).lists, IMPORTED).find(preset, region, model)
    assert entry is not None
    return entry


def amounts(file: dict[str, Any], preset: str, region: str, model: str, input_tokens: int = 0) -> list[int]:
    """Return input, output, cached input, cache write, reasoning, per request: in thousandths."""
    price = found(file, preset, region, model).offers[0].price.at(input_tokens)
    every = (
        price.input,
        price.output,
        price.cached_input,
        price.cache_write,
        price.reasoning,
        price.per_request,
    )
    return [nanos // 10**6 for nanos in every]


class TestReading:
    def test_everything_is_counted(self) -> None:
        file = read(FILE)
        assert file.entries == 9
        assert file.taken == {"openai": 2, "azure": 1, "anthropic": 1, "ali": 1, "openrouter": 1}
        assert file.skipped == {"of providers without a preset": 2, "not billed by tokens of text": 1}
        assert (file.unpriced, file.rounded) == (0, 0)

    def test_a_model_has_its_limits_and_its_price(self) -> None:
        entry = found(FILE, "openai", "", "gpt-4o")
        assert (entry.context_window, entry.max_output, entry.category) == (128_000, 16_384, None)
        assert amounts(FILE, "openai", "", "gpt-4o") == [2500, 10_000, 1250, 2500, 10_000, 0]
        offer = entry.offers[0]
        assert (offer.origin, offer.price.currency, offer.date) == ("imported", "USD", "2026-11-21")

    def test_prefixes_are_no_part_of_a_name(self) -> None:
        assert amounts(FILE, "azure", "", "gpt-4o")[0] == 2500
        assert amounts(FILE, "openrouter", "", "vendor/model")[0] == 1000

    def test_tiers_in_members(self) -> None:
        assert amounts(FILE, "anthropic", "", "claude-x", 200_000) == [3000, 15_000, 300, 3750, 15_000, 0]
        assert amounts(FILE, "anthropic", "", "claude-x", 200_001) == [6000, 22_500, 300, 3750, 22_500, 0]

    def test_tiers_in_a_list_stand_in_their_order(self) -> None:
        assert amounts(FILE, "ali", "intl", "qwen-x") == [1200, 6000, 1200, 1200, 6000, 0]
        assert amounts(FILE, "ali", "intl", "qwen-x", 32_001) == [2400, 12_000, 2400, 2400, 12_000, 0]

    def test_reasoning_and_requests(self) -> None:
        assert amounts(FILE, "openrouter", "", "vendor/model") == [1000, 2000, 1000, 1000, 3000, 4]

    def test_embeddings_have_input_alone(self) -> None:
        entry = found(FILE, "openai", "", "text-embedding-x")
        assert (entry.category, entry.max_output, entry.offers[0].price.output) == ("embedding", None, 0)

    def test_a_name_with_its_provider_in_front_holds(self) -> None:
        file = {
            "deepseek/chat": GPT | {"litellm_provider": "deepseek", "input_cost_per_token": 1e-06},
            "chat": GPT | {"litellm_provider": "deepseek"},
        }
        assert read(file).skipped == {"the same model under a second name": 1}
        assert amounts(file, "deepseek", "", "chat")[0] == 1000

    @pytest.mark.parametrize(
        "changes",
        [
            {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "cache_read_input_token_cost": 0},
            {"input_cost_per_token": None},
            {"output_cost_per_token": None},
        ],
        ids=str,
    )
    def test_zeros_and_halves_are_no_price(self, changes: dict[str, Any]) -> None:
        file = read({"m": GPT | changes})
        assert (file.unpriced, file.taken) == (1, {"openai": 1})
        assert found({"m": GPT | changes}, "openai", "", "m").offers == ()

    def test_an_entry_that_says_nothing_is_passed_over(self) -> None:
        file = read({"m": {"litellm_provider": "openai", "mode": "chat"}, "n": GPT})
        assert file.skipped == {"without price and limits": 1}

    def test_every_place_is_one_that_presets_have(self) -> None:
        for preset, region in PLACES.values():
            assert region in (PRESETS[preset].regions or ("",)), preset


class TestAmounts:
    @pytest.mark.parametrize(
        ("written", "nanos", "rounded"),
        [
            ("1.1e-06", 1_100_000_000, 0),
            ("0.0000011428571428571428", 1_142_857_143, 1),
            ("1e-15", 1, 0),
            ("5e-16", 1, 1),
            ("4.9e-16", 0, 1),
            ("1e-999999", 0, 1),
            ("1", 10**15, 0),
            ("1.0", 10**15, 0),
            ("-0.0", 0, 0),
            ("0.00000000000000" + "3" * 5000, 3, 1),
        ],
        ids=lambda value: str(value)[:24],
    )
    def test_no_float_comes_near_them(self, written: str, nanos: int, rounded: int) -> None:
        text = json.dumps({"m": GPT}).replace(
            '"input_cost_per_token": 2.5e-06', f'"input_cost_per_token": {written}'
        )
        file = read_price_file(text.encode(), "2026-11-21")
        entry = Catalogue(file.lists, IMPORTED).find("openai", "", "m")
        assert entry is not None
        assert (entry.offers[0].price.input, file.rounded) == (nanos, rounded)


class TestRefusal:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"input_cost_per_token": -1e-06}, "input_cost_per_token: expected 0 to 1"),
            ({"input_cost_per_token": 1.1}, "input_cost_per_token: expected 0 to 1"),
            ({"output_cost_per_token": "1e-06"}, "output_cost_per_token: expected a number"),
            ({"output_cost_per_token": True}, "output_cost_per_token: expected a number"),
            ({"cache_read_input_token_cost": []}, "cache_read_input_token_cost: expected a number"),
            ({"input_cost_per_token_above_200k_tokens": -1}, "input_cost_per_token: expected 0"),
            ({"input_cost_per_token_above_0k_tokens": 1e-06}, "a tier: expected a whole number"),
            ({"input_cost_per_request": -1}, "input_cost_per_request: expected 0"),
            ({"max_output_tokens": 0.5}, "max_output_tokens: expected a whole number"),
            ({"max_output_tokens": 10**12}, "max_output_tokens: expected a whole number"),
            ({"max_input_tokens": "many"}, "max_input_tokens: expected a number"),
            ({"tiered_pricing": {"range": [0, 1]}}, "tiered_pricing: expected a list of objects"),
            ({"tiered_pricing": [1]}, "tiered_pricing: expected a list of objects"),
            ({"tiered_pricing": [{}] * 18}, "tiered_pricing: expected a range"),
            (
                {f"input_cost_per_token_above_{k}k_tokens": 1e-06 for k in range(1, 18)},
                "has more than 16 tiers",
            ),
            (
                {
                    "tiered_pricing": [
                        {"range": [low, 10], "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06}
                        for low in (0, 5, 5)
                    ]
                },
                "tiers must stand in the order of their thresholds",
            ),
            ({"tiered_pricing": [{"range": [0]}]}, "tiered_pricing: expected a range"),
            ({"tiered_pricing": [{"range": ["a", 1]}]}, "tiered_pricing: expected a range"),
            (
                {"tiered_pricing": [{"range": [0, 1]}, {"range": [0.5, 2]}]},
                "tiered_pricing: a range: expected a whole number",
            ),
        ],
        ids=lambda value: str(value)[:60],
    )
    def test_an_entry_that_makes_no_sense_is_named(self, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(UnusablePriceFile) as raised:
            read({"good": GPT, "bad": GPT | changes})
        assert str(raised.value).startswith(f'"bad": {said}')

    @pytest.mark.parametrize("name", ["", "openai/", "a\x1b[2J", "x" * 201])
    def test_a_name_that_is_none(self, name: str) -> None:
        with pytest.raises(UnusablePriceFile, match="its name cannot be that of a model"):
            read({name: GPT})

    @pytest.mark.parametrize("mode", [None, [], {}, 1, "ocr"], ids=str)
    def test_whatever_the_mode_is(self, mode: object) -> None:
        assert read({"m": GPT | {"mode": mode}}).skipped == {"not billed by tokens of text": 1}

    @pytest.mark.parametrize("provider", [None, [], 1, "claude"], ids=str)
    def test_whatever_the_provider_is(self, provider: object) -> None:
        assert read({"m": GPT | {"litellm_provider": provider}}).lists == ()

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b'{"m": NaN}', "not JSON"),
            (b'{"m": 1e99999999999999999999}', "not JSON"),
            (b"[]", "not LiteLLM's price file"),
            (b"{}", "not LiteLLM's price file"),
            (b'{"m": {}}', "not LiteLLM's price file"),
            (b'{"m": {"litellm_provider": "openai"}, "n": 1}', '"n": expected an object'),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_another_file(self, data: bytes, said: str) -> None:
        with pytest.raises(UnusablePriceFile, match=said):
            read_price_file(data, "2026-11-21")
