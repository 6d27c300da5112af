"""How a running exchange is told to end: by its client, its key, or the server's stop."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from proxy.core.entities import Finish

T = TypeVar("T")


class Interrupted(Exception):
    """The exchange was told to end while it waited."""


class Interruption:
    """Whether an exchange was told to end, and what for.

    Nothing is cancelled but what is awaited by `waiting`: accounts are always closed in full.
    """

    __slots__ = ("_waiting_task", "finish")

    def __init__(self) -> None:
        #: Why the exchange is to end; the first reason holds.
        self.finish: Finish | None = None
        self._waiting_task: asyncio.Task[object] | None = None

    def set(self, finish: Finish) -> bool:
        """Break off what is waited for, now or later; return whether anything was."""
        self.finish = self.finish or finish
        if self._waiting_task is None:
            return False
        self._waiting_task.cancel()
        return True

    async def waiting(self, call: Awaitable[T]) -> T:
        """Wait for a call in a way that can be broken off; raises Interrupted then."""
        task = self._waiting_task = asyncio.current_task()
        try:
            return await call
        except asyncio.CancelledError:
            if self.finish is None or task is None:
                raise
            task.uncancel()
            raise Interrupted from None
        finally:
            self._waiting_task = None
