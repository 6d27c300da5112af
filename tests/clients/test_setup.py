"""What the gateway tells users to run, run as it is told: with the key written out, and without."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.gateway.clients.catalog import find
from proxy.gateway.clients.client import VARIABLE, target
from tests.clients.programs.installation import Installation
from tests.support.gateway import API_KEY, Sluice, gateway

# A name that no shell and no program may read as anything but a name.
MODEL = "a'b'\"c\"$(false)`false`\\é;#"
INSTALLATION = Installation.usual()


@pytest.fixture
async def sluice(tmp_path: Path) -> AsyncIterator[Sluice]:
    models = {MODEL: {"routes": ["demo/echo"]}}
    async with gateway(tmp_path, providers={"demo": {"preset": "echo"}}, models=models) as sluice:
        yield sluice


def write(sluice: Sluice, directory: Path, name: str, key: str | None) -> Path:
    """Write down the last step of a client's set-up."""
    client = find(name)
    assert client is not None
    step = client.steps(target(sluice.url, MODEL, key))[-1]
    path = directory / (step.file or f"{name}.sh")
    path.write_text(step.content or "")
    return path


async def run(*command: str | Path) -> str:
    """Run a program in a shell that knows the key; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=os.environ | {VARIABLE: API_KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return printed.decode()


@pytest.mark.parametrize("key", [API_KEY, None], ids=["key", "variable"])
class TestPrograms:
    async def test_python(self, sluice: Sluice, tmp_path: Path, key: str | None) -> None:
        program = write(sluice, tmp_path, "openai-python", key)
        assert await run(sys.executable, program) == "Hello!\n"

    async def test_node(self, sluice: Sluice, tmp_path: Path, key: str | None) -> None:
        if INSTALLATION.npm_version("openai") is None:
            pytest.skip("openai is not installed: scripts/clients --install")
        assert INSTALLATION.node is not None
        (tmp_path / "node_modules").symlink_to(INSTALLATION.modules)
        program = write(sluice, tmp_path, "openai-node", key)
        assert await run(INSTALLATION.node, program) == "Hello!\n"

    async def test_curl(self, sluice: Sluice, tmp_path: Path, key: str | None) -> None:
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        program = write(sluice, tmp_path, "curl", key)
        assert "Hello!" in await run("sh", "-eu", program)
        assert [record.model for record in await sluice.settled(1)] == [MODEL]
