"""The event loops on which the tests of this folder run."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Function
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The gateway serves on uvloop; a module whose `LOOPS` names others as well runs on those, too."""
    return {name: LOOPS[name] for name in getattr(item.module, "LOOPS", ("uvloop",))}
