"""OpenAI's SDKs, and curl."""

import json
import shlex

from proxy.gateway.clients.client import VARIABLE, Client, Step, Target, literal, shell

_ENVIRONMENT = "In place of arguments it takes `OPENAI_BASE_URL` and `OPENAI_API_KEY` from the environment."


def _openai_python(target: Target) -> tuple[Step, ...]:
    key = f'os.environ["{VARIABLE}"]' if target.key is None else literal(target.key)
    imports = "import os\n\n" if target.key is None else ""
    program = f"""\
{imports}from openai import OpenAI

client = OpenAI(base_url={literal(target.v1)}, api_key={key})
answer = client.chat.completions.create(
    model={literal(target.model)},
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(answer.choices[0].message.content)"""
    return (
        shell("Install the library.", "pip install openai"),
        Step("A first program.", program, "python", "hello.py"),
    )


def _openai_node(target: Target) -> tuple[Step, ...]:
    key = f"process.env.{VARIABLE}" if target.key is None else literal(target.key)
    program = f"""\
import OpenAI from "openai";

const client = new OpenAI({{ baseURL: {literal(target.v1)}, apiKey: {key} }});
const answer = await client.chat.completions.create({{
  model: {literal(target.model)},
  messages: [{{ role: "user", content: "Hello!" }}],
}});
console.log(answer.choices[0].message.content);"""
    return (
        shell("Install the library.", "npm install openai"),
        Step("A first program.", program, "js", "hello.mjs"),
    )


def _curl(target: Target) -> tuple[Step, ...]:
    bearer = "Authorization: Bearer "
    header = f'"{bearer}${VARIABLE}"' if target.key is None else shlex.quote(bearer + target.key)
    body = {"model": target.model, "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
    request = f"""\
curl -N {shlex.quote(f"{target.v1}/chat/completions")} \\
  -H {header} \\
  -H 'Content-Type: application/json' \\
  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"""
    return (shell("A first request.", request),)


LIBRARIES = (
    Client(
        "openai-python",
        "openai for Python",
        "library",
        _openai_python,
        notes=(_ENVIRONMENT,),
        aliases=("openai", "python"),
    ),
    Client(
        "openai-node", "openai for Node", "library", _openai_node, notes=(_ENVIRONMENT,), aliases=("node",)
    ),
    Client("curl", "curl", "command line", _curl),
)
