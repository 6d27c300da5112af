"""The programs: how each is installed, configured without a user's files, and run once without a head.

Their configurations are those that the gateway tells its users; docs/clients.md
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.gateway.clients.catalog import find
from proxy.gateway.clients.client import VARIABLE, target
from tests.clients.programs.installation import Installation, pypi_version
from tests.clients.programs.script import MODEL, PROVIDER
from tests.clients.programs.turns import PROMPT

_SDK_MODEL = "gpt-5.5"
_SDK = Path(__file__).parent / "sdk"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program runs, and what it talks to."""

    home: Path
    #: The current directory; the files that it is asked about are here.
    work: Path
    #: The root of the gateway, without /v1.
    url: str
    key: str
    model: str
    installation: Installation
    #: A free port, for programs that serve.
    port: int


@dataclass(frozen=True, slots=True)
class Command:
    """What is run; `service` is run beside it, and listens on the place's port."""

    arguments: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    service: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """One way of using one program. `package` is of npm, or of PyPI for our own Python programs."""

    name: str
    package: str
    dialect: str
    model: str
    command: Callable[[Place], Command]
    #: How often the answer must be printed at least.
    answers: int = 1
    is_python: bool = False

    def version(self, installation: Installation) -> str | None:
        """Return the installed version, None if it is not installed."""
        return pypi_version(self.package) if self.is_python else installation.npm_version(self.package)


# Command-line tools


def _configured(
    name: str, place: Place, additions: str | Mapping[str, object] = "", *, key: str | None
) -> dict[str, str]:
    """Set a tool up as `python -m proxy clients NAME` says; return the environment of its shell.

    The additions, for its file, keep it from calling home and asking questions.
    """
    client = find(name)
    assert client is not None
    environ: dict[str, str] = {}
    for step in client.steps(target(place.url, place.model, key)):
        content = step.content or ""
        if step.file is not None:
            path = place.home / step.file.removeprefix("~/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_with(content, additions))
        elif content.startswith("export "):
            environ |= _exported(content, place)
    return environ


def _with(content: str, additions: str | Mapping[str, object]) -> str:
    if isinstance(additions, str):
        return additions + content
    return json.dumps(json.loads(content) | additions)


def _exported(lines: str, place: Place) -> dict[str, str]:
    """Return the variables that a shell has after these lines."""
    environ = {"PATH": os.defpath, VARIABLE: place.key}
    command = ["sh", "-euc", f"{lines}\nenv -0"]
    printed = subprocess.run(command, env=environ, capture_output=True, check=True, text=True).stdout
    found = dict(line.split("=", 1) for line in printed.split("\0") if line)
    return {name: found[name] for name in re.findall(r"^export (\w+)=", lines, re.MULTILINE)}


def _codex(place: Place) -> Command:
    quiet = "check_for_update_on_startup = false\nanalytics = {enabled = false}\n"
    environ = _configured("codex", place, quiet, key=place.key)
    script = place.installation.script("@openai/codex/bin/codex.js")
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    return Command([*script, "exec", *options, PROMPT], environ)


_CLAUDE_QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}


def _claude(place: Place) -> Command:
    environ = _configured("claude-code", place, key=place.key)
    return Command(_claude_arguments(place), environ | _CLAUDE_QUIET)


def _claude_arguments(place: Place) -> list[str]:
    script = place.installation.script("@anthropic-ai/claude-code/cli-wrapper.cjs")
    return [*script, "-p", PROMPT, "--allowedTools", "Bash(cat:*)"]


def _claude_by_environment(place: Place) -> Command:
    """Without a file, with the other way to give a key, and without names of models: it uses its own."""
    environ = {"ANTHROPIC_BASE_URL": place.url, "ANTHROPIC_API_KEY": place.key}
    return Command(_claude_arguments(place), environ | _CLAUDE_QUIET)


def _router(place: Place) -> Command:
    """Claude Code Router: Claude Code talks to it, and it talks to the gateway."""
    alone = {"PORT": place.port, "LOG": False, "NON_INTERACTIVE_MODE": True}
    _configured("claude-code-router", place, alone, key=None)
    router = place.installation.script("@musistudio/claude-code-router/dist/cli.js")
    here = f"http://127.0.0.1:{place.port}"
    environ = {VARIABLE: place.key, "ANTHROPIC_BASE_URL": here, "ANTHROPIC_AUTH_TOKEN": "any"}
    return Command(_claude_arguments(place), environ | _CLAUDE_QUIET, service=[*router, "start"])


def _qwen(place: Place, **settings: object) -> Command:
    quiet = {"privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}}
    environ = _configured("qwen-code", place, quiet | settings, key=place.key)
    script = place.installation.script("@qwen-code/qwen-code/cli-entry.js")
    return Command([*script, "--yolo", "-p", PROMPT], environ)


def _qwen_responses(place: Place) -> Command:
    return _qwen(place, security={"auth": {"selectedType": "openai-responses"}})


def _qwen_anthropic(place: Place) -> Command:
    command = _qwen(place, security={"auth": {"selectedType": "anthropic"}})
    names = ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_MODEL")
    environ = dict(zip(names, (place.url, place.key, place.model), strict=True))
    return Command(command.arguments, environ)


def _opencode(place: Place) -> Command:
    _configured("opencode", place, {"autoupdate": False, "share": "disabled"}, key=None)
    program = min(place.installation.modules.glob("opencode-*-*/bin/opencode*"))  # one for a kind of machine
    environ = {VARIABLE: place.key, "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    return Command([str(program), "run", PROMPT], environ)


def _cline(place: Place) -> Command:
    """Its command line sets itself up, by a command."""
    client = find("cline")
    assert client is not None
    (_, step) = client.steps(target(place.url, place.model, None))
    program = min(place.installation.modules.glob("@cline/cli-*/bin/cline*"))  # one for a kind of machine
    script = f"{step.content}\nexec cline {shlex.quote(PROMPT)}"
    path = os.pathsep.join([str(program.parent), os.defpath])
    return Command(["sh", "-euc", script], {"PATH": path, VARIABLE: place.key})


# SDKs, each driven by a program of ours


def _python(script: str) -> Callable[[Place], Command]:
    return lambda place: Command([sys.executable, str(_SDK / script)], _sdk_environ(place))


def _node(script: str) -> Callable[[Place], Command]:
    def command(place: Place) -> Command:
        # Node looks for packages beside the program that imports them.
        (place.home / "node_modules").symlink_to(place.installation.modules)
        copied = shutil.copy(_SDK / script, place.home)
        return Command([str(place.installation.node), str(copied)], _sdk_environ(place))

    return command


def _python_sdk(package: str, dialect: str, answers: int) -> Program:
    command = _python(f"{package}_{dialect}.py")
    return Program(f"{package} python, {dialect}", package, dialect, _SDK_MODEL, command, answers, True)


def _node_sdk(name: str, dialect: str, answers: int) -> Program:
    package = {"anthropic": "@anthropic-ai/sdk"}.get(name, name)
    command = _node(f"{name}_{dialect}.mjs")
    return Program(f"{name} node, {dialect}", package, dialect, _SDK_MODEL, command, answers)


def _sdk_environ(place: Place) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": f"{place.url}/v1",
        "OPENAI_API_KEY": place.key,
        "ANTHROPIC_BASE_URL": place.url,
        "ANTHROPIC_API_KEY": place.key,
        "MODEL": place.model,
        "PROMPT": PROMPT,
    }


#: Not a name that its vendor gives, but what every model can be called by here.
_OTHERS = f"{PROVIDER}/{MODEL}"
_CODEX = "@openai/codex"
_CLAUDE = "@anthropic-ai/claude-code"
_QWEN = "@qwen-code/qwen-code"

PROGRAMS = (
    # Codex offers other tools, in other forms, to models that it knows.
    Program("codex, model of others", _CODEX, "responses", _OTHERS, _codex),
    Program("codex, gpt-5.5", _CODEX, "responses", "gpt-5.5", _codex),
    Program("codex, gpt-6-sol", _CODEX, "responses", "gpt-6-sol", _codex),
    Program("claude code", _CLAUDE, "messages", "claude-opus-5-5", _claude_by_environment),
    Program("claude code, model of others", _CLAUDE, "messages", _OTHERS, _claude),
    Program("claude code router", "@musistudio/claude-code-router", "chat", _OTHERS, _router),
    Program("qwen code", _QWEN, "chat", "qwen3-max", _qwen),
    Program("qwen code, responses", _QWEN, "responses", "qwen3-max", _qwen_responses),
    Program("qwen code, messages", _QWEN, "messages", "qwen3-max", _qwen_anthropic),
    Program("opencode", "opencode-ai", "chat", _OTHERS, _opencode),
    Program("cline", "cline", "chat", _OTHERS, _cline),
    _node_sdk("openai", "chat", 2),
    _node_sdk("openai", "responses", 2),
    _node_sdk("anthropic", "messages", 2),
    _python_sdk("openai", "chat", 3),
    _python_sdk("openai", "responses", 2),
    _python_sdk("anthropic", "messages", 2),
)
