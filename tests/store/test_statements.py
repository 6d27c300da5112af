"""SQL is text that stands in the source; values reach it as parameters only."""

import ast
from pathlib import Path

import pytest

import proxy.store

FOLDER = Path(proxy.store.__file__).parent

RUNNING = {"execute", "executemany", "executescript", "execute_fetchall", "fetch_all", "fetch_one"}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_no_statement_is_put_together(file: Path) -> None:
    tree = ast.parse(file.read_text())
    statements = [
        call.args[0]
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in RUNNING
    ]
    assert [ast.unparse(text) for text in statements if not isinstance(text, (ast.Constant, ast.Name))] == []
    assigned = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        and isinstance(node.value, (ast.JoinedStr, ast.BinOp))
    ]
    words = ("SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA", "FROM", "WHERE", "VALUES")
    assert [ast.unparse(node) for node in assigned if any(word in ast.unparse(node) for word in words)] == []


def test_there_are_statements_to_look_at() -> None:
    assert sum(file.read_text().count(".execute(") for file in FOLDER.glob("*.py")) > 20
