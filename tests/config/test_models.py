"""Models and their routes, completed."""

from proxy.config.rules import resolve
from proxy.core.pricing import NANOS
from proxy.core.rewrite import Overrides
from proxy.core.routing import Deployment
from tests.support.configuration import configuration

PROVIDERS = "providers: {demo: {preset: echo}}\n"


def test_a_route_without_a_model_asks_for_the_entrys_own_name() -> None:
    models = configuration(PROVIDERS + "models: {'gpt-*': {routes: [{provider: demo}]}}").models
    assert models["gpt-*"].deployments[0].model == "gpt-*"


def test_the_part_after_the_first_slash_is_the_upstream_name() -> None:
    models = configuration(PROVIDERS + "models: {a: {routes: [demo/deepseek-ai/V4]}}").models
    assert models["a"].deployments[0].model == "deepseek-ai/V4"


def test_a_price_is_in_the_billing_currency_unless_it_says_otherwise() -> None:
    text = """
        billing: {currency: CNY, exchange_rates: {USD: 7}}
        providers: {demo: {preset: echo}}
        models:
          a: {routes: [demo/a], price: {input: 1, per: 1M}}
          b: {routes: [{provider: demo, price: {input: 1, per: 1M, currency: USD}}]}
    """
    models = configuration(text).models
    assert models["a"].price is not None
    assert (models["a"].price.currency, models["a"].price.input) == ("CNY", NANOS)
    assert models["b"].deployments[0].price is not None
    assert models["b"].deployments[0].price.currency == "USD"


def test_a_route_may_change_bodies() -> None:
    text = """
        providers: {demo: {preset: echo}}
        models:
          a:
            routes:
              - demo/a
              - provider: demo
                model: b
                overrides: {set: {thinking: {type: [disabled, 1]}}, remove: [seed]}
    """
    plain, changed = configuration(text).models["a"].deployments
    assert plain.overrides is None
    assert changed.overrides == Overrides({"thinking": {"type": ["disabled", 1]}}, {}, ("seed",))
    assert isinstance(hash(changed), int)


def test_aliases_may_lead_to_aliases_wildcards_and_provider_names() -> None:
    text = "models: {a: {alias: b}, b: {alias: gpt-5}, 'gpt-*': {routes: [demo/x]}, c: {alias: demo/y}}"
    models = configuration(PROVIDERS + text).models
    assert [models[name].alias for name in "abc"] == ["b", "gpt-5", "demo/y"]


def test_a_route_to_a_preset_brings_the_provider_with_it() -> None:
    text = "providers: {ali: {region: us}}\nmodels: {a: {routes: [kimi/a, ali/b, {provider: openai}]}}"
    providers = configuration(text, OPENAI_API_KEY="sk-1").providers
    assert list(providers) == ["ali", "kimi", "openai"]
    assert (providers["kimi"].preset, providers["kimi"].active) == ("moonshot", False)
    assert (providers["ali"].region, providers["openai"].active) == ("us", True)


def test_names_lead_to_entries_then_providers_then_the_longest_wildcard() -> None:
    text = """
        providers: {demo: {preset: echo, models: ["gpt-*"]}}
        models:
          demo/gpt-1: {alias: gpt-2}
          "gpt-*": {routes: [demo/gpt-0]}
          "*": {routes: [demo/gpt-0]}
          "demo/*": {routes: [demo/gpt-0]}
    """
    config = configuration(text)
    names = ("demo/gpt-1", "demo/gpt-2", "demo/other", "gpt-4", "x")
    found = [resolve(name, config) for name in names]
    assert found == [
        config.models["demo/gpt-1"],
        Deployment("demo", "gpt-2"),
        config.models["demo/*"],
        config.models["gpt-*"],
        config.models["*"],
    ]
    assert resolve("other", configuration(PROVIDERS)) is None
