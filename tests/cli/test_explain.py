"""`explain`, with the server stopped: who would be asked, in which order."""

from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG, Run

pytestmark = pytest.mark.usefixtures("folder")

MORE = """
  both:
    routes:
      - demo/a
      - {provider: spare, model: b, priority: 2, weight: 3}
      - {provider: absent, model: c, priority: 3}
fallbacks: {both: [fast]}
"""
PROVIDERS = """
  spare: {base_url: "http://127.0.0.1:9/v1", api_keys: [first-secret-1111, second-secret-2222]}
  absent: {preset: deepseek}
"""


@pytest.fixture(autouse=True)
def routes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    demo = "  demo: {preset: echo}\n"
    (folder / "config.yaml").write_text(CONFIG.replace(demo, demo + PROVIDERS.lstrip("\n")).rstrip() + MORE)


def test_the_order_is_a_table(run: Run) -> None:
    result = run("explain", "both")
    assert (result.status, result.err) == (0, "")
    names, _, header, *rows = result.out.splitlines()
    assert names == "both"
    assert header.split() == ["PROVIDER", "MODEL", "KEY", "PRIORITY", "WEIGHT", "STATE", "WHY"]
    cells = [row.split() for row in rows if row.strip()]
    assert [row[0] for row in cells] == ["1", "2", "3", "4", "5"]
    assert [row[1] for row in cells] == ["demo", "spare", "spare", "demo", "absent"]
    assert "…1111" in rows[1]
    assert "…2222" in rows[2]
    assert "absent is inactive: DEEPSEEK_API_KEY is empty" in result.out
    assert "secret" not in result.out


def test_an_alias_shows_where_it_leads(run: Run) -> None:
    assert run("explain", "quick").out.startswith("quick → fast\n")


def test_the_object_as_json(run: Run) -> None:
    explained = run("explain", "both", "--json").json
    assert explained.keys() == {"model", "names", "candidates"}
    states = [(row["provider"], row["state"], row["fallback"]) for row in explained["candidates"]]
    assert states == [
        ("demo", "ready", None),
        ("spare", "ready", None),
        ("spare", "ready", None),
        ("demo", "ready", "fast"),
        ("absent", "skipped", None),
    ]


def test_as_a_pinned_provider(run: Run) -> None:
    explained = run("explain", "both", "--provider", "spare", "--json").json
    ready = [row["provider"] for row in explained["candidates"] if row["state"] == "ready"]
    assert ready == ["spare", "spare"]


def test_as_an_api_key(run: Run) -> None:
    key = run("key", "create", "--name", "narrow", "--models", "both", "--providers", "demo", "--json").json
    explained = run("explain", "both", "--key", key["id"], "--json").json
    ready = [(row["provider"], row["fallback"]) for row in explained["candidates"] if row["state"] == "ready"]
    assert ready == [("demo", None)]
    refused = run("explain", "fast", "--key", key["id"])
    assert refused.status == 1
    assert "may not use the model 'fast'" in refused.err


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("nothing",), 1, "nothing"),
        (("both", "--provider", "nobody"), 2, "There is no provider 'nobody'"),
        (("both", "--key", "key_x"), 1, "There is no API key key_x"),
        ((), 2, "MODEL"),
    ],
    ids=["model", "provider", "key", "none"],
)
def test_errors(run: Run, arguments: tuple[str, ...], status: int, told: str) -> None:
    result = run("explain", *arguments)
    assert (result.status, result.out) == (status, "")
    assert told in result.err
