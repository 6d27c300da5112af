"""What is known of the models of a configuration."""

from typing import Any

import msgspec
import pytest

from proxy.config.catalogue import IMPORTED, NOTHING_IMPORTED, Catalogue, PriceList
from proxy.config.facts import NOTHING_KNOWN, Facts, ModelFacts, listed_models
from tests.support.configuration import configuration

PROVIDERS = "providers: {openai: {}, deepseek: {}, ali: {}, demo: {preset: echo}, own: {base_url: 'https://o.example'}}"


def imported(preset: str, region: str, *rows: dict[str, Any], currency: str = "USD") -> Catalogue:
    given = {
        "preset": preset,
        "region": region,
        "currency": currency,
        "source": "a test",
        "date": "2026-11-20",
    }
    return Catalogue([msgspec.convert({**given, "models": rows}, PriceList)], IMPORTED)


def of(text: str, provider: str, model: str, lists: Catalogue = NOTHING_IMPORTED) -> ModelFacts:
    return Facts(configuration(f"{text}\n{PROVIDERS}"), lists).of(provider, model)


def priced(facts: ModelFacts) -> tuple[str, int, str] | None:
    """Return currency, input price in thousandths, and origin."""
    offer = facts.offer
    return offer and (offer.price.currency, offer.price.input // 10**6, offer.origin)


@pytest.mark.parametrize(
    ("billing", "model", "expected"),
    [
        ("{currency: USD}", "deepseek/deepseek-v4-pro", ("USD", 1320, "catalogue")),
        ("{currency: CNY}", "deepseek/deepseek-v4-pro", ("CNY", 9000, "catalogue")),
        (
            "{currency: EUR, exchange_rates: {USD: 0.9}}",
            "deepseek/deepseek-v4-pro",
            ("USD", 1320, "catalogue"),
        ),
        ("{currency: EUR}", "deepseek/deepseek-v4-pro", None),
        ("{exchange_rates: {CNY: 0.14}}", "ali/qwen3-max", ("CNY", 2500, "catalogue")),
        ("{currency: USD}", "ali/qwen3-max", None),
        ("{currency: USD}", "own/gpt-4o", None),
        ("{currency: USD}", "demo/gpt-4o", None),
    ],
)
def test_a_price_counts_in_the_billing_currency_or_at_a_rate(
    billing: str, model: str, expected: tuple[str, int, str] | None
) -> None:
    provider, _, name = model.partition("/")
    assert priced(of(f"billing: {billing}", provider, name)) == expected


def test_what_is_free_needs_no_rate() -> None:
    facts = Facts(configuration("providers: {iflytek: {}}"))
    assert priced(facts.of("iflytek", "lite")) == ("USD", 0, "catalogue")
    assert facts.of("iflytek", "4.0Ultra").offer is None
    assert facts.without_rate("iflytek") == set()


def test_a_price_without_rate_is_named() -> None:
    facts = Facts(configuration(f"billing: {{currency: EUR}}\n{PROVIDERS}"))
    assert facts.of("openai", "gpt-4o").without_rate == "USD"
    assert facts.without_rate("ali") == {"CNY"}
    assert facts.without_rate("deepseek") == {"CNY"}
    assert facts.without_rate("own") == set()


class TestImported:
    def test_an_imported_price_takes_the_place_of_a_shipped_one(self) -> None:
        lists = imported("openai", "", {"id": "gpt-4o", "price": {"input": "7", "output": "8"}})
        found = of("", "openai", "gpt-4o", lists)
        assert priced(found) == ("USD", 7000, "imported")
        assert (found.max_output, found.category) == (16_384, "general")  # the import is silent there

    def test_limits_are_taken_one_by_one(self) -> None:
        lists = imported("openai", "", {"id": "gpt-4o", "max_output": 9, "category": "mine"})
        found = of("", "openai", "gpt-4o", lists)
        assert (found.context_window, found.max_output, found.category) == (128_000, 9, "mine")
        assert priced(found) == ("USD", 2500, "catalogue")

    def test_a_model_that_does_not_ship_is_known_too(self) -> None:
        lists = imported("openai", "", {"id": "gpt-9", "price": {"input": "1", "output": "2"}})
        assert priced(of("", "openai", "gpt-9", lists)) == ("USD", 1000, "imported")
        assert of("", "openai", "gpt-10", lists) is NOTHING_KNOWN

    @pytest.mark.parametrize(
        "billing", ["{exchange_rates: {CNY: 0.14}}", "{currency: CNY, exchange_rates: {USD: 7}}"]
    )
    def test_a_conversion_never_displaces_what_the_provider_bills_in(self, billing: str) -> None:
        lists = imported("ali", "cn", {"id": "qwen3-max", "price": {"input": "7", "output": "8"}})
        found = of(f"billing: {billing}", "ali", "qwen3-max", lists)
        assert priced(found) == ("CNY", 2500, "catalogue")

    def test_of_several_currencies_only_its_own_is_replaced(self) -> None:
        lists = imported("deepseek", "", {"id": "deepseek-v4-pro", "price": {"input": "7", "output": "8"}})
        assert priced(of("", "deepseek", "deepseek-v4-pro", lists)) == ("USD", 7000, "imported")
        in_yuan = of("billing: {currency: CNY}", "deepseek", "deepseek-v4-pro", lists)
        assert priced(in_yuan) == ("CNY", 9000, "catalogue")

    def test_another_regions_import_does_not_count(self) -> None:
        lists = imported("ali", "intl", {"id": "qwen-new", "price": {"input": "7", "output": "8"}})
        assert of("", "ali", "qwen-new", lists) is NOTHING_KNOWN


def test_a_host_of_ones_own_has_no_region() -> None:
    text = "providers: {ali: {base_url: 'https://ws.cn-beijing.maas.aliyuncs.com/v1'}, openai: {base_url: 'https://o.example/v1'}}"
    facts = Facts(configuration(text))
    assert facts.of("ali", "qwen3-max") is NOTHING_KNOWN
    assert priced(facts.of("openai", "gpt-4o")) == ("USD", 2500, "catalogue")


def test_listed_models_are_those_of_the_region() -> None:
    providers = configuration(
        "providers: {ali: {region: intl}, openai: {}, own: {base_url: 'https://o.example'}}"
    ).providers
    assert "qwen3-vl-plus" in listed_models(providers["ali"])
    assert "qwen-long" not in listed_models(providers["ali"])
    assert "gpt-4o" in listed_models(providers["openai"])
    assert listed_models(providers["own"]) == ()
