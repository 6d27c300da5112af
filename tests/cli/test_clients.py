"""`clients`, with the server stopped and running."""

import json
import tomllib
from pathlib import Path

import pytest

from proxy.store.lock import InstanceLock
from tests.cli.conftest import CONFIG, Run

pytestmark = pytest.mark.usefixtures("folder")


def test_the_list(run: Run) -> None:
    result = run("clients")
    assert result.status == 0
    assert result.out.splitlines()[0].split() == ["NAME", "TITLE", "KIND", "NEEDS", "A", "PUBLIC", "ADDRESS"]
    assert "claude-code-router" in result.out


def test_the_list_as_json(run: Run) -> None:
    listed = run("clients", "--json").json
    assert len(listed) == 17
    assert {"name", "title", "kind", "dialect", "needs_public_address", "steps", "notes"} == listed[0].keys()


def test_one_client_uses_what_the_configuration_says(run: Run) -> None:
    result = run("clients", "codex")
    assert result.status == 0
    assert '[~/.codex/config.toml]\n\nmodel = "fast"\n' in result.out
    assert 'base_url = "http://127.0.0.1:8484/v1"' in result.out
    assert "export SLUICE_API_KEY='sk-sluice-…'\n" in result.out


def test_everything_can_be_given(run: Run) -> None:
    options = ("--key", "sk-sluice-'1", "--model", 'a "b"', "--base-url", "https://gw.example.com/v1")
    steps = run("clients", "Codex CLI", "--json", *options).json["steps"]
    config = tomllib.loads(steps[0]["content"])
    assert config["model"] == 'a "b"'
    assert config["model_providers"]["sluice"]["base_url"] == "https://gw.example.com/v1"
    assert steps[1]["content"] == "export SLUICE_API_KEY='sk-sluice-'\"'\"'1'"


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:9"), ("192.168.1.5", "http://192.168.1.5:9")],
)
def test_an_address_that_stands_for_all_is_none(run: Run, folder: Path, host: str, url: str) -> None:
    (folder / "config.yaml").write_text(CONFIG + f"server: {{host: {host}, port: 9}}\n")
    assert f'"ANTHROPIC_BASE_URL": "{url}"' in run("clients", "claude-code").out


@pytest.mark.parametrize(
    ("configured", "listens", "url"),
    [
        ("{port: 0}", "http://127.0.0.1:4711", "http://127.0.0.1:4711"),
        ("{host: 127.0.0.1}", "http://192.168.1.5:4711", "http://192.168.1.5:4711"),
        (
            "{host: 0.0.0.0, allowed_hosts: [gw.example.com]}",
            "http://127.0.0.1:4711",
            "http://gw.example.com:4711",
        ),
    ],
    ids=["free port", "other host", "allowed name"],
)
def test_a_running_server_says_where_it_is(
    run: Run, folder: Path, configured: str, listens: str, url: str
) -> None:
    (folder / "config.yaml").write_text(CONFIG + f"server: {configured}\n")
    lock = InstanceLock(folder / "sluice.db")
    lock.acquire()
    try:
        lock.publish(listens, "secret")
        result = run("clients", "claude-code", "--json")
    finally:
        lock.release()
    (file, _) = result.json["steps"]
    assert json.loads(file["content"])["env"]["ANTHROPIC_BASE_URL"] == url


def test_an_unknown_name(run: Run) -> None:
    result = run("clients", "codx")
    assert (result.status, result.out) == (1, "")
    assert result.err == "There is no client 'codx'. Did you mean: codex\n"
    assert "There are: openai-python, " in run("clients", "xyzzy").err


@pytest.mark.parametrize(
    ("option", "value"), [("--base-url", "localhost"), ("--model", ""), ("--key", "a\nb")], ids=str
)
def test_a_wrong_value(run: Run, option: str, value: str) -> None:
    result = run("clients", "codex", option, value)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"{option}: ")


def test_nothing_is_written(run: Run, folder: Path) -> None:
    run("clients", "codex")
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
