"""References to the environment and to files."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.references import MAX_FILE_BYTES, References, Value
from tests.support.configuration import configuration, problems

# What an environment can hold: any text without null characters. YAML's own signs come up often.
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.text("${}[]:-#&*!|>'\"%@`, \n\tref0_xaA", min_size=1),
)
WORD = st.text("re${}fx0123456789_-: ", max_size=30)


def overrides(text: str, **environ: str) -> object:
    config = configuration(f"providers: {{ollama: {{overrides: {{set: {text}}}}}}}", **environ)
    return config.providers["ollama"].overrides.set


@given(VALUES)
def test_any_value_arrives_as_it_is(value: str) -> None:
    expected = {"plain": value, "single": value, "double": value, "amid": f"a {value}-b", "two": value * 2}
    text = "{plain: ${V}, single: '${V}', double: \"${V}\", amid: a ${V}-b, two: ${V}${V}}"
    assert overrides(text, V=value) == expected


@given(VALUES)
def test_any_value_of_block_style_arrives_as_it_is(value: str) -> None:
    text = """\
        providers:
          ollama:
            overrides:
              set:
                plain: ${V}   # ${GONE}
                block: |-
                  a ${V}
                  b
    """
    config = configuration(text, V=value)
    assert config.providers["ollama"].overrides.set == {"plain": value, "block": f"a {value}\nb"}


@given(VALUES)
def test_any_value_arrives_as_a_default(value: str) -> None:
    assert overrides("{a: ${V:-fallback}}", V=value) == {"a": value}


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="}\x85")))
def test_any_default_arrives_as_it_is(default: str) -> None:
    if "${" not in default and not default.endswith("$"):
        assert overrides(f"{{a: ${{V:-{default}}}}}") == {"a": default}


@given(WORD)
def test_text_without_references_is_left_alone(text: str) -> None:
    if "${" not in text:
        references = References(f"{text} ${{A}}", {}, Path())
        assert references.value(text) == Value(text, in_clear=True)


@given(WORD, st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
def test_what_stands_around_a_reference_is_left_alone(text: str, value: str) -> None:
    if "${" not in f"{text}$" and not text.startswith("file:"):
        references = References(f"{text}${{A}}{text}", {"A": value}, Path())
        assert references.replaced(references.hidden).text == f"{text}{value}{text}"
        assert references.as_written(references.hidden) == f"{text}${{A}}{text}"


def test_a_mark_that_the_file_forges_is_text() -> None:
    assert overrides(r'{a: "\x72ef0_ \x72ef9_", b: ${V}}', V="v") == {"a": "v ref9_", "b": "v"}


def test_values_take_the_type_of_their_key_only_as_a_whole() -> None:
    assert configuration("server: {port: '${PORT}'}", PORT="81").server.port == 81
    assert configuration("console: ${CONSOLE}", CONSOLE="FALSE").console is False
    assert problems("server: {port: 8${PORT}}", PORT="1") == [
        "config.yaml:1: server.port: expected a whole number from 0 to 65535, not text"
    ]


def test_an_empty_default_is_nothing_where_nothing_is_allowed() -> None:
    config = configuration("limits: {default_plan: ${PLAN:-}}\nplans: {a: {rpm: ${RPM:-}}}")
    assert (config.limits.default_plan, config.plans["a"].limits.rpm) == (None, None)
    assert problems("server: {port: ${PORT}}", PORT="") == [
        "config.yaml:1: server.port: expected a whole number from 0 to 65535, not the value of ${PORT}"
    ]


def test_names_may_hold_references() -> None:
    assert list(configuration("plans: {${PLAN}-x: {}}", PLAN="pro").plans) == ["pro-x"]
    assert problems("plans: {pro: {}, ${PLAN}: {}}", PLAN="pro") == [
        "config.yaml:1: plans.pro: duplicate key (first on line 1)"
    ]


def test_a_variable_that_is_not_utf8_is_refused() -> None:
    assert problems("database: ${D}", D="\udcff.db") == [
        "config.yaml:1: database: the environment variable D is not UTF-8 text"
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [("sk-1", "sk-1"), ("sk-1\n", "sk-1"), ("sk-1\r\n", "sk-1"), ("81\n", "81"), ("${A}", "${A}")],
    ids=json.dumps,
)
def test_a_file_gives_its_text_without_the_last_line_break(
    tmp_path: Path, content: str, expected: str
) -> None:
    (tmp_path / "key.txt").write_bytes(content.encode())
    config = configuration("api_key: file:key.txt", tmp_path / "config.yaml")
    assert config.api_key is not None
    assert config.api_key.reveal() == expected


def test_a_file_takes_the_type_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("81\n")
    text = "server: {port: file:${FOLDER}/port}"
    assert configuration(text, FOLDER=str(tmp_path)).server.port == 81


def test_a_variable_is_never_a_file() -> None:
    assert configuration("database: ${D}", D="file:sluice.db").database == Path("/etc/sluice/file:sluice.db")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a" * (MAX_FILE_BYTES + 1), "is larger than 65536 bytes"),
        (b"\xff", "is not UTF-8 text"),
        (b"", None),
    ],
    ids=["too large", "no text", "empty"],
)
def test_a_file_that_is_no_secret_is_refused(tmp_path: Path, content: bytes, reason: str | None) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    [line] = problems("providers: {ali: {api_key: file:key}}", tmp_path / "config.yaml")
    place = "config.yaml:1: providers.ali.api_key"
    if reason:
        assert line == f'{place}: the file "{path}" {reason}'
    else:
        assert line == f'{place}: expected a secret, but the file "{path}" is empty'


def test_a_path_that_no_system_takes_is_refused() -> None:
    [line] = problems('api_key: "file:a\\0b"')
    assert (
        line == 'config.yaml:1: api_key: the file "/etc/sluice/a\\u0000b" cannot be read: embedded null byte'
    )
