"""Reasoning that clients keep for us."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.responses_reasoning import sealed, unsealed


@given(text=st.text())
def test_it_comes_back(text: str) -> None:
    assert unsealed(sealed(text)) == text


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("gAAAAABpX", id="somebody else's"),
        pytest.param(sealed("abc")[:-1], id="cut off"),
        pytest.param(sealed("abc") + "!", id="with something behind it"),
        pytest.param("sluice-reasoning-1:/w==", id="no UTF-8"),
        pytest.param("sluice-reasoning-1:ü", id="no base64"),
        pytest.param("sluice-reasoning-2:YQ==", id="another version"),
        pytest.param(None, id="nothing"),
        pytest.param(["x"], id="no text"),
    ],
)
def test_anything_else_is_ignored(content: object) -> None:
    assert unsealed(content) == ""
