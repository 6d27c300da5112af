"""The token heuristic, against the same rules written as one regular expression."""

import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import tokenizers
from proxy.core.tokenizers import (
    CL100K,
    CLAUDE,
    DEEPSEEK,
    NEW_CLAUDE,
    O200K,
    QWEN,
    QWEN_LIKE,
    Classes,
    Family,
    count_classes,
    family_of,
)

# One pass, one alternative for each class, in the order in which they are tried.
PATTERN = re.compile(
    r"""
    (?P<word>[A-Z]?[a-z]+|[A-Z]+)
    | (?P<digits>[0-9]{1,3})
    | (?P<newline>\n[ \t\n\r\f\v]*)
    | (?P<blank>[ \t\r\f\v])
    | (?P<signs>[!-/:-@\[-`{-~]+)
    | (?P<ideograph>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])
    | (?P<kana>[\u3040-\u30ff\u31f0-\u31ff])
    | (?P<hangul>[\uac00-\ud7a3])
    | (?P<wide_sign>[\u2010-\u203a\u3000-\u303f\uff00-\uffef])
    | (?P<accented>[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff])
    | (?P<letter>[\u0250-\u1dff\u1f00-\u1fff\u2c00-\u2dff\u3100-\u318f\ua000-\uabff]
        |[\ufb00-\ufdff\ufe70-\ufeff])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def reference(text: str, single_digits: bool = False) -> Classes:
    """Count as the rules are written: match by match."""
    counts: Counter[str] = Counter()
    for match in PATTERN.finditer(text):
        kind, matched = match.lastgroup, match[0]
        assert kind is not None
        counts[kind] += 1
        if kind == "word":
            counts["long"] += max(len(matched) - 6, 0)
        elif kind == "signs":
            counts["more"] += len(matched) - 1
        elif kind == "digits" and single_digits:
            counts["digits"] += len(matched) - 1
    names = "word long digits newline signs more ideograph kana hangul wide_sign accented letter other"
    return Classes(*(counts[name] for name in names.split()))


# Letters, digits, signs and blanks often enough to make runs, and something of every block.
ALPHABET = "aaabcABCZ019   \t\r\n\n.,{}\"'_-\0\x07\x7f中国。，かカ한é×Жא‘—€😀𠀀\u00a0\u3000ｱ𐐀"
TEXTS = st.text(st.sampled_from(ALPHABET), max_size=60) | st.text(max_size=40)


@given(TEXTS, st.booleans())
def test_the_planes_count_what_the_regular_expression_matches(text: str, single_digits: bool) -> None:
    assert count_classes(text.encode(errors="replace"), single_digits) == reference(
        text.encode(errors="replace").decode(), single_digits
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Classes(0, 0, 0, 0, 0, 0)),
        ("hello", Classes(1, 0, 0, 0, 0, 0)),
        ("Tokenizer", Classes(1, 3, 0, 0, 0, 0)),
        ("camelCase", Classes(2, 0, 0, 0, 0, 0)),
        ("HTTPServer", Classes(2, 0, 0, 0, 0, 0)),  # HTTPS, erver
        ("GATEWAYS", Classes(1, 2, 0, 0, 0, 0)),
        ("aGateway", Classes(2, 1, 0, 0, 0, 0)),
        ("12 1234", Classes(0, 0, 3, 0, 0, 0)),
        ("7" * 25, Classes(0, 0, 9, 0, 0, 0)),
        (f"{'7' * 25} {'7' * 25}", Classes(0, 0, 17, 0, 0, 0)),  # 8 each, and one for the two left over
        ("a\n \n b", Classes(2, 0, 0, 1, 0, 0)),
        ("({x})...", Classes(1, 0, 0, 0, 2, 5)),
        ("网关,好", Classes(0, 0, 0, 0, 1, 0, ideographs=3)),
        ("naïve", Classes(2, 0, 0, 0, 0, 0, accented=1)),
        ("ひらカナ한글", Classes(0, 0, 0, 0, 0, 0, kana=4, hangul=2)),
        ("Ж—😀\x07", Classes(0, 0, 0, 0, 0, 0, letters=1, wide_signs=1, others=2)),
    ],
    ids=repr,
)
def test_classes(text: str, expected: Classes) -> None:
    assert count_classes(text.encode()) == expected


def test_bytes_that_are_no_utf8_do_not_raise() -> None:
    assert count_classes(b"ok \xff\xfe").words == 1


@pytest.mark.parametrize(
    ("family", "tokens"),
    [(O200K, 1180), (QWEN_LIKE, 1080), (QWEN, 3 * 1080), (CLAUDE, 1000), (NEW_CLAUDE, 1200)],
)
def test_digits_count_in_threes_or_one_by_one(family: Family, tokens: int) -> None:
    assert family.milli_tokens(b"123") == tokens


def test_the_weights_apply_class_by_class() -> None:
    text = "The gateway中文, 12\n"
    words, long_letters = 2 * 910, 270
    assert O200K.milli_tokens(text.encode()) == words + long_letters + 2 * 750 + 690 + 1180 + 1170


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-5-mini", O200K),
        ("gpt-4o", O200K),
        ("gpt-4.1-nano", O200K),
        ("gpt-4-turbo", CL100K),
        ("gpt-4", CL100K),
        ("gpt-3.5-turbo", CL100K),
        ("text-embedding-3-small", CL100K),
        ("openai/gpt-oss-120b", O200K),
        ("something-new", O200K),
        ("deepseek-v4-pro", DEEPSEEK),
        ("DeepSeek-R1-Distill-Qwen-32B", QWEN),
        ("deepseek-r1-distill-llama-70b", O200K),
        ("mimo-v2", DEEPSEEK),
        ("Qwen/Qwen3-8B", QWEN),
        ("qwq-32b", QWEN),
        ("glm-4.6", QWEN_LIKE),
        ("kimi-k2", QWEN_LIKE),
        ("step-3", QWEN_LIKE),
        ("multistep-1", O200K),
        ("claude-3-5-sonnet-20241022", CLAUDE),
        ("claude-sonnet-4-20250514", CLAUDE),
        ("claude-sonnet-4-5-20250929", CLAUDE),
        ("claude-opus-4-7", NEW_CLAUDE),
        ("anthropic/claude-opus-4.8", NEW_CLAUDE),
        ("claude-sonnet-5", NEW_CLAUDE),
        ("claude-instant", CLAUDE),
    ],
)
def test_families_are_known_by_the_model_name(model: str, family: Family) -> None:
    assert family_of(model) is family


@given(TEXTS, TEXTS)
def test_more_text_never_counts_less_by_more_than_a_joined_run(first: str, second: str) -> None:
    """Joining two texts can only merge the runs at the seam: a word, digits, signs or a newline."""
    apart = sum(O200K.milli_tokens(text.encode(errors="replace")) for text in (first, second))
    joined = O200K.milli_tokens((first + second).encode(errors="replace"))
    assert apart - 1200 <= joined <= apart + 6 * 270


def test_every_block_beyond_ascii_is_listed_once() -> None:
    blocks = sorted(tokenizers._WIDE_BLOCKS)
    outer = [block for block in blocks if block[:2] != (0x1E00, 0x1EFF)]  # which lies within another
    assert all(before[1] < after[0] for before, after in pairwise(outer))
