"""What is hidden in a provider's text, and what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.masking import MASK, mask

# name: text, what must not be left of it
HIDDEN = {
    "openai": ("API key provided: sk-proj-abcdef0123456789", "abcdef"),
    "openai, starred": ("API key provided: sk-abc*****wxyz.", "wxyz"),
    "gateway": ("sk-sluice-0123456789abcdef", "0123"),
    "bearer": ("Authorization: Bearer abcdef", "abcdef"),
    "organisation": ("Rate limit reached in organization org-AbCdEf123456", "AbCdEf"),
    "google": ("key AIzaSyA1234567890abcdefg", "SyA123"),
    "groq": ("gsk_abcdefgh12345678", "abcdefgh"),
    "zhipu": ("0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp", "AbCd"),
    "baidu": ("bce-v3/ALTAK-abc/0123456789", "0123"),
    "ali": ("LTAI5tAbCdEfGhIjKl", "AbCd"),
    "web token": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "eyJ"),
    "url": ("https://user:hunter2@proxy.example/x", "hunter2"),
    "mixed": ("(aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3x)", "aB3d"),
}


@pytest.mark.parametrize(("text", "secret"), HIDDEN.values(), ids=HIDDEN)
def test_key_like_parts_are_hidden(text: str, secret: str) -> None:
    masked = mask(text)
    assert MASK in masked
    assert secret not in masked


SHOWN = (
    "This model's maximum context length is 4096 tokens.",
    "request id: 550e8400-e29b-41d4-a716-446655440000",
    "Request id: 0217412345678901234567890abcdef0123456789abcdef01234",
    "The model `deepseek-ai/DeepSeek-V4-Pro` does not exist",
    "see https://platform.example/docs/errors#a@b",
    "invalid value for messages[0].content[1].image_url",
    "Bearer token missing",
)


@pytest.mark.parametrize("text", SHOWN)
def test_plain_words_and_request_ids_stay(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    ("text", "secret", "masked"),
    [
        ("your key secretsecret.1 is bad", "secretsecret.1", "your key *** is bad"),
        ("your key secretse... is bad", "secretsecret", "your key *** is bad"),
        ('{"key":"secretsecret"}', "secretsecret", '{"key":"***"}'),
        ("wolf and werewolf", "wolf", "*** and werewolf"),
        ("x marks the spot", "x", "x marks the spot"),
    ],
)
def test_known_secrets_are_hidden(text: str, secret: str, masked: str) -> None:
    assert mask(text, [secret]) == masked


def test_the_text_has_a_bound() -> None:
    assert len(mask("a " * 10_000)) == 8192


printable = st.characters(min_codepoint=33, max_codepoint=126)


@given(st.text(max_size=50), st.text(printable, min_size=8, max_size=40), st.text(max_size=50))
def test_no_part_of_a_secret_that_tells_survives(before: str, secret: str, after: str) -> None:
    if secret[:8] not in before + MASK + after:
        assert secret[:8] not in mask(before + secret + after, [secret])


@given(st.text(max_size=300))
def test_masking_again_changes_nothing(text: str) -> None:
    assert mask(mask(text)) == mask(text)
