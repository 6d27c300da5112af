"""From file to configuration: what each wrong file is told, and what a right one becomes."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.load import MAX_BYTES, load, parse
from proxy.config.problems import ConfigError
from proxy.config.schema import (
    Billing,
    LimitDefaults,
    Log,
    Metrics,
    Plan,
    ProviderKey,
    Server,
    SubscriptionOffer,
    Timeouts,
    ratio,
)
from proxy.config.template import starting_configuration
from proxy.core.entities import Limits
from proxy.core.pricing import Price, Tier
from proxy.core.rewrite import Overrides
from proxy.core.routing import Deployment, Model
from proxy.core.secret import Secret
from tests.support.configuration import configuration, problems

WHOLE = """
    server: {host: 0.0.0.0, port: ${PORT:-8484}, trusted_proxies: [10.0.0.0/8, "::1"], shutdown_grace_s: 0}
    database: data/sluice.db     # ${NOT_SET} is only a comment
    admin_key: ${SLUICE_ADMIN_KEY:-}
    api_key: ${SLUICE_API_KEY:-}
    console: false
    log: {level: warning, format: json}
    metrics: {public: true}
    billing:
      {currency: CNY, exchange_rates: {USD: 7.1}, mode: prepaid, signup_tokens: 1000, credit_limit: 0.5}
    limits: {timezone: Asia/Shanghai, default_plan: free}
    plans:
      free: {rpm: 60, max_context: 5000, models: ["deepseek-*"], providers: [deepseek]}
      pro: {rpm: 600, discount: 0.8, subscription: {price: 10, credit: 12.25, days: 30}}
    providers:
      deepseek: {api_key: ${DEEPSEEK_API_KEY}}
      ali:
        api_keys: [${ALI_1}, {key: ${ALI_2}, rpm: 60, concurrency: 4}]
      custom:
        base_url: https://llm.example.com/v1/
        headers: {X-Team: ${TEAM}}
        models: ["gpt-*"]
        timeouts: {first_byte_s: 2.5}
        overrides: {set: {store: false}, default: {n: 1, stop: [a, null]}, remove: [user]}
        repair: [think_tags]
        on_disconnect: drain
    models:
      deepseek-v4-pro:
        routes: [deepseek/deepseek-v4-pro, {provider: ali, model: ep-123, priority: 2, weight: 3}]
        category: general
        context_window: 128000
        max_output: 8192
        price:
          {input: 2, output: 8, cached_input: 0.2, currency: USD, per: 1M,
           tiers: [{above_input_tokens: 32000, input: 4}]}
      "gpt-*": {routes: ["custom/*"]}
      claude-sonnet-4-5: {alias: deepseek-v4-pro}
    fallbacks: {deepseek-v4-pro: [gpt-5, ali/qwen3-max]}
    context_fallbacks: {"gpt-*": [deepseek-v4-pro]}
"""
VARIABLES = {"DEEPSEEK_API_KEY": "sk-deep", "ALI_1": "sk-1", "ALI_2": "sk-2", "TEAM": "research"}


def test_every_part_of_a_file_arrives() -> None:
    config = configuration(WHOLE, **VARIABLES)
    assert config.server == Server(
        host="0.0.0.0", trusted_proxies=("10.0.0.0/8", "::1/128"), shutdown_grace_s=0
    )
    assert config.database == Path("/etc/sluice/data/sluice.db")
    assert (config.admin_key, config.api_key, config.console) == (None, None, False)
    assert config.log == Log("warning", "json")
    assert config.metrics == Metrics(public=True)
    assert config.billing == Billing(
        "CNY", {"USD": ratio(Decimal("7.1"))}, "prepaid", "reject", 1000, 500_000_000
    )
    assert config.limits == LimitDefaults("Asia/Shanghai", "free")
    assert config.plans == {
        "free": Plan("free", Limits(rpm=60, max_context=5000), ("deepseek-*",), ("deepseek",)),
        "pro": Plan(
            "pro",
            Limits(rpm=600),
            discount=ratio(Decimal("0.8")),
            subscription=SubscriptionOffer(10_000_000_000, 12_250_000_000, 30),
        ),
    }
    assert config.fallbacks == {"deepseek-v4-pro": ("gpt-5", "ali/qwen3-max")}
    assert config.context_fallbacks == {"gpt-*": ("deepseek-v4-pro",)}


def test_every_part_of_a_provider_arrives() -> None:
    providers = configuration(WHOLE, **VARIABLES).providers
    assert providers["deepseek"].keys == (ProviderKey(Secret("sk-deep")),)
    assert providers["ali"].keys == (ProviderKey(Secret("sk-1")), ProviderKey(Secret("sk-2"), 60, 4))
    custom = providers["custom"]
    assert (custom.preset, custom.base_url, custom.auth) == (None, "https://llm.example.com/v1", "none")
    assert custom.headers == {"X-Team": Secret("research")}
    assert (custom.models, custom.repair, custom.on_disconnect) == (("gpt-*",), ("think_tags",), "drain")
    assert custom.timeouts == Timeouts(first_byte_s=2.5)
    assert custom.overrides == Overrides({"store": False}, {"n": 1, "stop": ["a", None]}, ("user",))


def test_every_part_of_a_model_arrives() -> None:
    models = configuration(WHOLE, **VARIABLES).models
    tier = Price("USD", 4_000_000_000, 8_000_000_000, 200_000_000, 2_000_000_000, 8_000_000_000)
    price = Price(
        "USD",
        2_000_000_000,
        8_000_000_000,
        200_000_000,
        2_000_000_000,
        8_000_000_000,
        tiers=(Tier(32_000, tier),),
    )
    routes = (Deployment("deepseek", "deepseek-v4-pro"), Deployment("ali", "ep-123", 2, 3))
    assert models == {
        "deepseek-v4-pro": Model("deepseek-v4-pro", routes, None, "general", 128_000, 8192, price),
        "gpt-*": Model("gpt-*", (Deployment("custom", "*"),)),
        "claude-sonnet-4-5": Model("claude-sonnet-4-5", alias="deepseek-v4-pro"),
    }


def test_what_is_left_out_has_its_default() -> None:
    config = configuration("providers:\nmodels:\nplans: {free: }\nserver: {cors_origins: }\nlog:\n")
    assert config.server == Server()
    assert config.database == Path("/etc/sluice/sluice.db")
    assert (config.log, config.metrics) == (Log(), Metrics())
    assert (config.billing, config.limits) == (Billing(), LimitDefaults())
    assert config.plans == {"free": Plan("free")}
    assert (config.providers, config.models, config.fallbacks) == ({}, {}, {})


def test_host_and_port_of_the_command_line_take_the_place_of_the_file() -> None:
    data = b"server: {host: 127.0.0.1, port: 1, max_body_mib: 3}\nadmin_key: short\n"
    path = Path("/c.yaml")
    assert parse(data, path, {}, port=2).server == Server(port=2, max_body_mib=3)
    with pytest.raises(ConfigError, match=r"server\.host 0\.0\.0\.0 can be reached from elsewhere"):
        parse(data, path, {}, host="0.0.0.0")


def test_lines_of_values_are_known() -> None:
    config = configuration(
        "# one\nadmin_key: ${X:-}\nserver:\n  port: 1\nproviders: {demo: {preset: echo}}\n"
    )
    assert config.line("admin_key") == 2
    assert config.line("server") == 3
    assert config.line("server", "port") == 4
    assert config.line("server", "host") is None


def wrong_files() -> list[pytest.ParameterSet]:
    """Return the cases of wrong_files.txt: a file's text, and the one line that is printed for it."""
    corpus = Path(__file__).with_name("wrong_files.txt").read_text(encoding="utf-8")
    cases = []
    for case in re.split(r"^== ", corpus, flags=re.MULTILINE)[1:]:
        name, rest = case.split("\n", 1)
        text, message = rest.split("-> ", 1)
        cases.append(pytest.param(text, message.splitlines()[0], id=name))
    return cases


@pytest.mark.parametrize(("text", "expected"), wrong_files())
def test_a_wrong_file_is_told_what_is_wrong(text: str, expected: str) -> None:
    assert problems(text, EMPTY="", SECRET="hush") == [expected]


def test_independent_problems_are_all_told_in_the_order_of_the_file() -> None:
    text = """\
        server: {prot: 1, port: x}
        plans:
          free: {rpm: -1, tpm: 5, rpd: none}
        log: {level: ${GONE}}
    """
    assert [line.split(": ", 2)[:2] for line in problems(text)] == [
        ["config.yaml:1", "server.port"],
        ["config.yaml:1", "server.prot"],
        ["config.yaml:3", "plans.free.rpd"],
        ["config.yaml:3", "plans.free.rpm"],
        ["config.yaml:4", "log.level"],
    ]


def test_a_flood_of_problems_is_cut() -> None:
    lines = problems("\n".join(f"key{index}: 1" for index in range(70)))
    assert len(lines) == 51
    assert lines[-1] == "config.yaml: and 20 more problems"


def test_a_cycle_of_aliases_is_told_at_each_of_its_members_alone() -> None:
    assert problems("models: \n a: {alias: b}\n b: {alias: c}\n c: {alias: b}\n 'x*': {alias: xy}\n") == [
        "config.yaml:3: models.b.alias: the alias leads back to itself: b → c → b",
        "config.yaml:4: models.c.alias: the alias leads back to itself: c → b → c",
        "config.yaml:5: models.x*.alias: the alias leads back to itself: x* → x*",
    ]


def test_neither_secrets_nor_values_of_variables_are_repeated() -> None:
    text = """\
        admin_key: two words-hush
        server: {port: ${HUSH}, host: ${HUSH}, cors_origins: ["${HUSH}"]}
        log: {level: ${HUSH}}
        console: x${HUSH}
        providers:
          a:
            {preset: ${HUSH}, base_url: ${HUSH}, http_proxy: ${HUSH},
             api_key: ${HUSH}, headers: {A: "${HUSH}"}}
    """
    lines = problems(text, HUSH="hush\n")
    assert len(lines) == 11
    assert "hush" not in "\n".join(lines)


def test_a_file_that_is_not_utf8_is_told_its_line() -> None:
    with pytest.raises(ConfigError) as raised:
        parse(b"console: true\n# caf\xe9\n", Path("/config.yaml"), {})
    assert str(raised.value) == "config.yaml:2: not UTF-8 text"


def test_a_byte_order_mark_is_no_part_of_the_file() -> None:
    assert configuration("\ufeffconsole: false\n").console is False


def test_a_file_of_more_than_a_mebibyte_is_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        parse(b"#" * (MAX_BYTES + 1), Path("/config.yaml"), {})
    assert str(raised.value) == "config.yaml: larger than 1 MiB"


@pytest.mark.parametrize(("name", "command"), [("config.yaml", "init"), ("my.yaml", "init {path}")])
def test_without_a_file_the_way_to_one_is_told(tmp_path: Path, name: str, command: str) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    assert str(raised.value) == (
        f"{name}: there is no such file; to write one, run `python -m proxy {command.format(path=path)}`"
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


def test_a_file_is_read_and_its_folder_is_where_relative_paths_begin(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("database: a.db\n")
    config = load(path, {})
    assert (config.path, config.database) == (path, tmp_path / "a.db")


def test_top_level_keys_that_begin_with_x_are_a_place_for_anchors() -> None:
    text = """\
        x-patient: &patient {connect_s: 30, total_s: 3600, unknown: ${GONE}}
        x-usual: &usual {connect_s: 30, total_s: 3600}
        providers: {ollama: {timeouts: {<<: *usual, total_s: 60}}}
    """
    assert configuration(text).providers["ollama"].timeouts == Timeouts(connect_s=30, total_s=60)


def test_overrides_keep_the_types_of_yaml() -> None:
    text = "{a: null, b: TRUE, c: -5, d: 0.5, e: 1e3, f: yes, g: '1', h: {i: [2]}}"
    config = configuration(f"providers: {{ollama: {{overrides: {{set: {text}}}}}}}")
    found = config.providers["ollama"].overrides.set
    expected = {"a": None, "b": True, "c": -5, "d": 0.5, "e": 1000.0, "f": "yes", "g": "1", "h": {"i": [2]}}
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


def test_a_file_full_of_contradictions_is_told_some_of_them() -> None:
    text = "models: {" + ", ".join(f"m{index}: {{alias: gone}}" for index in range(80)) + "}"
    assert len(problems(text)) == 51


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    example = starting_configuration().decode()
    start = data.draw(st.integers(0, len(example)))
    length = data.draw(st.integers(0, 300))
    inserted = data.draw(st.text("{}[]:-#&*!|>'\"%@`, \n\t$~<1.\0é", max_size=8))
    damaged = example[:start] + inserted + example[start + length :]
    try:
        parse(damaged.encode(), Path("/config.yaml"), {})
    except ConfigError as error:
        text = str(error)
    else:
        return
    assert all(line.startswith("config.yaml") for line in text.splitlines())
