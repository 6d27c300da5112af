"""YAML as nodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.nodes import MAX_DEPTH, Items, Node, Scalar, Table, parse_yaml
from proxy.config.problems import Invalid


def plain(node: Node) -> object:
    """Return a node as Python's own types."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Items):
        return [plain(child) for child in node.nodes]
    return {key.text: plain(child) for key, child in node.entries}


def refusal(text: str) -> tuple[int, str]:
    with pytest.raises(Invalid) as raised:
        parse_yaml(text)
    return raised.value.problem.line, raised.value.problem.message


def test_nodes_know_their_lines() -> None:
    node = parse_yaml("a: 1\nb:\n  - x\n  - {y:\n      z}\n")
    y = Table(4, ((Scalar(4, "y", True), Scalar(5, "z", True)),))
    assert node == Table(
        1,
        (
            (Scalar(1, "a", True), Scalar(1, "1", True)),
            (Scalar(2, "b", True), Items(3, (Scalar(3, "x", True), y))),
        ),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "nothing"), ("~", "nothing"), ("null", "nothing"), ("NULL", "nothing"), ("nUll", "text"),
        ("true", "true or false"), ("False", "true or false"), ("yes", "text"), ("off", "text"),
        ("0", "a number"), ("-12", "a number"), ("0x1F", "a number"), ("0o17", "a number"),
        ("1.5", "a number"), (".5", "a number"), ("1.", "a number"), ("1e3", "a number"),
        ("-.inf", "a number"), (".NaN", "a number"), ("1_000", "text"), ("1:30", "text"),
        ("2027-01-31", "text"), ("٣", "text"),
    ],
)  # fmt: skip
def test_plain_scalars_have_the_types_of_the_core_schema(text: str, expected: str) -> None:
    assert Scalar(1, text, plain=True).type == expected
    assert Scalar(1, text, plain=False).type == "text"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x {k: v}\nb: *x\n", {"a": {"k": "v"}, "b": {"k": "v"}}),
        (
            "a: &x {k: v, l: w}\nb: {<<: *x, k: own}\n",
            {"a": {"k": "v", "l": "w"}, "b": {"k": "own", "l": "w"}},
        ),
        ("b: {<<: [{k: 1}, {k: 2, l: 2}], m: 3}\n", {"b": {"m": "3", "k": "1", "l": "2"}}),
        ("'<<': a\n", {"<<": "a"}),
        ("a: &x 1\nb: &x 2\nc: *x\n", {"a": "1", "b": "2", "c": "2"}),
    ],
    ids=["alias", "own key wins", "first source wins", "quoted", "redefined anchor"],
)
def test_aliases_and_merges(text: str, expected: object) -> None:
    assert plain(parse_yaml(text)) == expected


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1\nb: 2\n", 2, "not valid YAML: "),
        ("a: b: c\n", 1, "not valid YAML: mapping values are not allowed "),
        ("a:\n\t- x\n", 2, "not valid YAML: found character "),
        ("a: 'b\n", 1, "not valid YAML: found unexpected end of stream"),
        ("%YAML 3.0\n---\na: 1\n", 1, "not valid YAML: found incompatible YAML document"),
        ("a: 1\n<<: [1]\n", 2, "<< merges mappings, not a number"),
        ("a: 1\nb: \x00\n", 2, "character U+0000 is not allowed in YAML"),
        ("a: \ufffe\n", 1, "character U+FFFE is not allowed in YAML"),
    ],
)
def test_what_is_not_yaml_is_refused(text: str, line: int, message: str) -> None:
    found_line, found_message = refusal(text)
    assert found_line == line
    assert found_message.startswith(message)


@pytest.mark.parametrize("sign", ["[", "{a: ", "- "], ids=["lists", "mappings", "blocks"])
def test_depth_is_bounded(sign: str) -> None:
    parse_yaml("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert refusal(sign * 200_000) == (1, "nested more than 50 deep")


def test_aliases_count_as_what_they_stand_for() -> None:
    levels = "".join(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]\n" for level in range(1, 9))
    assert refusal(f"l0: &l0 [a]\n{levels}") == (
        6,
        "more than 100000 values, aliases counted as what they name",
    )


def test_values_are_bounded() -> None:
    assert refusal("[" + "a," * 100_001 + "]") == (
        1,
        "more than 100000 values, aliases counted as what they name",
    )


@given(st.text("{}[]:-#&*!|>'\"%@`, \n\tab<1?~", max_size=40))
def test_any_text_is_a_document_or_refused_with_its_line(text: str) -> None:
    try:
        parse_yaml(text)
    except Invalid as error:
        problem = error.problem
    else:
        return
    assert 0 <= problem.line <= text.rstrip().count("\n") + 1
    assert problem.message
