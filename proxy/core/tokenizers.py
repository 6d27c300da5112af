"""How many tokens a text has, by families of tokenizers: a heuristic without any vocabulary.

A weight per kind of word, letter, digit and sign, fitted for each family against its real
tokenizer. docs/limits.md, "The estimate", has the table, where it comes from and how far it errs.

Text is never walked character by character in Python. A table turns it into one integer with four
bits for each byte, the first byte's highest: a mark for the class that the byte belongs to.
Shifting it onto itself compares all neighbours at once, so that a few operations on integers
count the runs of all classes together, at about 110 MB/s.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import mul
from typing import NamedTuple

from proxy.core.images import Size, claude_tokens, deepseek_tokens, openai_tokens, qwen_tokens


class Classes(NamedTuple):
    """A number for each class of text: how often it occurs, or its weight in thousandths of a token."""

    words: int  # [A-Z]?[a-z]+ or [A-Z]+: camelCase is two
    long_letters: int  # letters of a word beyond its sixth
    digits: int  # groups of up to three, or single ones where the family has them so
    newlines: int  # each with the blanks and newlines that follow it
    signs: int  # ASCII punctuation, the first of a run
    more_signs: int  # … and the further ones
    ideographs: int = 0
    kana: int = 0
    hangul: int = 0
    wide_signs: int = 0  # CJK and general punctuation
    accented: int = 0  # Latin letters beyond ASCII
    letters: int = 0  # of other alphabets
    others: int = 0  # emoji, symbols, control characters


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share a tokenizer, or nearly."""

    weights: Classes
    single_digits: bool
    image_tokens: Callable[[Size | None, object], int]

    def milli_tokens(self, text: bytes) -> int:
        """Return the estimate for a UTF-8 text, in thousandths of a token."""
        return sum(map(mul, self.weights, count_classes(text, self.single_digits)))


_CL100K = Classes(990, 250, 1190, 690, 690, 300, 1100, 980, 1130, 1030, 640, 580, 510)
_O200K = Classes(910, 270, 1180, 1170, 690, 210, 750, 660, 700, 1160, 0, 330, 410)
_DEEPSEEK = Classes(1030, 170, 1090, 860, 860, 240, 590, 650, 790, 1270, 310, 390, 460)
_QWEN = Classes(910, 360, 1080, 710, 730, 320, 680, 610, 820, 1170, 0, 440, 440)
_CLAUDE = Classes(990, 290, 1000, 220, 1070, 300, 900, 1010, 1260, 1600, 1720, 670, 530)

O200K = Family(_O200K, False, openai_tokens)  # OpenAI since GPT-4o; also the default
CL100K = Family(_CL100K, False, openai_tokens)  # GPT-4, GPT-3.5, text-embedding
DEEPSEEK = Family(_DEEPSEEK, False, deepseek_tokens)
QWEN = Family(_QWEN, True, qwen_tokens)
QWEN_LIKE = Family(_QWEN, False, qwen_tokens)  # other Chinese vendors, unverified
CLAUDE = Family(_CLAUDE, False, claude_tokens)
# Since 4.7 Claude counts up to a third more, by Anthropic's statement.
NEW_CLAUDE = Family(Classes(*(weight * 6 // 5 for weight in _CLAUDE)), False, claude_tokens)

# The first that matches holds. A distilled model keeps the tokenizer that it began with.
_FAMILIES = (
    (re.compile(r"claude"), CLAUDE),
    (re.compile(r"distill-llama"), O200K),
    (re.compile(r"qwen|qwq|qvq"), QWEN),
    (re.compile(r"deepseek|mimo"), DEEPSEEK),
    (re.compile(r"glm|kimi|moonshot|doubao|ernie|hunyuan|minimax|\bstep|spark"), QWEN_LIKE),
    (re.compile(r"gpt-3\.5|gpt-4(?![.o\d])|text-embedding|davinci|babbage"), CL100K),
)
_CLAUDE_VERSION = re.compile(r"claude\D*(\d{1,2})(?!\d)(?:[.-](\d{1,2})(?!\d))?")


@lru_cache(maxsize=1024)
def family_of(model: str) -> Family:
    """Return the family of an upstream model, judged by its name."""
    name = model.lower()
    family = next((family for pattern, family in _FAMILIES if pattern.search(name)), O200K)
    if family is CLAUDE and (version := _CLAUDE_VERSION.search(name)):
        major, minor = map(int, version.groups("0"))
        return NEW_CLAUDE if (major, minor) >= (4, 7) else CLAUDE
    return family


_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_DIGITS = b"0123456789"
_SIGNS = bytes(set(range(33, 127)) - set(_LOWER + _UPPER + _DIGITS))
_CONTROLS = bytes({*range(32), 127} - set(b" \t\n\r\f\v"))
_ASCII = bytes(range(128))

_NEWLINE = re.compile(rb"\n\s*")

# Beyond ASCII, by blocks of the Basic Multilingual Plane; what is not listed, and all above it,
# counts as other.
_WIDE_BLOCKS = (
    (0x00C0, 0x024F, "a"),
    (0x0250, 0x1FFF, "l"),  # from phonetic signs and Greek to Mongolian and Georgian
    (0x1E00, 0x1EFF, "a"),
    (0x2010, 0x203A, "s"),
    (0x2C00, 0x2DFF, "l"),
    (0x3000, 0x303F, "s"),
    (0x3040, 0x30FF, "k"),
    (0x3100, 0x318F, "l"),  # Bopomofo, Hangul's single letters
    (0x31F0, 0x31FF, "k"),
    (0x3400, 0x4DBF, "i"),
    (0x4E00, 0x9FFF, "i"),
    (0xA000, 0xABFF, "l"),
    (0xAC00, 0xD7A3, "h"),
    (0xF900, 0xFAFF, "i"),
    (0xFB00, 0xFDFF, "l"),
    (0xFE70, 0xFEFF, "l"),
    (0xFF00, 0xFFEF, "s"),
)


def _marks_table() -> bytes:
    """Return the table that writes each byte's mark as a hexadecimal digit."""
    table = bytearray(b"0") * 256
    for mark, members in ((b"1", _LOWER), (b"2", _UPPER), (b"4", _SIGNS), (b"8", _DIGITS)):
        for member in members:
            table[member : member + 1] = mark
    return bytes(table)


def _wide_table() -> bytes:
    table = bytearray(b"o") * 0x10000
    for first, last, name in _WIDE_BLOCKS:
        table[first : last + 1] = name.encode() * (last + 1 - first)
    table[0x00D7] = table[0x00F7] = ord("o")  # × and ÷ among the letters
    return bytes(table)


_MARKS_TABLE = _marks_table()
_WIDE_TABLE = _wide_table()


def count_classes(text: bytes, single_digits: bool = False) -> Classes:
    """Return how often each class occurs in a UTF-8 text."""
    marks = int(b"0" + text.translate(_MARKS_TABLE), 16)
    lower = int.from_bytes(b"\x11" * (len(text) // 2 + 1), "big")
    letters, signs, digits = lower | lower << 1, lower << 2, lower << 3
    firsts = marks & ~(marks >> 4)
    # What further members of its run follow: three, five, six.
    three = marks & marks << 4
    three &= three << 8
    five, six = three & three << 8, three & three << 12
    # A capital and the lower-case run after it are one word, unless capitals stand before it.
    capitals = firsts >> 1 & marks << 4 & lower
    first_signs = (firsts & signs).bit_count()
    narrow = Classes(
        words=(firsts & letters).bit_count() - capitals.bit_count(),
        long_letters=(six & letters | capitals & five << 4).bit_count(),
        digits=(marks & digits).bit_count() if single_digits else _threes(marks & digits),
        newlines=len(_NEWLINE.findall(text)) if b"\n" in text else 0,
        signs=first_signs,
        more_signs=(marks & signs).bit_count() - first_signs,
        others=len(text) - len(text.translate(None, _CONTROLS)),
    )
    if text.isascii():
        return narrow
    return _with_wide(narrow, text.translate(None, _ASCII).decode(errors="replace"))


def _with_wide(narrow: Classes, text: str) -> Classes:
    """Return the counts with those of the characters beyond ASCII, which stand together in `text`."""
    names = text.translate(_WIDE_TABLE)
    ideographs, kana, hangul, signs, accented, letters = map(names.count, "ikhsal")
    return narrow._replace(
        ideographs=ideographs,
        kana=kana,
        hangul=hangul,
        wide_signs=signs,
        accented=accented,
        letters=letters,
        others=narrow.others + len(text) - ideographs - kana - hangul - signs - accented - letters,
    )


def _threes(digits: int) -> int:
    """Return how many groups of up to three the runs have; beyond 24 digits, by their sum."""
    groups = 0
    for _ in range(8):
        if not digits:
            return groups
        groups += (digits & ~(digits >> 4)).bit_count()
        digits &= digits >> 4 & digits >> 8 & digits >> 12
    return groups - (-digits.bit_count() // 3)
