"""The ids of requests."""

import os
import time

_RANDOM_BYTES = 10


class RequestIds:
    """Makes ids, with randomness read for many at a time.

    Asking the system for it lets other threads have the interpreter, which costs more than the bytes.
    """

    __slots__ = ("_at", "_random")

    _READ_BYTES = 400 * _RANDOM_BYTES

    def __init__(self) -> None:
        self._random = b""
        self._at = 0

    def new(self) -> str:
        """Return a new id, as `new_request_id` does."""
        if self._at == len(self._random):
            self._random = os.urandom(self._READ_BYTES)
            self._at = 0
        start, self._at = self._at, self._at + _RANDOM_BYTES
        return _id(self._random[start : self._at])


def new_request_id() -> str:
    """Return a new id: `req_`, the time in milliseconds, and 80 random bits, all hexadecimal.

    Ids sort by time, which keeps the rows they key together; nobody can guess another's.
    """
    return _id(os.urandom(_RANDOM_BYTES))


def _id(random: bytes) -> str:
    return f"req_{time.time_ns() // 1_000_000:012x}{random.hex()}"
