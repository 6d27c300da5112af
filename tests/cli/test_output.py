"""What commands print."""

import pytest

from proxy.cli.output import Output, cell, fields, table


def test_figures_stand_to_the_right_and_text_to_the_left() -> None:
    rows = [("a", 1, "1.50", None), ("long name", 1000, "-20.00", True)]
    assert table(("NAME", "COUNT", "COST", "X"), rows, empty="") == (
        "NAME       COUNT    COST  X\na              1    1.50  -\nlong name   1000  -20.00  yes"
    )


def test_chinese_takes_two_columns() -> None:
    assert table(("NAME", "X"), [("团队", "y"), ("team", "z")], empty="") == "NAME  X\n团队  y\nteam  z"


def test_a_table_without_rows_is_a_sentence() -> None:
    assert table(("NAME",), [], empty="Nothing yet.") == "Nothing yet."


def test_fields_are_aligned() -> None:
    assert fields({"id": "x", "account": ["a", "b"]}) == "id       x\naccount  a, b"
    assert fields({}) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (False, "no"),
        (0, "0"),
        (["a", "b"], "a, b"),
        ("\x1b[31mred\r\n", "\\x1b[31mred\\r\\n"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("模型", "模型"),
    ],
)
def test_values_are_one_line_and_cannot_command_the_terminal(value: object, text: str) -> None:
    assert cell(value) == text


def test_json_is_for_programs_and_where_there_is_no_text() -> None:
    assert Output({"name": "团队"}, "text").shown(as_json=False) == "text"
    assert Output({"name": "团队"}, "text").shown(as_json=True) == '{\n  "name": "团队"\n}'
    assert Output([1]).shown(as_json=False) == "[\n  1\n]"
