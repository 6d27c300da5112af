"""The house tests itself: directions, names, documents."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "proxy"
FILES = sorted(PACKAGE.rglob("*.py"))

#: From top to bottom: each may import what stands below it, and its own folder.
ROWS = [
    *("__main__", "cli", "app", "web", "gateway", "store", "upstream", "dialects", "logs", "config"),
    *("core", "__init__"),
]
#: Side by side: neither may know the other.
APART = [("store", "upstream"), ("upstream", "dialects"), ("store", "config"), ("dialects", "config")]
#: What does I/O, or reads clocks or chance.
IMPURE = {"asyncio", "socket", "ssl", "sqlite3", "time", "random", "secrets", "os", "threading", "logging"}


def row(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> list[tuple[int, str]]:
    """Return the line and full name of everything imported, at the top of the file or not."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def test_imports_go_down() -> None:
    wrong = []
    for path in FILES:
        here = row(path)
        for line, name in imports(path):
            if not name.startswith("proxy."):
                continue
            there = name.split(".")[1]
            there = there if there in ROWS else "__init__"  # `from proxy import __version__`
            upward = ROWS.index(there) < ROWS.index(here)
            if upward or (here, there) in APART:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_core_does_no_io() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in FILES
        if row(path) == "core"
        for line, name in imports(path)
        if name.split(".")[0] in IMPURE
    ]
    assert not wrong, "\n".join(wrong)


def counts_seconds(node: ast.Assign) -> bool:
    """Return whether a constant is one of seconds, as its name says: `RETRY_S`."""
    return all(isinstance(target, ast.Name) and target.id.endswith("_S") for target in node.targets)


def test_money_is_no_float() -> None:
    for name in (
        "core/pricing.py",
        "core/money.py",
        "core/funding.py",
        "core/spending.py",
        "config/prices.py",
        "config/catalogue.py",
        "config/litellm.py",
        "store/ledger.py",
        "store/funds.py",
        "gateway/costing.py",
        "gateway/funds.py",
        "gateway/treasury.py",
    ):
        tree = ast.parse((PACKAGE / name).read_text())
        seconds = [node.value for node in tree.body if isinstance(node, ast.Assign) and counts_seconds(node)]
        for node in ast.walk(tree):
            assert node in seconds or not (
                isinstance(node, ast.Constant) and isinstance(node.value, float)
            ), name
            assert not (isinstance(node, ast.Name) and node.id == "float"), name
            assert not (
                isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and name != "core/money.py"
            )


def test_modules_are_not_named_like_the_standard_librarys() -> None:
    names = {path.stem for path in FILES if not path.stem.startswith("__")}
    assert names & sys.stdlib_module_names == set()


def test_imports_stand_at_the_top() -> None:
    """Only the command line imports later: what a command needs, serving does not."""
    wrong = []
    for path in FILES:
        if row(path) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [item for item in ast.walk(node) if isinstance(item, ast.Import | ast.ImportFrom)]
                wrong += [f"{path.relative_to(ROOT)}:{item.lineno}" for item in inner]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "ARCHITECTURE.md"]
)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)\s#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_code_cites_documents_that_exist() -> None:
    cited = {
        name
        for path in [*FILES, *(ROOT / "tests").rglob("*.py")]
        for name in re.findall(r"\bdocs/[\w/.-]+\.md", path.read_text())
    }
    assert {name for name in cited if not (ROOT / name).exists()} == set()
