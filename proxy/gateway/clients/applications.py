"""Editors, chat programs and builders of applications: what is typed into their dialogs.

Tests can run none of them but Cline's command line. The others say by which documents, and of when.
"""

import shlex

from proxy.config.urls import host_of, is_private
from proxy.gateway.clients.client import Client, Step, Target, form, json_file, shell

_CONTAINER = "From a container the host is `host.docker.internal`; `server.host` must then be `0.0.0.0`."


def _cline(target: Target) -> tuple[Step, ...]:
    login = (
        f"cline auth --provider openai-compatible --apikey {target.key_in_shell} \\\n"
        f"  --modelid {shlex.quote(target.model)} --baseurl {shlex.quote(target.v1)}"
    )
    fields = {
        "API Provider": "OpenAI Compatible",
        "Base URL": target.v1,
        "OpenAI Compatible API Key": target.key_text,
        "Model ID": target.model,
    }
    return (
        form("In the editor: the gear of Cline's panel, Settings, API Configuration.", fields),
        shell("On the command line: set it up once, then start `cline`.", login),
    )


def _cursor(target: Target) -> tuple[Step, ...]:
    fields = {
        "OpenAI API Key": target.key_text,
        "Override OpenAI Base URL": target.v1,
        "Add model": target.model,
    }
    reachable = () if not is_private(host_of(target.root)) else (_unreachable(target.root),)
    return (*reachable, form("Cursor Settings, Models, API Keys.", fields))


def _unreachable(root: str) -> Step:
    return Step(
        f"{root} is not public, and Cursor will refuse it: give Sluice a public https name behind a proxy "
        "that ends TLS, and use that as base URL."
    )


def _cherry_studio(target: Target) -> tuple[Step, ...]:
    fields = {
        "Provider Type": "OpenAI",
        "API Key": target.key_text,
        "API Host": target.root,
        "Model ID": target.model,
    }
    return (form("Settings, Model Provider, Add; then Add under Models.", fields),)


def _chatbox(target: Target) -> tuple[Step, ...]:
    fields = {
        "API Mode": "OpenAI API Compatible",
        "API Key": target.key_text,
        "API Host": target.root,
        "API Path": "/v1/chat/completions",
        "Model ID": target.model,
    }
    return (form("Settings, Model Provider, Add; then New under Model.", fields),)


def _dify(target: Target) -> tuple[Step, ...]:
    fields = {
        "Model Type": "LLM",
        "Model Name": target.model,
        "API Key": target.key_text,
        "API endpoint URL": target.v1,
        "model name for API endpoint": target.model,
        "Completion mode": "Chat",
        "Function calling": "Tool Call",
        "Stream function calling": "Support",
    }
    return (
        Step("Install the plugin OpenAI-API-compatible: Integrations, Model Provider."),
        form("Add Model on its card.", fields),
    )


def _qoder(target: Target) -> tuple[Step, ...]:
    provider = {
        "type": "openai-compatible",
        "baseUrl": target.v1,
        "apiKey": target.key_text,
        "models": [{"model": target.model}],
    }
    return (
        json_file(
            "For Qoder CLI: write this, or add it to what is there.",
            "~/.qoder/settings.json",
            {"providers": {"sluice": provider}},
        ),
        shell("Log in at Qoder, which it wants all the same; choose the model with `/model`.", "qodercli"),
    )


def _lingma(target: Target) -> tuple[Step, ...]:
    return (
        Step(
            "Lingma, now Qoder CN, cannot be pointed at Sluice: it has its own models, and by API key those "
            "of the providers it lists, but no setting for an address."
        ),
        Step(f"In the same editor, Cline can use {target.model} of {target.v1}."),
    )


APPLICATIONS = (
    Client(
        "cline",
        "Cline",
        "application",
        _cline,
        notes=("The fields are those of docs.cline.bot, 2026-11.",),
    ),
    Client(
        "cursor",
        "Cursor",
        "application",
        _cursor,
        notes=(
            "It calls from its vendor's servers: the base URL must be a public https address, and the key "
            "lies with a third party, so give it tight limits.",
            "It needs a paid plan. While the override is on, its other OpenAI models are asked here too; "
            "completion with Tab is not (ngrok.com and forum.cursor.com, 2026-11).",
        ),
        needs_public_address=True,
    ),
    Client(
        "cherry-studio",
        "Cherry Studio",
        "application",
        _cherry_studio,
        notes=("It adds `/v1/chat/completions` to the host itself (docs.cherry-ai.com, 2026-11).",),
        aliases=("cherry",),
    ),
    Client(
        "chatbox",
        "Chatbox",
        "application",
        _chatbox,
        notes=("In a browser it needs its origin in `server.cors_origins` (2026-11).",),
    ),
    Client(
        "dify",
        "Dify",
        "application",
        _dify,
        notes=(
            "Dify Cloud calls from its own servers, and needs a public https address.",
            _CONTAINER,
            "Fields as of the plugin's form (docs.dify.ai, 2026-11).",
        ),
    ),
    Client(
        "lingma",
        "Lingma",
        "application",
        _lingma,
        notes=("help.aliyun.com/en/lingma/qoder-cn/user-guide/custom-model, 2026-11.",),
        dialect=None,
    ),
    Client(
        "qoder",
        "Qoder",
        "application",
        _qoder,
        notes=(
            "The editor takes keys of the providers it lists, but no address (docs.qoder.com, 2026-11).",
            "Qoder CLI 1.1.52 reads these settings without complaint (2026-11); calls were not tried, for "
            "want of an account. Its documents name only the dialog of `/model`, Custom, which may offer a "
            "custom URL, too.",
        ),
        aliases=("qodercli",),
    ),
)
