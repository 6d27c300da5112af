"""What client tools are told: each kind of file is read back by its own parser. docs/clients.md"""

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config.schema import Server
from proxy.gateway.clients.address import server_url
from proxy.gateway.clients.catalog import CLIENTS, client_object, find, near
from proxy.gateway.clients.client import VARIABLE, Client, Step, Target, UnfitValue, target

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8484"
# Whatever a shell, a quote or a template would trip over.
EVIL = "it's \"$(exit 7)\" `id` \\ $HOME ${HOME} {x} é; # \\'"
HOSTILE = target(URL, f"m {EVIL}", f"k {EVIL}")
PLAIN = target(URL, "deepseek/deepseek-v4-pro", "sk-sluice-0123456789")
WITHOUT_KEY = target(URL, "deepseek/deepseek-v4-pro")

REQUIRED = {
    *("openai-python", "openai-node", "curl", "codex", "claude-code", "qwen-code", "openclaw", "opencode"),
    *("cline", "cursor", "cherry-studio", "chatbox", "dify", "claude-code-router", "lingma", "qoder"),
    "aider",
}
# It takes no address: there is nothing to write.
UNREACHABLE = {"lingma"}


def strings(value: Any) -> set[str]:
    """Return the texts in JSON, TOML or YAML values, names included."""
    if isinstance(value, dict):
        return set(value) | strings(list(value.values()))
    if isinstance(value, list):
        return set().union(*map(strings, value))
    return {str(value)}


def shell_words(content: str) -> set[str]:
    """Run the lines in a shell; return the variables they set, or the arguments of their command."""
    program = re.match(r"\w+", content)
    assert program is not None
    exporting = program[0] == "export"
    function = f"{program[0]}() {{ printf '%s\\0' \"$@\"; }}\n"
    script = f"{content}\nenv -0" if exporting else function + content
    result = subprocess.run(["sh", "-euc", script], env={VARIABLE: "x"}, capture_output=True, check=True)
    words = result.stdout.decode().split("\0")
    if exporting:
        return {word.partition("=")[2] for word in words}
    return set(words).union(*(strings(json.loads(word)) for word in words if word.startswith("{")))


def python_words(content: str) -> set[str]:
    return {str(node.value) for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Constant)}


def js_words(content: str) -> set[str]:
    return {json.loads(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"', content)}


def field_values(content: str) -> set[str]:
    return {line.partition(": ")[2] for line in content.splitlines()}


READERS = {
    "json": lambda content: strings(json.loads(content)),
    "toml": lambda content: strings(tomllib.loads(content)),
    "yaml": lambda content: strings(yaml.safe_load(content)),
    "sh": shell_words,
    "python": python_words,
    "js": js_words,
    "text": field_values,
}


def words(client: Client, aim: Target) -> set[str]:
    """Return every value that the steps of a client hold, as the readers of their languages see them."""
    found: set[str] = set()
    for step in client.steps(aim):
        if step.content is not None:
            assert step.language is not None
            found |= READERS[step.language](step.content)
    return found


def test_all_clients_are_there() -> None:
    assert {client.name for client in CLIENTS} == REQUIRED
    assert [client.name for client in CLIENTS if client.needs_public_address] == ["cursor"]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
class TestEachClient:
    def test_its_files_and_commands_hold_even_the_strangest_texts(self, client: Client) -> None:
        if client.name in UNREACHABLE:
            pytest.skip("it takes no address")
        found = words(client, HOSTILE)
        model, key = HOSTILE.model, HOSTILE.key
        assert found & {model, f"openai/{model}"}
        assert found & {key, f"Authorization: Bearer {key}"}
        addresses = {HOSTILE.root, HOSTILE.v1, f"{HOSTILE.v1}/chat/completions"}
        assert found & addresses

    def test_without_a_key_it_says_where_the_key_goes(self, client: Client) -> None:
        if client.name in UNREACHABLE:
            pytest.skip("it takes no key")
        content = "\n".join(step.content or "" for step in client.steps(WITHOUT_KEY))
        assert VARIABLE in content or "sk-sluice-…" in content

    def test_a_place_for_the_key_stands_where_the_key_would(self, client: Client) -> None:
        def content(key: str) -> list[str | None]:
            return [step.content for step in client.steps(target(URL, "m", key))]

        quoted = [text and text.replace("'{{KEY}}'", "{{KEY}}") for text in content("{{KEY}}")]
        assert [text and text.replace("{{KEY}}", "sk-sluice-1") for text in quoted] == content("sk-sluice-1")

    def test_its_texts_are_sentences_on_one_line(self, client: Client) -> None:
        for text in (*(step.text for step in client.steps(PLAIN)), *client.notes):
            assert text.isprintable()
            assert text[-1] == ".", text
            assert len(text) < 300

    def test_steps_are_whole(self, client: Client) -> None:
        for step in client.steps(PLAIN):
            assert (step.content is None) == (step.language is None)
            assert step.content is None or step.content == step.content.strip()
            assert step.file is None or step.content is not None

    def test_it_is_found_by_its_name_title_and_aliases(self, client: Client) -> None:
        for word in (client.name, client.title.upper(), *client.aliases):
            assert find(word) is client, word

    def test_the_documentation_shows_what_is_generated(self, client: Client) -> None:
        for step in client.steps(WITHOUT_KEY):
            if step.content is not None:
                assert f"```{step.language}\n{step.content}\n```" in PAGE, f"{client.name}: {step.content}"
            if step.file is not None and step.file.startswith("~"):
                assert f"`{step.file}`" in PAGE
        assert re.search(rf"^## {re.escape(client.title)}$", PAGE, re.MULTILINE), client.title


def test_one_object_is_what_the_api_shows() -> None:
    client = find("codex")
    assert client is not None
    shown = client_object(client, PLAIN)
    assert shown["name"] == "codex"
    assert shown["kind"] == "command line"
    assert shown["dialect"] == "responses"
    assert shown["needs_public_address"] is False
    assert shown["steps"][0].keys() == {"text", "file", "content", "language"}
    assert shown["steps"][0]["file"] == "~/.codex/config.toml"
    assert all(isinstance(note, str) for note in shown["notes"])


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_the_dialect_is_that_of_the_address_it_is_given(client: Client) -> None:
    told = "\n".join(step.content or "" for step in client.steps(PLAIN))
    assert (PLAIN.root in told) is (client.dialect is not None)
    assert ("ANTHROPIC_BASE_URL" in told) is (client.dialect == "messages")
    assert ('wire_api = "responses"' in told) is (client.dialect == "responses")


def test_names_that_are_nearly_right() -> None:
    assert find("codx") is None
    assert near("codx") == ["codex"]
    assert near("Claude Cod") == ["claude-code", "claude-code-router"]
    assert near("xyzzy") == []
    assert find("Claude_Code") is find("claude")


def test_cursor_says_when_an_address_cannot_be_reached() -> None:
    def steps(url: str) -> tuple[Step, ...]:
        client = find("cursor")
        assert client is not None
        return client.steps(target(url, "m"))

    assert "is not public" in steps(URL)[0].text
    assert len(steps("https://llm.example.com")) == len(steps(URL)) - 1


@pytest.mark.parametrize(
    "url",
    [URL, f"{URL}/", f"{URL}/v1", f"{URL}/v1/"],
)
def test_a_base_url_may_end_in_v1(url: str) -> None:
    assert target(url, "m") == Target(URL, "m")


def test_a_prefix_stays() -> None:
    assert target("https://a.example/llm/api/v1", "m").v1 == "https://a.example/llm/api/v1"


@pytest.mark.parametrize(
    ("url", "model", "key", "name"),
    [
        ("ftp://a.example", "m", None, "base_url"),
        ("a.example:8484", "m", None, "base_url"),
        ("http://user@a.example", "m", None, "base_url"),
        ("http://a.example/?x=1", "m", None, "base_url"),
        ("http://a.example/\n", "m", None, "base_url"),
        ("", "m", None, "base_url"),
        (URL, "", None, "model"),
        (URL, " ", None, "model"),
        (URL, "a\nb", None, "model"),
        (URL, "a\x1b[0m", None, "model"),
        (URL, "m", "", "key"),
        (URL, "m", "k\r", "key"),
    ],
)
def test_what_cannot_be_written_down_is_refused(url: str, model: str, key: str | None, name: str) -> None:
    with pytest.raises(UnfitValue) as caught:
        target(url, model, key)
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("server", "url"),
    [
        (Server(), "http://127.0.0.1:8484"),
        (Server(host="0.0.0.0", port=80), "http://127.0.0.1:80"),
        (Server(host="::"), "http://[::1]:8484"),
        (Server(host="fd00::1"), "http://[fd00::1]:8484"),
        (Server(host="192.168.1.5"), "http://192.168.1.5:8484"),
        (Server(host="0.0.0.0", allowed_hosts=("gw.example.com",)), "http://gw.example.com:8484"),
        (Server(host="0.0.0.0", allowed_hosts=("*.example.com",)), "http://sluice.example.com:8484"),
        (Server(allowed_hosts=("gw.example.com",)), "http://127.0.0.1:8484"),
        (Server(port=0), "http://127.0.0.1:8484"),
    ],
)
def test_where_a_server_is_reached_by_its_configuration(server: Server, url: str) -> None:
    assert server_url(server) == url
