"""Text of strangers in messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.quoting import quoted, unformulaic


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt-5", "'gpt-5'"),
        ("a\r\nb\0", r"'a\r\nb\x00'"),
        ("it's", '"it\'s"'),
        ("😀 网关", "'😀 网关'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 129, f"'{'x' * 128}'…"),
    ],
)
def test_text_is_quoted_escaped_and_cut(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(st.text(max_size=300))
def test_what_is_shown_is_one_printable_line_of_utf8(text: str) -> None:
    shown = quoted(text)
    assert shown.isprintable()
    shown.encode()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert unformulaic(text) == "'" + text


@pytest.mark.parametrize("text", ["", "gpt-5", "a=b", "'=x", " =1"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert unformulaic(text) == text
