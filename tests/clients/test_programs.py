"""The programs people use, with each kind of provider behind the gateway. docs/clients.md

Those of npm run where `scripts/clients --install` has put them, here with the provider that needs
the most translation, and with all kinds among the slow tests; those of SLOW are only there.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.programs.installation import Installation
from tests.clients.programs.programs import PROGRAMS, Command, Program
from tests.clients.programs.script import DIALECTS, DIRECT, KINDS, Kind, faults_of
from tests.clients.programs.stage import Stage

INSTALLATION = Installation.usual()
#: 20 s, and a program that is run in its first protocol.
SLOW = {"cline", "qwen code, responses", "qwen code, messages"}


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(request.param, tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def case(kind: Kind, program: Program) -> object:
    slow = not program.is_python and (kind is not KINDS[0] or program.name in SLOW)
    return pytest.param(
        kind, program, id=f"{program.name} - {kind.name}", marks=[pytest.mark.slow] if slow else []
    )


CASES = [case(kind, program) for kind in KINDS for program in PROGRAMS]


@pytest.mark.timeout(180)  # a program that is refused tries again, and again
@pytest.mark.parametrize(("stage", "program"), CASES, indirect=["stage"])
def test_tools_are_called_and_answered(stage: Stage, program: Program, tmp_path: Path) -> None:
    if program.version(INSTALLATION) is None:
        pytest.skip(f"{program.package} is not installed: scripts/clients --install")
    assert stage.run(program, INSTALLATION, tmp_path / "program") == []


# The harness itself


def python(code: str, answers: int) -> Program:
    return Program(
        "python", "pytest", "chat", "m", lambda place: Command([sys.executable, "-c", code]), answers, True
    )


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        (python("pass", 1), "the answer was printed 0 times"),
        (python("1 / 0", 0), "ZeroDivisionError"),
        (python("open('third.txt', 'w').write('other')", 0), "another patch"),
    ],
    ids=["silent", "broken", "wrong patch"],
)
def test_a_program_that_fails_is_told(tmp_path: Path, program: Program, fault: str) -> None:
    with Stage(DIRECT, tmp_path) as stage:
        (found,) = stage.run(program, INSTALLATION, tmp_path / "program")
    assert fault in found


USER = {"role": "user", "content": "Hi"}
CHAT_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT_CALLS = {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]}
CHAT_RESULT = {"role": "tool", "tool_call_id": "c", "content": "x"}
USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "x"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}

GOOD: dict[str, list[dict[str, Any]]] = {
    "chat": [{"messages": [USER]}, {"messages": [USER, CHAT_CALLS, CHAT_RESULT]}],
    "messages": [
        {"max_tokens": 1, "messages": [USER]},
        {"max_tokens": 1, "messages": [USER, USE, {"role": "user", "content": [RESULT]}]},
    ],
    "responses": [{"input": "Hi"}, {"input": [USER, CALL, OUTPUT]}],
}
BAD: dict[str, list[tuple[dict[str, Any], str]]] = {
    "chat": [
        ({"messages": []}, "no messages"),
        ({"messages": [USER], "instructions": "x"}, "another dialect: instructions"),
        ({"messages": [USER], "max_tokens": 1, "max_completion_tokens": 1}, "two limits"),
        ({"messages": [USER], "stream_options": {}}, "without stream"),
        ({"messages": [USER], "tool_choice": "auto"}, "without tools"),
        ({"messages": [USER], "tools": [{"type": "custom"}]}, "malformed"),
        ({"messages": [USER, {"role": "system", "content": "x"}]}, "not the first"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "the role 'developer'"),
        ({"messages": [USER, CHAT_CALLS]}, "no results of c"),
        ({"messages": [USER, CHAT_CALLS, USER, CHAT_RESULT]}, "before the results of c"),
        ({"messages": [USER, CHAT_RESULT]}, "which nobody called"),
        ({"messages": [{"role": "user", "content": None}]}, "the content None"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "odd parts"),
    ],
    "messages": [
        ({"max_tokens": 1, "messages": []}, "not the user's"),
        ({"messages": [USER]}, "max_tokens is None"),
        ({"max_tokens": 1, "messages": [USER], "stop": "x"}, "another dialect: stop"),
        ({"max_tokens": 1, "messages": [USER], "tool_choice": "auto"}, "tool_choice is 'auto'"),
        ({"max_tokens": 1, "messages": [USER], "tools": [{"name": "f"}]}, "the input of f is no object"),
        ({"max_tokens": 1, "messages": [USER, USE]}, "no results of c"),
        ({"max_tokens": 1, "messages": [USER, USE, USER]}, "wanted are those of ['c']"),
        ({"max_tokens": 1, "messages": [{"role": "user", "content": " "}]}, "an empty content"),
        ({"max_tokens": 1, "messages": [{"role": "tool", "content": "x"}]}, "the role 'tool'"),
    ],
    "responses": [
        ({"input": []}, "no input"),
        ({"input": "Hi", "messages": []}, "another dialect: messages"),
        ({"input": [USER, CALL]}, "no results of c"),
        ({"input": [USER, OUTPUT]}, "which nobody called"),
        ({"input": [{"role": "tool", "content": "x"}]}, "the role 'tool'"),
        ({"input": "Hi", "tools": [{"type": "function", "name": "a b"}]}, "the tool's name a b"),
    ],
}


@pytest.mark.parametrize(("dialect", "body"), [(name, body) for name in GOOD for body in GOOD[name]])
def test_the_script_takes_proper_requests(dialect: str, body: dict[str, Any]) -> None:
    assert faults_of(DIALECTS[dialect], body) == []


@pytest.mark.parametrize(("dialect", "body", "fault"), [(name, *case) for name in BAD for case in BAD[name]])
def test_the_script_refuses_what_providers_refuse(dialect: str, body: dict[str, Any], fault: str) -> None:
    assert fault in "; ".join(faults_of(DIALECTS[dialect], body))
