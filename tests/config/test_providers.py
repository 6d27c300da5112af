"""What a provider is completed to."""

from pathlib import Path

import pytest

from proxy.config.presets import PRESETS
from proxy.config.schema import Provider, ProviderKey
from proxy.core.secret import Secret
from tests.support.configuration import configuration, problems


def provider(text: str, **environ: str) -> Provider:
    """Return the one provider of a `providers` section."""
    [only] = configuration(f"providers: {{{text}}}", **environ).providers.values()
    return only


def bases(found: Provider) -> tuple[str | None, str | None, str | None]:
    return found.base_url, found.messages_base_url, found.responses_base_url


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_and_alias_is_a_provider_by_its_name_alone(name: str) -> None:
    found = provider(f"{name}: {{{'resource: r' if name == 'azure' else ''}}}")
    assert found.preset == PRESETS[name].name
    assert found.active is found.free
    assert found.missing_variables == (() if found.free else PRESETS[name].variables[:1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "deepseek: {}",
            ("https://api.deepseek.com", "https://api.deepseek.com/anthropic", "https://api.deepseek.com"),
        ),
        (
            "kimi: {region: intl}",
            (
                "https://api.moonshot.ai/v1",
                "https://api.moonshot.ai/anthropic",
                "https://api.moonshot.ai/v1",
            ),
        ),
        (
            "zhipu: {}",
            (
                "https://open.bigmodel.cn/api/paas/v4",
                "https://open.bigmodel.cn/api/anthropic",
                "https://open.bigmodel.cn/api/v1",
            ),
        ),
        (
            "azure: {resource: mine}",
            ("https://mine.openai.azure.com/openai/v1", None, "https://mine.openai.azure.com/openai/v1"),
        ),
        ("c: {preset: claude}", ("https://api.anthropic.com", "https://api.anthropic.com", None)),
        ("ollama: {}", ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434", "http://127.0.0.1:11434/v1")),
        # Local servers are the same everywhere, and their base may be written short.
        (
            "o: {preset: ollama, base_url: 'http://gpu:1/v1/'}",
            ("http://gpu:1/v1", "http://gpu:1", "http://gpu:1/v1"),
        ),
        (
            "o: {preset: ollama, base_url: 'http://gpu:1'}",
            ("http://gpu:1/v1", "http://gpu:1", "http://gpu:1/v1"),
        ),
        ("o: {preset: ollama, base_url: 'http://gpu:1/x/v1'}", ("http://gpu:1/x/v1", None, None)),
        # The preset's own host, written out.
        (
            "deepseek: {base_url: 'https://api.deepseek.com/v1'}",
            ("https://api.deepseek.com/v1", "https://api.deepseek.com/anthropic", "https://api.deepseek.com"),
        ),
        # Another host, or another path there, may not speak the other protocols.
        ("deepseek: {base_url: 'https://mirror.example.com'}", ("https://mirror.example.com", None, None)),
        (
            "volc: {base_url: 'https://ark.cn-beijing.volces.com/api/coding/v3'}",
            ("https://ark.cn-beijing.volces.com/api/coding/v3", None, None),
        ),
        (
            "own: {base_url: 'http://a/v1', messages_base_url: 'http://b', responses_base_url: 'http://c/v1'}",
            ("http://a/v1", "http://b", "http://c/v1"),
        ),
        ("own: {protocol: anthropic, base_url: 'http://a'}", ("http://a", "http://a", None)),
        (
            "deepseek: {protocol: anthropic}",
            (
                "https://api.deepseek.com/anthropic",
                "https://api.deepseek.com/anthropic",
                "https://api.deepseek.com",
            ),
        ),
        (
            "claude: {base_url: 'https://mirror.example.com'}",
            ("https://mirror.example.com", "https://mirror.example.com", None),
        ),
        ("demo: {preset: echo}", (None, None, None)),
        ("demo: {protocol: echo}", (None, None, None)),
    ],
)
def test_base_urls(text: str, expected: tuple[str | None, str | None, str | None]) -> None:
    assert bases(provider(text)) == expected


@pytest.mark.parametrize(
    ("text", "region", "others"),
    [
        ("ali: {}", "cn", ("intl", "us")),
        ("ali: {region: us}", "us", ("cn", "intl")),
        ("zai: {}", "intl", ("cn",)),
        ("ali: {base_url: 'https://dashscope-intl.aliyuncs.com/compatible-mode/v1'}", "intl", ("cn", "us")),
        ("ali: {base_url: 'https://ws.cn-beijing.maas.aliyuncs.com/compatible-mode/v1'}", None, ()),
        ("deepseek: {}", None, ()),
    ],
)
def test_regions(text: str, region: str | None, others: tuple[str, ...]) -> None:
    found = provider(text)
    assert (found.region, found.other_regions) == (region, others)


def test_odd_endpoints_are_on_the_host_of_the_region() -> None:
    assert provider("ali: {region: intl}").paths == {
        "rerank": "https://dashscope-intl.aliyuncs.com/compatible-api/v1/reranks"
    }
    assert provider("ali: {base_url: 'https://mirror.example.com/compatible-mode/v1'}").paths == {}


@pytest.mark.parametrize(
    ("text", "auth"),
    [
        ("openai: {api_key: k}", "bearer"),
        ("anthropic: {api_key: k}", "x-api-key"),
        ("azure: {resource: r, api_key: k}", "api-key"),
        ("own: {base_url: 'http://a/v1', api_key: k}", "bearer"),
        ("own: {base_url: 'http://a', protocol: anthropic, api_key: k}", "x-api-key"),
        ("own: {base_url: 'http://a/v1'}", "none"),
        ("ollama: {}", "none"),
        ("ollama: {api_key: k}", "bearer"),
        ("demo: {preset: echo}", "none"),
        ("openai: {}", "bearer"),
    ],
)
def test_how_a_key_travels(text: str, auth: str) -> None:
    assert provider(text).auth == auth


def test_the_usual_variables_are_read_in_their_order_where_no_key_is_given() -> None:
    assert provider("kimi: {}", KIMI_API_KEY="second").keys == (ProviderKey(Secret("second")),)
    found = provider("kimi: {}", MOONSHOT_API_KEY="first", KIMI_API_KEY="second")
    assert found.keys == (ProviderKey(Secret("first")),)
    assert provider("kimi: {api_key: own}", MOONSHOT_API_KEY="first").keys == (ProviderKey(Secret("own")),)
    assert provider("vllm: {}", VLLM_API_KEY="v").auth == "bearer"


def test_a_usual_variable_that_is_no_key_is_refused() -> None:
    assert problems("providers: {deepseek: {}}", DEEPSEEK_API_KEY="sk-1\n") == [
        "config.yaml:1: providers.deepseek: the value of DEEPSEEK_API_KEY holds a space, line break or "
        "character that no key has"
    ]


def test_a_provider_whose_keys_all_come_out_empty_is_inactive() -> None:
    found = provider("ali: {api_keys: [${A:-}, {key: ${B:-}, rpm: 1}]}", A="")
    assert (found.active, found.keys, found.missing_variables) == (False, (), ("A", "B"))
    assert provider("own: {base_url: 'http://a/v1', api_key: ${A:-}}").missing_variables == ("A",)


def test_a_preset_gives_its_oddities_and_the_file_may_change_them() -> None:
    mistral = provider("mistral: {}")
    assert (mistral.stream_usage, mistral.repair) == ("never", ())
    changed = provider("mistral: {stream_usage: auto, repair: []}")
    assert (changed.stream_usage, changed.repair) == ("auto", ())
    assert provider("xai: {}").reasoning_apart
    assert not provider("iflytek: {}").lists_models


def test_a_ca_file_is_found_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    config = configuration("providers: {ollama: {ca_file: ca.pem}}", tmp_path / "config.yaml")
    assert config.providers["ollama"].ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "demo: {preset: echo, base_url: 'http://a'}",
            "demo.base_url: the echo provider answers here, without any address",
        ),
        (
            "ali: {base_url: 'http://a', region: cn}",
            "ali.region: base_url already says where the provider is",
        ),
        (
            "azure: {base_url: 'http://a', resource: r}",
            "azure.resource: base_url already says where the provider is",
        ),
        ("openai: {protocol: anthropic}", "openai.base_url: is required with protocol anthropic"),
        ("claude: {protocol: openai}", "claude.base_url: is required with protocol openai"),
    ],
)
def test_addresses_that_contradict_each_other(text: str, expected: str) -> None:
    assert problems(f"providers: {{{text}}}") == [f"config.yaml:1: providers.{expected}"]


@pytest.mark.parametrize(
    ("server", "url", "own"),
    [
        ("{}", "http://127.0.0.1:8484/v1", True),
        ("{}", "http://LOCALHOST:8484", True),
        ("{}", "http://[::1]:8484", True),
        ("{}", "http://127.0.0.1:8485", False),
        ("{}", "http://10.0.0.1:8484", False),
        ("{host: 0.0.0.0}", "http://localhost:8484", True),
        ("{host: '::', port: 80}", "http://localhost/v1", True),
        ("{host: 10.0.0.1}", "http://10.0.0.1:8484", True),
        ("{host: 10.0.0.1}", "http://127.0.0.1:8484", False),
        ("{allowed_hosts: [llm.example.com]}", "https://llm.example.com/v1", True),
        ("{allowed_hosts: [llm.example.com]}", "https://llm.example.com/other/v1", False),
        ("{allowed_hosts: [llm.example.com]}", "http://llm.example.com:8484", True),
        ("{allowed_hosts: [llm.example.com]}", "http://llm.example.com:11434/v1", False),
    ],
)
def test_a_provider_is_not_this_server_itself(server: str, url: str, own: bool) -> None:
    text = f"server: {server}\nproviders: {{a: {{base_url: '{url}'}}}}"
    if own:
        assert problems(text) == [
            "config.yaml:2: providers.a.base_url: this is the address of this server itself"
        ]
    else:
        assert configuration(text).providers["a"].active
