"""What is known of each provider, one row each: addresses, authentication, oddities.

A preset never limits which models may be called. Rows are facts of the providers' own documents;
where those were silent about a native protocol the row leaves it out, and requests are translated,
which always works. docs/configuration.md, "Providers"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

#: The regions in which a provider may have separate hosts and keys.
REGIONS = ("cn", "intl", "us")


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider.

    `hosts` are the scheme and host of each region, the default region first; a provider without
    regions has one under "". The paths hold on each host: `chat` is the base that an OpenAI SDK
    takes, `messages` the base that an Anthropic SDK takes, `responses` the base of `/responses`;
    None means that the protocol is not spoken there. `endpoints` are those whose path does not
    follow from `chat`.
    `variables` usually hold the key; the first that is not empty is taken when none is configured.
    `local`: runs on the operator's machines, costs nothing, needs no key, on any host.
    `lists_models`: `GET /models` answers with the names that can be called.
    `reasoning_apart`: reported output tokens exclude reasoning tokens.
    """

    name: str
    hosts: Mapping[str, str]
    chat: str | None = "/v1"
    messages: str | None = None
    responses: str | None = None
    aliases: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    protocol: str = "openai"
    auth: str = "bearer"
    endpoints: Mapping[str, str] = field(default_factory=dict)
    stream_usage: str = "auto"
    repair: tuple[str, ...] = ()
    local: bool = False
    lists_models: bool = True
    reasoning_apart: bool = False

    @property
    def regions(self) -> tuple[str, ...]:
        return tuple(filter(None, self.hosts))


def _only(host: str) -> Mapping[str, str]:
    return {"": host}


# Mainland China, alphabetically; then international; then local.
_ROWS = (
    Preset(
        "ali",
        aliases=("alibaba", "dashscope", "bailian", "qwen"),
        hosts={
            "cn": "https://dashscope.aliyuncs.com",
            "intl": "https://dashscope-intl.aliyuncs.com",
            "us": "https://dashscope-us.aliyuncs.com",
        },
        chat="/compatible-mode/v1",
        messages="/apps/anthropic",
        responses="/api/v2/apps/protocols/compatible-mode/v1",
        endpoints={"rerank": "/compatible-api/v1/reranks"},
        variables=("DASHSCOPE_API_KEY",),
    ),
    Preset(
        "baidu",
        aliases=("qianfan", "ernie", "wenxin"),
        hosts=_only("https://qianfan.baidubce.com"),
        chat="/v2",
        variables=("QIANFAN_API_KEY",),
    ),
    Preset(
        "deepseek",
        hosts=_only("https://api.deepseek.com"),
        chat="",
        messages="/anthropic",
        responses="",
        variables=("DEEPSEEK_API_KEY",),
    ),
    Preset(
        "hunyuan-legacy",
        hosts=_only("https://api.hunyuan.cloud.tencent.com"),
        variables=("HUNYUAN_API_KEY",),
    ),
    # X1, X1.5 and X2 are served under /v2: a second provider with that base_url.
    Preset(
        "iflytek",
        aliases=("spark", "xfyun"),
        hosts=_only("https://spark-api-open.xf-yun.com"),
        variables=("SPARK_API_KEY", "XFYUN_API_PASSWORD"),
        repair=("tool_index",),
        lists_models=False,
    ),
    Preset(
        "mimo",
        aliases=("xiaomi",),
        hosts=_only("https://api.xiaomimimo.com"),
        messages="/anthropic",
        variables=("MIMO_API_KEY", "XIAOMI_API_KEY", "XIAOMI_MIMO_API_KEY"),
    ),
    Preset(
        "minimax",
        hosts={"cn": "https://api.minimaxi.com", "intl": "https://api.minimax.io"},
        messages="/anthropic",
        responses="/v1",
        variables=("MINIMAX_API_KEY",),
    ),
    Preset(
        "moonshot",
        aliases=("kimi",),
        hosts={"cn": "https://api.moonshot.cn", "intl": "https://api.moonshot.ai"},
        messages="/anthropic",
        responses="/v1",
        variables=("MOONSHOT_API_KEY", "KIMI_API_KEY"),
    ),
    Preset(
        "siliconflow",
        hosts={"cn": "https://api.siliconflow.cn", "intl": "https://api.siliconflow.com"},
        variables=("SILICONFLOW_API_KEY",),
    ),
    Preset(
        "stepfun",
        hosts={"cn": "https://api.stepfun.com", "intl": "https://api.stepfun.ai"},
        variables=("STEPFUN_API_KEY", "STEP_API_KEY"),
    ),
    Preset(
        "tencent",
        aliases=("tokenhub", "hunyuan"),
        hosts={
            "cn": "https://tokenhub.tencentmaas.com",
            "intl": "https://tokenhub-intl.tencentcloudmaas.com",
        },
        messages="",
        variables=("TENCENT_API_KEY", "TOKENHUB_API_KEY", "HUNYUAN_API_KEY"),
    ),
    Preset(
        "tencent-lkeap",
        aliases=("lkeap",),
        hosts=_only("https://api.lkeap.cloud.tencent.com"),
        variables=("LKEAP_API_KEY",),
    ),
    Preset(
        "volc",
        aliases=("volcengine", "ark", "doubao"),
        hosts={
            "cn": "https://ark.cn-beijing.volces.com",
            "intl": "https://ark.ap-southeast.bytepluses.com",
        },
        chat="/api/v3",
        responses="/api/v3",
        variables=("ARK_API_KEY", "VOLCENGINE_API_KEY"),
    ),
    Preset(
        "zhipu",
        aliases=("bigmodel", "glm"),
        hosts={"cn": "https://open.bigmodel.cn", "intl": "https://api.z.ai"},
        chat="/api/paas/v4",
        messages="/api/anthropic",
        responses="/api/v1",
        variables=("ZHIPU_API_KEY", "BIGMODEL_API_KEY", "ZHIPUAI_API_KEY"),
        lists_models=False,
    ),
    Preset(
        "zai",
        hosts={"intl": "https://api.z.ai", "cn": "https://open.bigmodel.cn"},
        chat="/api/paas/v4",
        messages="/api/anthropic",
        responses="/api/v1",
        variables=("ZAI_API_KEY",),
        lists_models=False,
    ),
    Preset(
        "anthropic",
        aliases=("claude",),
        hosts=_only("https://api.anthropic.com"),
        chat=None,
        messages="",
        variables=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        protocol="anthropic",
        auth="x-api-key",
    ),
    # Models are called by the names of deployments, of which there is no list.
    Preset(
        "azure",
        hosts=_only("https://{resource}.openai.azure.com"),
        chat="/openai/v1",
        responses="/openai/v1",
        variables=("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
        auth="api-key",
        lists_models=False,
    ),
    Preset("cerebras", hosts=_only("https://api.cerebras.ai"), variables=("CEREBRAS_API_KEY",)),
    Preset(
        "fireworks",
        hosts=_only("https://api.fireworks.ai"),
        chat="/inference/v1",
        messages="/inference",
        variables=("FIREWORKS_API_KEY",),
    ),
    Preset(
        "gemini",
        aliases=("google",),
        hosts=_only("https://generativelanguage.googleapis.com"),
        chat="/v1beta/openai",
        variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        repair=("tool_index",),
    ),
    Preset(
        "groq",
        hosts=_only("https://api.groq.com"),
        chat="/openai/v1",
        responses="/openai/v1",
        variables=("GROQ_API_KEY",),
    ),
    # Refuses fields that it does not know, stream_options among them.
    Preset(
        "mistral",
        hosts=_only("https://api.mistral.ai"),
        variables=("MISTRAL_API_KEY",),
        stream_usage="never",
    ),
    Preset(
        "openai",
        hosts=_only("https://api.openai.com"),
        responses="/v1",
        variables=("OPENAI_API_KEY",),
    ),
    Preset(
        "openrouter",
        hosts=_only("https://openrouter.ai"),
        chat="/api/v1",
        messages="/api",
        responses="/api/v1",
        variables=("OPENROUTER_API_KEY",),
    ),
    Preset(
        "together",
        hosts=_only("https://api.together.ai"),
        variables=("TOGETHER_API_KEY",),
    ),
    Preset(
        "xai",
        aliases=("grok",),
        hosts={"intl": "https://api.x.ai", "us": "https://us.api.x.ai"},
        responses="/v1",
        variables=("XAI_API_KEY",),
        reasoning_apart=True,
    ),
    Preset(
        "ollama",
        hosts=_only("http://127.0.0.1:11434"),
        messages="",
        responses="/v1",
        local=True,
    ),
    Preset(
        "lmstudio",
        hosts=_only("http://127.0.0.1:1234"),
        messages="",
        responses="/v1",
        local=True,
    ),
    Preset(
        "vllm",
        hosts=_only("http://127.0.0.1:8000"),
        messages="",
        responses="/v1",
        variables=("VLLM_API_KEY",),
        local=True,
    ),
    Preset("llamacpp", hosts=_only("http://127.0.0.1:8080"), messages="", local=True),
    Preset("echo", hosts={}, chat=None, protocol="echo", auth="none", local=True, lists_models=False),
)


#: Every preset, by its name and by each of its aliases.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {name: row for row in _ROWS for name in (row.name, *row.aliases)}
)
