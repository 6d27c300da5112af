"""Mending what some providers send."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway.repair import Repair, ThinkTags


def delta(part: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": part, "finish_reason": finish}]}


def mended(*parts: dict[str, Any], names: tuple[str, ...]) -> tuple[list[Any], Counter[str]]:
    engaged: Counter[str] = Counter()
    repair = Repair(names, engaged.update)
    last = len(parts) - 1
    chunks = [repair.chunk(delta(part, "stop" if i == last else None)) for i, part in enumerate(parts)]
    return [chunk["choices"][0]["delta"] for chunk in chunks], engaged


def call(arguments: str, **more: Any) -> dict[str, Any]:
    return {"function": {"arguments": arguments}, **more}


def test_calls_without_an_index_get_one_by_their_id_or_go_on_with_the_last() -> None:
    parts, engaged = mended(
        {"tool_calls": [call("{", id="a")]},
        {"tool_calls": [call("}")]},
        {"tool_calls": [call("[", id="b")]},
        {"tool_calls": [call("]", id="a")]},
        {"tool_calls": [call("x", index=7)]},
        names=("tool_index",),
    )
    assert [part["tool_calls"][0]["index"] for part in parts] == [0, 0, 1, 0, 7]
    assert engaged["tool_index"] == 4


def test_each_choice_has_calls_and_thoughts_of_its_own() -> None:
    repair = Repair(("tool_index", "think_tags"), Counter().update)

    def texts(*contents: str) -> list[tuple[str, str]]:
        choices = [{"index": i, "delta": {"content": content}} for i, content in enumerate(contents)]
        mended = [choice["delta"] for choice in repair.chunk({"choices": choices})["choices"]]
        return [(part.get("reasoning_content", ""), part["content"]) for part in mended]

    assert texts("<think>a", "b") == [("a", ""), ("", "b")]
    assert texts("</think>c", "<think>") == [("", "c"), ("", "<think>")]
    for index in (0, 1):
        part = {"tool_calls": [call("{}", id=f"call_{index}")]}
        repair.chunk({"choices": [{"index": index, "delta": part}]})
        assert part["tool_calls"][0]["index"] == 0


def test_what_is_held_back_comes_at_the_end() -> None:
    repair = Repair(("think_tags",), Counter().update)
    assert repair.rest() is None
    first, second = ({"index": i, "delta": {"content": text}} for i, text in ((0, "<thi"), (1, "<think>a</")))
    repair.chunk({"id": "chatcmpl-1", "model": "m", "choices": [first, second]})
    assert repair.rest() == {
        "id": "chatcmpl-1",
        "model": "m",
        "choices": [
            {"index": 0, "delta": {"content": "<thi"}, "finish_reason": None},
            {"index": 1, "delta": {"reasoning_content": "</"}, "finish_reason": None},
        ],
    }
    assert repair.rest() is None


def test_a_lone_call_becomes_a_list() -> None:
    (part,), _ = mended({"tool_calls": call("{}", id="a")}, names=("tool_index",))
    assert part["tool_calls"] == [call("{}", id="a", index=0)]


def test_reasoning_gets_its_usual_name() -> None:
    parts, engaged = mended(
        {"reasoning": "hm"}, {"reasoning": "x", "reasoning_content": "y"}, names=("reasoning_alias",)
    )
    assert parts == [{"reasoning_content": "hm"}, {"reasoning": "x", "reasoning_content": "y"}]
    assert engaged == {"reasoning_alias": 1}


def test_nothing_is_mended_unasked() -> None:
    part = {"reasoning": "hm", "content": "<think>a</think>b", "tool_calls": call("{}")}
    parts, engaged = mended(dict(part), names=())
    assert (parts, engaged) == ([part], {})


@pytest.mark.parametrize(
    "chunk", [{}, {"choices": None}, {"choices": [None]}, {"choices": [{"delta": None}]}]
)
def test_what_has_no_known_shape_stays(chunk: dict[str, Any]) -> None:
    names = ("tool_index", "reasoning_alias", "think_tags")
    assert Repair(names, Counter().update).chunk(dict(chunk)) == chunk


def test_a_whole_answer() -> None:
    answer = {
        "choices": [{"message": {"content": "<think>hm</think>\n\nHi", "tool_calls": [call("{}", id="a")]}}]
    }
    repair = Repair(("think_tags", "tool_index"), Counter().update)
    assert repair.whole(answer)["choices"][0]["message"] == {
        "content": "Hi",
        "reasoning_content": "hm",
        "tool_calls": [call("{}", id="a")],
    }


@pytest.mark.parametrize(
    ("text", "thoughts", "rest"),
    [
        ("Hi", "", "Hi"),
        ("", "", ""),
        ("<think>a</think>b", "a", "b"),
        ("\n<think>\na\n</think>\n\nb", "\na\n", "b"),
        ("<think></think>b", "", "b"),
        ("<think>a", "a", ""),
        ("<thin", "", "<thin"),
        ("a <think>b</think>", "", "a <think>b</think>"),
        ("<think>a </thin b</think>c", "a </thin b", "c"),
    ],
)
@given(cuts=st.lists(st.integers(0, 40), max_size=6))
def test_think_tags_in_any_pieces(text: str, thoughts: str, rest: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(edges)] or [""]
    tags = ThinkTags()
    split = [tags.split(piece, is_last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    assert "".join(thought for thought, _ in split) == thoughts
    assert "".join(part for _, part in split).lstrip("\n") == rest
