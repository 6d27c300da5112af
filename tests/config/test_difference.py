"""What is told of two configurations."""

import pytest

from proxy.config.difference import differences
from tests.support.configuration import configuration

BEFORE = """
admin_key: sk-admin-canary-before-0123456789
billing: {exchange_rates: {CNY: 0.14}, credit_limit: 1}
plans:
  free: {rpm: 60, models: [a, b]}
  pro: {discount: 0.8, subscription: {price: 10, credit: 12, days: 30}}
providers:
  demo: {preset: echo}
  up:
    base_url: http://up.example/v1
    api_keys: [sk-canary-1-0123456789, sk-canary-2-0123456789]
    headers: {X-Team: canary-team-before, X-Old: canary-old}
    http_proxy: http://user:canary-password@127.0.0.1:1
  switched: {base_url: http://s.example/v1, api_key: "${KEY:-}"}
models:
  fast:
    routes: [up/m, demo/x]
    category: fast
    price: {input: 2, output: 8, per: 1M}
  old: {routes: [up/o]}
  smart: {alias: fast}
fallbacks: {fast: [old]}
"""


def told(before: str, after: str, **environ: str) -> list[str]:
    found = differences(configuration(before), configuration(after, **environ))
    texts = [str(difference) for difference in found]
    assert "canary" not in "".join(texts)
    assert all(text.isprintable() for text in texts)
    return texts


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("discount: 0.8", "discount: 0.75", ["plans.pro.discount changed: 0.8 → 0.75"]),
        ("rpm: 60", "rpm: 90", ["plans.free.rpm changed: 60 → 90"]),
        ("rpm: 60, ", "", ["plans.free.rpm changed: 60 → none"]),
        ("[a, b]", "[b, c]", ["plans.free.models changed: +c, -a"]),
        ("[a, b]", "[b, a]", ["plans.free.models changed: another order"]),
        ("[a, b]", "null", ["plans.free.models changed: [a, b] → none"]),
        (
            "price: 10, credit: 12",
            "price: 9.5, credit: 12",
            ["plans.pro.subscription.price changed: 10.000000000 → 9.500000000"],
        ),
        (", subscription: {price: 10, credit: 12, days: 30}", "", ["plans.pro.subscription removed"]),
        ("  pro: {", "  more: {rpm: 1}\n  pro: {", ["plans.more added"]),
        ("credit_limit: 1", "credit_limit: 2", ["billing.credit_limit changed: 1.000000000 → 2.000000000"]),
        ("{CNY: 0.14}", "{CNY: 0.15}", ["billing.exchange_rates.CNY changed: 0.14 → 0.15"]),
        ("{CNY: 0.14}", "{CNY: 0.14, EUR: 2}", ["billing.exchange_rates.EUR added: 2"]),
        ("before-0123456789", "after-0123456789", ["admin_key changed"]),
        ("admin_key: sk-admin-canary-before-0123456789", "", ["admin_key removed"]),
        ("sk-canary-1", "sk-canary-3", ["providers.up.api_keys changed"]),
        ("sk-canary-1-0123456789, ", "", ["providers.up.api_keys changed: 2 → 1 keys"]),
        ("team-before", "team-after", ["providers.up.headers.X-Team changed"]),
        ("X-Old", "X-New", ["providers.up.headers.X-Old removed", "providers.up.headers.X-New added"]),
        ("canary-password", "canary-another", ["providers.up.http_proxy changed"]),
        (
            "up.example",
            "down.example",
            ["providers.up.base_url changed: http://up.example/v1 → http://down.example/v1"],
        ),
        ("output: 8", "output: 9", ["models.fast.price changed: output 8 → 9, reasoning 8 → 9 (USD per 1M)"]),
        (
            "price: {input: 2, output: 8, per: 1M}",
            "",
            [
                "models.fast.price removed: input 2, output 8, cached_input 2, cache_write 2, reasoning 8, "
                "per_request 0 USD per 1M"
            ],
        ),
        (
            "per: 1M",
            "per: 1M, tiers: [{above_input_tokens: 9, input: 3}]",
            ["models.fast.price changed: tiers (USD per 1M)"],
        ),
        ("category: fast", "category: vision", ["models.fast.category changed: fast → vision"]),
        ("  old: {routes: [up/o]}\n", "", ["models.old removed: up/o"]),
        ("  old:", "  new: {alias: fast}\n  old:", ["models.new added: alias of fast"]),
        ("{alias: fast}", "{alias: old}", ["models.smart.alias changed: fast → old"]),
        ("[up/m, demo/x]", "[up/m]", ["models.fast.routes.demo/x removed"]),
        ("[up/m, demo/x]", "[demo/x, up/m]", ["models.fast.routes changed: another order"]),
        (
            "[up/m, demo/x]",
            "[{provider: up, model: m, weight: 3, overrides: {set: {a: canary}}}, demo/x]",
            ["models.fast.routes.up/m.weight changed: 1 → 3", "models.fast.routes.up/m.overrides added"],
        ),
        ("fallbacks: {fast: [old]}", "fallbacks: {}", ["fallbacks.fast removed: old"]),
        (
            "fallbacks",
            "server: {max_body_mib: 64, cors_origins: [http://a.example]}\nlog: {level: debug}\nfallbacks",
            [
                "server.max_body_mib changed: 32 → 64",
                "server.cors_origins changed: +http://a.example",
                "log.level changed: info → debug",
            ],
        ),
        ("fallbacks", "console: false\nfallbacks", ["console changed: true → false"]),
        (
            "  switched:",
            "  other: {base_url: http://o.example, timeouts: {idle_s: 3}}\n  switched:",
            ["providers.other added"],
        ),
        (
            "preset: echo}",
            "preset: echo, timeouts: {idle_s: 2.5}, overrides: {set: {a: canary}}}",
            [
                "providers.demo.timeouts.idle_s changed: 120 → 2.5",
                "providers.demo.overrides changed",
            ],
        ),
    ],
)
def test_each_change_is_told_by_its_path(old: str, new: str, expected: list[str]) -> None:
    assert old in BEFORE
    assert told(BEFORE, BEFORE.replace(old, new)) == expected


def test_the_same_is_no_difference() -> None:
    assert told(BEFORE, BEFORE + "\n# a comment\n") == []


def test_a_provider_that_gets_its_key_is_active() -> None:
    assert told(BEFORE, BEFORE, KEY="sk-canary-0123456789") == [
        "providers.switched changed: is active now",
        "providers.switched.api_keys changed: 0 → 1 keys",
    ]


def test_a_provider_that_loses_it_is_not() -> None:
    before, after = configuration(BEFORE, KEY="sk-canary-0123456789"), configuration(BEFORE)
    assert str(differences(before, after)[0]) == "providers.switched changed: is inactive: KEY empty"


def test_long_lists_are_counted() -> None:
    text = f"providers: {{demo: {{preset: echo, models: [{', '.join(f'm{n}' for n in range(40))}]}}}}"
    (found,) = told("providers: {demo: {preset: echo, models: []}}", text)
    assert found.endswith("+m8, +m9, +… 30 more")
