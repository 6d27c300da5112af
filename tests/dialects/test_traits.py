"""How providers are asked to reason."""

import pytest

from proxy.dialects.traits import ChatTraits, reasoning_members


@pytest.mark.parametrize(
    ("switch", "effort", "members"),
    [
        ("none", "high", {}),
        ("reasoning_effort", "high", {"reasoning_effort": "high"}),
        ("reasoning_effort", "none", {"reasoning_effort": "none"}),
        ("thinking_type", "low", {"thinking": {"type": "enabled"}}),
        ("thinking_type", "none", {"thinking": {"type": "disabled"}}),
        ("enable_thinking", "max", {"enable_thinking": True}),
        ("enable_thinking", "minimal", {"enable_thinking": False}),
    ],
)
def test_reasoning(switch: str, effort: str, members: dict[str, object]) -> None:
    assert reasoning_members(ChatTraits(reasoning_switch=switch), effort) == members
