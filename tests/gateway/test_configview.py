"""The configuration in force, shown without its secrets."""

import msgspec

from proxy.gateway.configview import config_object, price_object
from tests.support.configuration import configuration

SECRETS = {
    "ADMIN": "sk-admin-0123456789-canary-admin",
    "CLIENT": "sk-sluice-0123456789-canary-client",
    "UP": "sk-0123456789-canary-upstream",
    "HEADER": "canary-header",
    "PROXY": "http://user:canary-password@proxy.example:3128",
}

TEXT = """
admin_key: ${ADMIN}
api_key: ${CLIENT}
billing: {currency: USD, exchange_rates: {CNY: 0.14}, credit_limit: 1.5}
plans:
  pro: {rpm: 600, discount: 0.8, subscription: {price: 10, credit: 12, days: 30}}
providers:
  up:
    base_url: https://llm.example/v1
    api_keys: [{key: "${UP}", rpm: 60}]
    headers: {X-Team: "${HEADER}"}
    http_proxy: ${PROXY}
    overrides: {set: {temperature: 0.5}, remove: [seed]}
models:
  fast:
    routes: [{provider: up, model: fast-1, weight: 3}]
    price: {input: 2, output: 8, currency: CNY, per: 1M, tiers: [{above_input_tokens: 1000, input: 4}]}
"""


def test_no_secret_is_in_it_and_all_else_is() -> None:
    shown = config_object(configuration(TEXT, **SECRETS))
    text = msgspec.json.encode(shown).decode()
    for secret in SECRETS.values():
        assert secret not in text
    assert "canary-password" not in text
    assert "source" not in shown
    assert shown["admin_key"] == "…dmin"
    assert shown["billing"]["exchange_rates"] == {"CNY": "0.14"}
    assert shown["billing"]["credit_limit"] == "1.500000000"
    assert shown["plans"]["pro"]["discount"] == "0.8"
    assert shown["plans"]["pro"]["limits"]["rpm"] == 600
    assert shown["plans"]["pro"]["subscription"] == {
        "price": "10.000000000",
        "credit": "12.000000000",
        "days": 30,
    }
    provider = shown["providers"]["up"]
    assert provider["keys"] == [{"key": "…ream", "rpm": 60, "concurrency": None}]
    assert provider["headers"] == {"X-Team": "…ader"}
    assert provider["overrides"] == {"set": {"temperature": 0.5}, "default": {}, "remove": ["seed"]}
    assert shown["models"]["fast"]["deployments"][0]["weight"] == 3
    assert shown["models"]["fast"]["price"]["tiers"][0]["input"] == "4"
    assert shown["path"].endswith("config.yaml")


def test_prices_are_decimal_text_in_their_own_currency() -> None:
    price = configuration(TEXT, **SECRETS).models["fast"].price
    shown = price_object(price)
    assert shown is not None
    assert shown["tiers"] == [
        {
            "above_input_tokens": 1000,
            "currency": "CNY",
            "per": "1M",
            "input": "4",
            "output": "8",
            "cached_input": "2",
            "cache_write": "2",
            "reasoning": "8",
            "per_request": "0",
        }
    ]
    assert (shown["input"], shown["output"], shown["currency"]) == ("2", "8", "CNY")
    assert price_object(None) is None
