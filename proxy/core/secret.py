"""Secrets that cannot be printed by accident."""

import hashlib


class Secret:
    """A string that shows itself only when asked. Its repr and str are masked."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def digest(self) -> bytes:
        return key_digest(self._value.encode())

    def masked(self) -> str:
        """Return enough to recognise it: the last four characters of a long one, else nothing."""
        return "…" + self._value[-4:] if len(self._value) >= 12 else "…"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__


def key_digest(key: bytes) -> bytes:
    """Return the SHA-256 under which a key is stored and looked up.

    Keys made here hold 256 random bits, so that a fast hash without salt is enough: there is
    nothing to guess.
    """
    return hashlib.sha256(key).digest()
