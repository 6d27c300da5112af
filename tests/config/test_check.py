"""What `check` finds in valid configurations."""

import json
from textwrap import dedent

from proxy.config.check import Finding, ProviderState, RouteState, findings
from tests.config.test_facts import imported
from tests.support.configuration import configuration

ALI = "https://dashscope.aliyuncs.com/compatible-mode/v1"
DEEPSEEK = "https://api.deepseek.com"


def found(text: str, *kinds: str, **environ: str) -> list[Finding]:
    """Return the findings of these kinds."""
    return [one for one in findings(configuration(text, **environ)).findings if one.kind in kinds]


def test_a_faultless_file_has_no_findings() -> None:
    text = """
        providers: {demo: {preset: echo}, deepseek: {api_key: ${KEY}, headers: {HTTP-Referer: us}}}
        models: {a: {routes: [demo/a]}, b: {alias: a}}
        admin_key: ${KEY:-}
    """
    assert findings(configuration(text, KEY="sk-1")).findings == ()


def test_providers_are_listed_with_why_they_are_inactive() -> None:
    text = """
        providers:
          {demo: {preset: echo}, deepseek: {}, ali: {api_keys: [${A:-}, ${B:-}]}, kimi: {api_key: k}}
    """
    assert findings(configuration(text)).providers == (
        ProviderState("demo", "echo", "echo", None, 0, True, None),
        ProviderState("deepseek", "deepseek", "openai", DEEPSEEK, 0, False, "DEEPSEEK_API_KEY is empty"),
        ProviderState("ali", "ali", "openai", ALI, 0, False, "A and B are empty"),
        ProviderState("kimi", "moonshot", "openai", "https://api.moonshot.cn/v1", 1, True, None),
    )


def test_routes_are_listed() -> None:
    text = """
        providers: {demo: {preset: echo}, openai: {}, own: {base_url: "http://own/v1"}}
        models:
          a: {routes: [demo/a, {provider: openai, model: b, priority: 2, weight: 3}]}
          "gpt-*": {routes: ["openai/*"]}
          c: {routes: [{provider: own, price: {input: 1, output: 1, per: 1M}}, own/d]}
    """
    assert findings(configuration(text)).routes == (
        RouteState("a", "demo", "a", 1, 1, active=True, priced=True),
        RouteState("a", "openai", "b", 2, 3, active=False, priced=False),
        RouteState("gpt-*", "openai", "*", 1, 1, active=False, priced=None),
        RouteState("c", "own", "c", 1, 1, active=True, priced=True),
        RouteState("c", "own", "d", 1, 1, active=True, priced=False),
    )


def test_unpriced_routes_are_those_that_neither_the_file_nor_a_list_prices() -> None:
    text = """
        providers: {openai: {api_key: ${K}}}
        models:
          a:
            routes:
              - openai/gpt-4o
              - openai/unknown
              - openai/imported
    """
    row = {"id": "imported", "price": {"input": "1", "output": "2"}}
    assert findings(configuration(text, K="k"), imported("openai", "", row)).findings == (
        Finding("unpriced", 7, "models.a.routes[1]", "openai/unknown has no price: it counts as free"),
    )


def test_a_price_list_without_exchange_rate_is_pointed_out() -> None:
    text = """\
        providers:
          ali: {api_key: ${K}}
          volc: {}
        models: {a: {routes: [ali/qwen-max]}}
    """
    assert [(one.line, one.path, one.message) for one in found(text, "unpriced", K="k")] == [
        (
            2,
            "providers.ali",
            "its price list is in CNY, and counts only with billing.exchange_rates: {CNY: …}, "
            "what 1 CNY is worth in USD",
        ),
        (4, "models.a.routes[0]", "ali/qwen-max has a price in CNY, without a rate: it counts as free"),
    ]
    assert found(f"{dedent(text)}billing: {{exchange_rates: {{CNY: 0.14}}}}", "unpriced", K="k") == []


def test_unpriced_routes_say_what_happens_to_requests() -> None:
    text = "billing: {mode: prepaid}\nproviders: {openai: {}}\nmodels: {a: {routes: [openai/a]}}"
    assert [one.message for one in found(text, "unpriced")] == ["openai/a has no price: requests are refused"]


def test_output_that_costs_nothing_is_pointed_out() -> None:
    text = """
        providers: {openai: {}}
        models:
          chat: {routes: [openai/a], price: {input: 1, per: 1M}}
          embed: {routes: [openai/b], price: {input: 1, per: 1M}, category: embedding}
          image: {routes: [openai/c], price: {per_request: 1, per: 1M}}
    """
    assert [one.path for one in found(text, "free_output")] == ["models.chat.price"]


def test_secrets_in_clear_are_pointed_out() -> None:
    text = """\
        admin_key: clear
        api_key: ${KEY:-default}
        providers:
          ali:
            api_keys: [clear, {key: clear}, "${KEY}", "pre-${KEY:-x}"]
            headers: {X-Token: clear, X-Title: harmless, Authorization: "Bearer ${KEY:-}"}
            http_proxy: http://me:pass@proxy:1
    """
    expected = [
        (1, "admin_key"),
        (5, "providers.ali.api_keys[0]"),
        (5, "providers.ali.api_keys[1].key"),
        (6, "providers.ali.headers.X-Token"),
        (7, "providers.ali.http_proxy"),
    ]
    assert [(one.line, one.path) for one in found(text, "key_in_clear", KEY="k")] == expected
    with_default = found("api_key: ${KEY:-default}", "key_in_clear")
    assert [one.path for one in with_default] == ["api_key"]


def test_models_that_are_never_answered_are_pointed_out() -> None:
    text = """\
        providers: {demo: {preset: echo}, deepseek: {}, ali: {}}
        models:
          a: {routes: [deepseek/x, ali/x, deepseek/y]}
          b: {alias: a}
          c: {alias: ali/x}
          d: {routes: [ali/x, demo/x]}
          "demo/*": {routes: ["demo/*"]}
          demo/exact: {routes: [demo/x]}
          "other/*": {routes: ["demo/*"]}
    """
    both = "deepseek is inactive (DEEPSEEK_API_KEY is empty), ali is inactive (DASHSCOPE_API_KEY is empty)"
    assert [(one.line, one.path, one.message) for one in found(text, "unreachable")] == [
        (3, "models.a", f"never answered: {both}"),
        (4, "models.b", f"never answered: {both}"),
        (5, "models.c", "never answered: ali is inactive (DASHSCOPE_API_KEY is empty)"),
        (7, "models.demo/*", "never reached: demo/… is the provider itself, which comes before wildcards"),
    ]


def test_routes_outside_of_a_providers_allow_list_are_never_answered() -> None:
    text = """\
        providers: {demo: {preset: echo, models: ["gpt-*"]}}
        models:
          a: {routes: [demo/x]}
          b: {routes: [demo/gpt-1, demo/y]}
          "c*": {routes: ["demo/*"]}
          "demo/*": {routes: [demo/gpt-1]}
    """
    assert [(one.path, one.message) for one in found(text, "unreachable")] == [
        ("models.a", "never answered: the models of demo do not include x")
    ]
    routes = findings(configuration(text)).routes
    assert [route.active for route in routes] == [False, True, False, True, True]


def test_fallbacks_that_lead_nowhere_are_pointed_out() -> None:
    text = """\
        providers: {demo: {preset: echo}}
        fallbacks:
          demo/a: [demo/b, gone]
        context_fallbacks:
          lost: [demo/a]
    """
    assert [(one.line, one.path, one.message) for one in found(text, "unreachable")] == [
        (3, "fallbacks.demo/a[1]", 'there is no model "gone"'),
        (5, "context_fallbacks.lost", 'there is no model "lost"'),
    ]


def test_plain_http_to_public_hosts_is_pointed_out_once_for_each_provider() -> None:
    text = """\
        providers:
          near: {base_url: "http://10.0.0.1/v1"}
          safe: {base_url: "https://llm.example.com/v1"}
          bare: {preset: vllm, base_url: "http://llm.example.com/v1"}
    """
    assert [(one.line, one.path) for one in found(text, "plain_http")] == [(4, "providers.bare.base_url")]


def test_accounts_without_funds_are_told_where_funds_matter() -> None:
    text = "providers: {demo: {preset: echo}}\nbilling:\n  mode: %s\n"
    told = findings(configuration(text % "prepaid"), without_funds=["default", "team"]).findings
    assert [(one.kind, one.line, one.path) for one in told] == [("no_funds", 3, "billing.mode")] * 2
    assert ["default" in told[0].message, "team" in told[1].message] == [True, True]
    assert findings(configuration(text % "track"), without_funds=["default"]).findings == ()


def test_findings_become_json() -> None:
    text = "providers: {deepseek: {}}\nmodels: {a: {routes: [deepseek/a]}}\napi_key: clear"
    report = json.loads(json.dumps(findings(configuration(text)).as_json()))
    assert report["providers"][0]["reason"] == "DEEPSEEK_API_KEY is empty"
    assert report["routes"][0]["upstream_model"] == "a"
    assert {"kind": "unreachable", "line": 2, "path": "models.a"}.items() <= report["findings"][1].items()
