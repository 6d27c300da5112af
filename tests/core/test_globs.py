"""Globs of allow lists, and wildcards of model names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.globs import Globs, allows, star_part

NAMES = st.text(st.sampled_from("ab/.*\n"), max_size=12)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("gpt-5", "gpt-5", True),
        ("gpt-5", "GPT-5", False),
        ("gpt-5", "gpt-5-mini", False),
        ("gpt-*", "gpt-", True),
        ("*", "openai/gpt-5", True),
        ("openai/*", "openai/a/b", True),
        ("*/gpt-*", "openai/gpt-5", True),
        ("a*a", "a", False),
        ("*ab*ab*", "ab", False),
        ("*ab*ab*", "xxabxabx", True),
        ("a.c", "abc", False),
        ("a?c", "abc", False),
        ("[ab]", "a", False),
        ("a*", "a\nb", True),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_only_the_star_is_special(pattern: str, name: str, matches: bool) -> None:
    assert Globs([pattern]).allows(name) is matches


@given(st.lists(NAMES, max_size=3), NAMES)
def test_a_list_allows_what_one_of_its_globs_matches(patterns: list[str], name: str) -> None:
    naive = [
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) for pattern in patterns
    ]
    assert Globs(patterns).allows(name) is any(naive)
    assert allows(tuple(patterns), name) is any(naive)


def test_no_list_allows_everything_and_an_empty_one_nothing() -> None:
    assert allows(None, "any")
    assert not allows((), "any")


def test_many_stars_do_not_make_it_slow() -> None:
    """A backtracking matcher would need about 10²⁸ steps for this."""
    assert not Globs(["*a" * 12 + "*b"]).allows("a" * 2000)


@pytest.mark.parametrize(
    ("pattern", "name", "part"),
    [
        ("gpt-*", "gpt-5", "5"),
        ("gpt-*", "gpt-", ""),
        ("*", "a/b", "a/b"),
        ("*-latest", "kimi-latest", "kimi"),
        ("a*a", "aa", ""),
        ("a*a", "a", None),
        ("gpt-*", "claude", None),
        ("*-latest", "latest", None),
    ],
)
def test_the_part_that_a_star_stands_for(pattern: str, name: str, part: str | None) -> None:
    assert star_part(pattern, name) == part


@given(NAMES.filter(lambda text: "*" not in text), NAMES.filter(lambda text: "*" not in text), NAMES)
def test_the_part_put_back_gives_the_name(before: str, after: str, part: str) -> None:
    assert star_part(f"{before}*{after}", before + part + after) == part
