"""Which Chat traits each preset has: how a translated request is written for it.

Facts of the providers' documents, summarised in docs/providers.md, "Peculiarities". A provider
without a row gets the defaults, which suit any OpenAI-compatible server. Requests that come in as
chat completions are never rewritten by these.
"""

from collections.abc import Mapping
from types import MappingProxyType

from proxy.config.schema import Provider
from proxy.dialects.traits import ChatTraits

_OPENAI = ChatTraits(
    reasoning_switch="reasoning_effort",
    developer_role=True,
    length_field="max_completion_tokens",
    strict_tools=True,
    openai_fields=True,
    efforts=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    late_system=True,
    files=True,
)
_EFFORT = ChatTraits(reasoning_switch="reasoning_effort")
_THINKING = ChatTraits(reasoning_switch="thinking_type")
_ENABLE = ChatTraits(reasoning_switch="enable_thinking")
_ZHIPU = ChatTraits(reasoning_switch="thinking_type", replays_reasoning=True, keeps_cache_control=True)

_TRAITS: Mapping[str, ChatTraits] = MappingProxyType(
    {
        "openai": _OPENAI,
        "azure": _OPENAI,
        "deepseek": ChatTraits(
            reasoning_switch="thinking_type",
            replays_reasoning=True,
            json_schema=False,
            prefill_field="prefix",
            user_field="user_id",
        ),
        "ali": ChatTraits(
            reasoning_switch="enable_thinking", keeps_cache_control=True, prefill_field="partial"
        ),
        "volc": ChatTraits(reasoning_switch="thinking_type", replays_reasoning=True),
        "tencent": _THINKING,
        "baidu": _ENABLE,
        "moonshot": ChatTraits(
            reasoning_switch="thinking_type",
            replays_reasoning=True,
            sampling=False,
            tool_choice_required=None,
            prefill_field="partial",
        ),
        "zhipu": _ZHIPU,
        "zai": _ZHIPU,
        "iflytek": _THINKING,
        "minimax": ChatTraits(keeps_cache_control=True),
        "siliconflow": _ENABLE,
        "stepfun": _EFFORT,
        "mimo": ChatTraits(
            reasoning_switch="thinking_type", replays_reasoning=True, length_field="max_completion_tokens"
        ),
        "gemini": ChatTraits(
            reasoning_switch="reasoning_effort",
            # What Google documents for calls that its models did not make themselves.
            call_extras=MappingProxyType(
                {"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}}
            ),
        ),
        "openrouter": ChatTraits(reasoning_switch="reasoning_effort", keeps_cache_control=True, files=True),
        "groq": _EFFORT,
        "mistral": ChatTraits(tool_choice_required="any", user_field=None),
        "xai": _EFFORT,
        "fireworks": _EFFORT,
        "cerebras": _EFFORT,
        "ollama": _EFFORT,
    }
)
_DEFAULT = ChatTraits()


def chat_traits(provider: Provider) -> ChatTraits:
    """Return how translated requests are written for a provider."""
    return _TRAITS.get(provider.preset or "", _DEFAULT)
