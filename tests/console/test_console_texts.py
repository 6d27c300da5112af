"""Both languages say everything: the Chinese texts are those that the pages use."""

import re
from pathlib import Path

from proxy.gateway.clients.catalog import CLIENTS
from proxy.gateway.clients.client import Target
from proxy.web import console

FOLDER = Path(console.__file__).parent / "console"
TEXT = r'"((?:[^"\\\n]|\\.)*)"'


def chinese(file: str) -> dict[str, str]:
    lines = (FOLDER / file).read_text().splitlines()
    found = [re.fullmatch(rf"  (?:{TEXT}|(\w+)): {TEXT},", line) for line in lines if line.startswith("  ")]
    assert all(found)
    return {(match[1] or match[2]).replace('\\"', '"'): match[3] for match in found if match}


def pages() -> str:
    return "\n".join(path.read_text() for path in FOLDER.rglob("*.js") if not path.name.startswith("zh"))


def tools(target: Target) -> set[str]:
    steps = (step.text for client in CLIENTS for step in client.steps(target))
    return {*steps, *(note for client in CLIENTS for note in client.notes)}


def test_every_text_has_its_chinese() -> None:
    assert set(re.findall(rf"\bt\({TEXT}", pages())) <= chinese("zh.js").keys()


def test_no_chinese_is_left_over() -> None:
    assert chinese("zh.js").keys() <= set(re.findall(TEXT, pages()))


def test_values_stand_in_both() -> None:
    for text, other in chinese("zh.js").items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", other)), text


def test_what_is_said_of_tools_has_its_chinese() -> None:
    """Except what names the address or the model: that is said anew for each."""
    fixed = tools(Target("http://a.example", "a")) & tools(Target("http://127.0.0.1:1", "b"))
    assert fixed == chinese("zh-tools.js").keys()
