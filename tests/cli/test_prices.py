"""`prices import` and `prices clear`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG, Run
from tests.cli.test_serve import serving
from tests.config.test_litellm import FILE, GPT

pytestmark = pytest.mark.usefixtures("folder")

OPENAI = "  openai: {api_key: sk-up, models: [gpt-4o, gpt-9]}"


@pytest.fixture
def prices(folder: Path) -> str:
    (folder / "config.yaml").write_text(CONFIG.replace("  demo:", f"{OPENAI}\n  demo:"))
    file = FILE | {
        "gpt-9": GPT | {"input_cost_per_token": 1.15e-06},
        "broken": {"litellm_provider": "nobody"},
    }
    (folder / "prices.json").write_text(json.dumps(file))
    return "prices.json"


def sources(run: Run) -> dict[str, str | None]:
    entries = run("models", "--json").json
    return {entry["id"]: entry["price_source"] for entry in entries}


def test_an_import_from_beginning_to_end(run: Run, prices: str) -> None:
    assert sources(run) == {
        "fast": "configuration",
        "quick": "configuration",
        "openai/gpt-4o": "catalogue",
        "openai/gpt-9": None,
        "demo/echo": "free",
    }
    made = run("prices", "import", prices)
    assert made.status == 0
    assert made.out.splitlines() == [
        "Read 11 entries of prices.json.",
        "Taken: 7 (ali 1, anthropic 1, azure 1, openai 3, openrouter 1)",
        "Skipped: 3 of providers without a preset",
        "Skipped: 1 not billed by tokens of text",
    ]
    assert sources(run)["openai/gpt-9"] == "imported"
    assert "imported, " in run("models").out
    assert "(0 days)" in run("models").out
    assert run("prices", "clear").out == "Forgot the 7 models of prices.json.\n"
    assert run("prices", "clear").out == "Nothing was imported.\n"
    assert sources(run)["openai/gpt-9"] is None


def test_a_dry_run_changes_nothing(run: Run, prices: str) -> None:
    made = run("prices", "import", prices, "--dry-run")
    assert made.out.endswith("A dry run: nothing was changed.\n")
    assert sources(run)["openai/gpt-9"] is None
    assert run("prices", "import", prices, "--dry-run", "--json").json == {
        "file": "prices.json",
        "dry_run": True,
        "entries": 11,
        "taken": 7,
        "taken_by_preset": {"openai": 3, "azure": 1, "anthropic": 1, "ali": 1, "openrouter": 1},
        "unpriced": 0,
        "skipped": {"of providers without a preset": 3, "not billed by tokens of text": 1},
        "rounded": 0,
    }


def test_what_was_rounded_and_what_has_no_price_is_said(run: Run, folder: Path) -> None:
    file = {
        "a": GPT | {"input_cost_per_token": 1.23456789012345678e-06},
        "b": GPT
        | {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "cache_read_input_token_cost": 0.0},
    }
    (folder / "prices.json").write_text(json.dumps(file))
    lines = run("prices", "import", "prices.json", "--dry-run").out.splitlines()
    assert "Without a price, but with limits: 1 of them" in lines
    assert "Rounded: 1 amounts finer than nine places per million tokens" in lines


def test_check_knows_what_was_imported(run: Run, prices: str, folder: Path) -> None:
    text = CONFIG + "  mine: {routes: [openai/gpt-9]}\n"
    (folder / "config.yaml").write_text(text.replace("  demo:", f"{OPENAI}\n  demo:"))
    assert "openai/gpt-9 has no price" in run("check").out
    run("prices", "import", prices)
    assert "has no price" not in run("check").out


def test_a_running_server_takes_it_over(run: Run, prices: str) -> None:
    with serving() as server:
        assert run("prices", "import", prices).status == 0
        assert sources(run)["openai/gpt-9"] == "imported"
        assert server.process.poll() is None
        assert run("check").status == 0
    assert sources(run)["openai/gpt-9"] == "imported"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("nonsense", "not JSON"),
        ('{"m": {"x": 1}}', "not LiteLLM's price file"),
        (
            json.dumps({"gpt-4o": GPT | {"input_cost_per_token": -1}}),
            '"gpt-4o": input_cost_per_token: expected',
        ),
        (json.dumps({"m": GPT | {"litellm_provider": "nobody"}}), "has no model of a provider with a preset"),
        (" " * (33 << 20), "larger than 32 MiB"),
    ],
    ids=["missing", "nonsense", "another", "negative", "strange", "large"],
)
def test_a_file_that_cannot_be_used(run: Run, folder: Path, content: str | None, said: str) -> None:
    if content is not None:
        (folder / "prices.json").write_text(content)
    result = run("prices", "import", "prices.json")
    assert (result.status, result.out) == (2, "")
    assert said in result.err
    assert len(result.err.splitlines()) == 1
    assert not (folder / "sluice.db").exists()


@pytest.mark.parametrize(
    "arguments", [("prices",), ("prices", "import"), ("prices", "clear", "x")], ids=" ".join
)
def test_wrong_use(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).status == 2
