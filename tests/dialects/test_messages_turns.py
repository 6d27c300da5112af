"""Turns, and the results that belong behind their calls."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.messages_turns import NO_RESULT, Block, Turn, merged, paired, text_block

Fields = dict[str, Any]


def call(id: str) -> Block:
    return Block("m", {"type": "tool_use", "id": id, "name": "f", "input": {}})


def result(id: object, content: object = "done") -> Block:
    return Block("m", {"type": "tool_result", "tool_use_id": id, "content": content})


def shown(turns: list[Turn]) -> list[str]:
    """Return turns as one line each: U text, +call, =result."""
    return [
        turn.role[0].upper() + "".join(f" {_word(block.value)}" for block in turn.blocks) for turn in turns
    ]


def _word(value: Fields) -> str:
    match value["type"]:
        case "tool_use":
            return f"+{value['id']}"
        case "tool_result":
            missing = "!" if value["content"] == NO_RESULT else ""
            return f"={value['tool_use_id']}{missing}"
    return str(value["text"])


def test_neighbours_are_merged_and_empty_turns_left_out() -> None:
    first = [text_block("a")]
    turns = [Turn("user", first), Turn("assistant", []), Turn("user", [text_block("b")])]
    assert shown(merged(turns)) == ["U a b"]
    assert len(first) == 1


def test_results_come_directly_behind_their_calls_in_their_order() -> None:
    turns = [
        Turn("user", [text_block("go")]),
        Turn("assistant", [text_block("ok"), call("a"), call("b")]),
        Turn("system", [text_block("note")]),
        Turn("user", [text_block("so"), result("b"), result("a"), text_block("on")]),
    ]
    assert shown(paired(turns)) == ["U go", "A ok +a +b", "U =a =b", "S note", "U so on"]


def test_results_and_text_share_a_turn() -> None:
    turns = [Turn("assistant", [call("a")]), Turn("user", [text_block("x"), result("a")])]
    assert shown(paired(turns)) == ["A +a", "U =a x"]


def test_missing_results_are_made_up() -> None:
    turns = [Turn("assistant", [call("a"), call("b")]), Turn("user", [result("b"), text_block("x")])]
    assert shown(paired(turns)) == ["A +a +b", "U =a! =b x"]
    assert shown(paired(turns[:1])) == ["A +a +b", "U =a! =b!"]


def test_results_without_their_calls_are_text() -> None:
    orphans = [result("a"), result("b", [{"type": "text", "text": "t"}, "no block"]), result(None, None)]
    assert shown(paired([Turn("user", orphans)])) == [
        "U Result of an earlier tool call: done Result of an earlier tool call: t"
        " Result of an earlier tool call: (no result)"
    ]


def test_a_result_counts_once_and_only_until_the_next_answer() -> None:
    turns = [
        Turn("assistant", [call("a")]),
        Turn("user", [result("a"), result("a", "again")]),
        Turn("assistant", [text_block("ok")]),
        Turn("user", [result("a", "late")]),
    ]
    assert shown(paired(turns)) == [
        "A +a",
        "U =a Result of an earlier tool call: again",
        "A ok",
        "U Result of an earlier tool call: late",
    ]


def test_calls_of_one_id_each_have_their_result() -> None:
    turns = [Turn("assistant", [call("0"), call("0")]), Turn("user", [result("0", "1"), result("0", "2")])]
    [_, results] = paired(turns)
    assert [block.value["content"] for block in results.blocks] == ["1", "2"]


ids = st.sampled_from(["a", "b", "c"])
blocks = st.one_of(ids.map(call), ids.map(result), st.just(text_block("x")))


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    roles = draw(st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=8))
    return [
        Turn(role, [block for block in draw(st.lists(blocks, max_size=4)) if _may_say(role, block)])
        for role in roles
    ]


def _may_say(role: str, block: Block) -> bool:
    return block.kind == "text" or (block.kind == "tool_use") == (role == "assistant")


@given(conversations())
def test_every_call_has_its_result_and_every_result_its_call(turns: list[Turn]) -> None:
    out = paired(merged(turns))
    for position, turn in enumerate(out):
        assert turn.blocks
        assert position == 0 or out[position - 1].role != turn.role
        wanted = [block.value["id"] for block in turn.blocks if block.kind == "tool_use"]
        following = out[position + 1].blocks if position + 1 < len(out) else []
        got = [block.value["tool_use_id"] for block in following if block.kind == "tool_result"]
        assert got == wanted
        assert [block.kind for block in following[: len(got)]] == ["tool_result"] * len(got)
