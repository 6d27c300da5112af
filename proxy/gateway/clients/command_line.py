"""Coding tools of the command line; tests/clients runs them with what is written here."""

import shlex

from proxy.gateway.clients.client import (
    VARIABLE,
    Client,
    Step,
    Target,
    exports,
    json_file,
    literal,
    shell,
)

_QUIET = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"


def _codex(target: Target) -> tuple[Step, ...]:
    config = f"""\
model = {literal(target.model)}
model_provider = "sluice"

[model_providers.sluice]
name = "Sluice"
base_url = {literal(target.v1)}
env_key = "{VARIABLE}"
wire_api = "responses\""""
    return (
        Step("Write this, or add it to what is there.", config, "toml", "~/.codex/config.toml"),
        shell("Give it the key.", exports({VARIABLE: shlex.quote(target.key_text)})),
        shell("Start it.", "codex"),
    )


def _claude_code(target: Target) -> tuple[Step, ...]:
    models = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{kind}_MODEL" for kind in ("OPUS", "SONNET", "HAIKU")))
    environment = {
        "ANTHROPIC_BASE_URL": target.root,
        "ANTHROPIC_AUTH_TOKEN": target.key_text,
        **dict.fromkeys(models, target.model),
        _QUIET: "1",
    }
    return (
        json_file(
            "Write this, or add `env` to what is there.", "~/.claude/settings.json", {"env": environment}
        ),
        shell("Start it.", "claude"),
    )


def _claude_code_router(target: Target) -> tuple[Step, ...]:
    provider = {
        "name": "sluice",
        "api_base_url": f"{target.v1}/chat/completions",
        "api_key": target.key_or(f"${VARIABLE}"),
        "models": [target.model],
        "transformer": {"use": ["cleancache"]},
    }
    configuration = {"Providers": [provider], "Router": {"default": f"sluice,{target.model}"}}
    return (
        json_file("Write this.", "~/.claude-code-router/config.json", configuration),
        shell("Start both.", "ccr code"),
    )


def _qwen_code(target: Target) -> tuple[Step, ...]:
    variables = {
        "OPENAI_BASE_URL": shlex.quote(target.v1),
        "OPENAI_API_KEY": target.key_in_shell,
        "OPENAI_MODEL": shlex.quote(target.model),
    }
    return (
        json_file(
            "Write this, or add it to what is there.",
            "~/.qwen/settings.json",
            {"security": {"auth": {"selectedType": "openai"}}},
        ),
        shell("Tell it the address, the key and the model.", exports(variables)),
        shell("Start it.", "qwen"),
    )


def _opencode(target: Target) -> tuple[Step, ...]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Sluice",
        "options": {"baseURL": target.v1, "apiKey": target.key_or(f"{{env:{VARIABLE}}}")},
        "models": {target.model: {}},
    }
    configuration = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"sluice/{target.model}",
        "provider": {"sluice": provider},
    }
    return (
        json_file(
            "Write this, here or as `opencode.json` of a project.",
            "~/.config/opencode/opencode.json",
            configuration,
        ),
        shell("Start it.", "opencode"),
    )


def _openclaw(target: Target) -> tuple[Step, ...]:
    provider = {
        "baseUrl": target.v1,
        "apiKey": target.key_or(f"${{{VARIABLE}}}"),
        "api": "openai-completions",
        "models": [{"id": target.model, "name": target.model}],
    }
    configuration = {
        "agents": {"defaults": {"model": {"primary": f"sluice/{target.model}"}}},
        "models": {"mode": "merge", "providers": {"sluice": provider}},
    }
    return (
        json_file("Write this, or add it to what is there.", "~/.openclaw/openclaw.json", configuration),
        shell("Check it, and restart its gateway.", "openclaw config validate\nopenclaw gateway restart"),
    )


def _aider(target: Target) -> tuple[Step, ...]:
    configuration = f"""\
openai-api-base: {literal(target.v1)}
model: {literal(f"openai/{target.model}")}"""
    return (
        Step("Write this, here or in a project.", configuration, "yaml", "~/.aider.conf.yml"),
        shell("Give it the key.", exports({"OPENAI_API_KEY": target.key_in_shell})),
        shell("Start it.", "aider"),
    )


CODING_TOOLS = (
    Client(
        "codex",
        "Codex CLI",
        "command line",
        _codex,
        notes=(
            "For a model that it does not know it warns of missing metadata; `model_context_window = 128000`"
            ", above the table, tells it the window.",
        ),
        dialect="responses",
    ),
    Client(
        "claude-code",
        "Claude Code",
        "command line",
        _claude_code,
        notes=(
            "Without the four settings of models it asks for `claude-…` models, which a wildcard of "
            "`models:` can answer.",
            f"`{_QUIET}` turns off what it sends elsewhere.",
        ),
        dialect="messages",
        aliases=("claude",),
    ),
    Client(
        "claude-code-router",
        "Claude Code Router",
        "command line",
        _claude_code_router,
        notes=(
            "Sluice translates for Claude Code itself: this is needed only for the router's own routing.",
            "`cleancache` removes Anthropic's cache markers, which other providers may refuse.",
            "Version 2; version 3.1.1 cannot be installed (2026-11).",
        ),
        aliases=("ccr",),
    ),
    Client(
        "qwen-code",
        "Qwen Code",
        "command line",
        _qwen_code,
        notes=(
            '`"openai-responses"` works with the same variables, `"anthropic"` with `ANTHROPIC_BASE_URL` '
            "(without `/v1`), `ANTHROPIC_API_KEY` and `ANTHROPIC_MODEL`.",
        ),
        aliases=("qwen",),
    ),
    Client(
        "opencode",
        "OpenCode",
        "command line",
        _opencode,
        notes=("Each model to choose from stands in `models`; `sluice/` before it is OpenCode's own.",),
    ),
    Client(
        "openclaw",
        "OpenClaw",
        "command line",
        _openclaw,
        notes=(
            "Each model to choose from stands in `models`; `sluice/` before it is OpenClaw's own.",
            "`contextWindow` and `maxTokens` beside `id` tell it the limits of the model.",
        ),
    ),
    Client(
        "aider",
        "aider",
        "command line",
        _aider,
        notes=("`openai/` before the model is aider's own.",),
    ),
)
