"""What a model takes, by its name."""

import pytest

from proxy.dialects.messages_models import MessagesTraits, messages_traits


@pytest.mark.parametrize(
    ("model", "thinking", "sampling", "prefill", "json_schema"),
    [
        ("claude-2.1", "none", True, True, False),
        ("claude-3-5-haiku-20241022", "none", True, True, False),
        ("claude-3-7-sonnet-latest", "budget", True, True, False),
        ("claude-sonnet-4-20250514", "budget", True, True, False),
        ("claude-opus-4-5-20251101", "budget", True, True, True),
        ("anthropic/claude-haiku-4.5", "budget", True, True, True),
        ("claude-sonnet-4-6", "adaptive", True, False, True),
        ("anthropic.claude-opus-4-7", "adaptive", False, False, True),
        ("claude-opus-5-5", "adaptive", False, False, True),
        ("claude-sonnet-5", "adaptive", False, False, True),
        ("claude-mythos-preview", "adaptive", False, False, True),
        ("deepseek-v4-pro", "budget", True, True, False),
    ],
)
def test_models(model: str, thinking: str, sampling: bool, prefill: bool, json_schema: bool) -> None:
    traits = messages_traits(model)
    assert (traits.thinking, traits.sampling, traits.prefill) == (thinking, sampling, prefill)
    assert traits.json_schema is json_schema


def test_xhigh_came_with_4_7() -> None:
    assert "xhigh" not in messages_traits("claude-opus-4-6").efforts
    assert "xhigh" in messages_traits("claude-opus-4-7").efforts


def test_an_unknown_host_has_the_defaults() -> None:
    assert messages_traits("kimi-k3") == MessagesTraits()
