"""Names in which `*` stands for any characters: the allow lists of keys, plans and providers."""

import re
from collections.abc import Iterable
from functools import lru_cache


class Globs:
    """A compiled list of globs. Case-sensitive; `*` spans `/` and is the only special character."""

    __slots__ = ("_fullmatch",)

    def __init__(self, patterns: Iterable[str]) -> None:
        nothing = "(?!)"
        either = "|".join([nothing, *map(_expression, patterns)])
        self._fullmatch = re.compile(either, re.DOTALL).fullmatch

    def allows(self, name: str) -> bool:
        return self._fullmatch(name) is not None


def allows(patterns: tuple[str, ...] | None, name: str) -> bool:
    """Return whether an allow list lets `name` pass: None allows everything, an empty list nothing."""
    return patterns is None or _compiled(patterns).allows(name)


def star_part(pattern: str, name: str) -> str | None:
    """Return what the single `*` of `pattern` stands for in `name`; None when they do not match."""
    before, _, after = pattern.partition("*")
    fits = len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)
    return name[len(before) : len(name) - len(after)] if fits else None


@lru_cache(maxsize=4096)  # about one list for each key of a large installation
def _compiled(patterns: tuple[str, ...]) -> Globs:
    return Globs(patterns)


def _expression(pattern: str) -> str:
    """Return the regular expression of one glob; it never backtracks more than linearly.

    The leftmost place of each inner piece is as good as any later one, so that an atomic group
    may hold on to it.
    """
    first, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return first
    *inner, last = rest
    return first + "".join(f"(?>.*?{piece})" for piece in inner) + ".*" + last
