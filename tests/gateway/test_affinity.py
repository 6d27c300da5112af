"""What makes turns one conversation, and how long it is known who served it."""

from typing import Any

import msgspec
import pytest

from proxy.gateway import affinity as affinity_module
from proxy.gateway.affinity import AFFINITY_NS, Affinity, Conversation, Served, conversation_of
from proxy.gateway.request import (
    CHAT,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    ClientRequest,
    Endpoint,
    read_json,
)

A, B = Served("a", "x", b"1"), Served("b", "x", b"2")


def request(endpoint: Endpoint, **members: Any) -> ClientRequest:
    return read_json(endpoint, [], msgspec.json.encode({"model": "m", "max_tokens": 9, **members}))


def conversation(endpoint: Endpoint, key: str = "k", **members: Any) -> Conversation:
    found = conversation_of(request(endpoint, **members), key)
    assert found is not None
    return found


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "Hi."}
CACHED = {"cache_control": {"type": "ephemeral"}}
CALL = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}

# Of each conversation the first turn, a later one, and first turns of others.
CASES: dict[str, tuple[Endpoint, dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = {
    "chat": (
        CHAT,
        {"messages": [SYSTEM, user("Hello")]},
        {"messages": [SYSTEM, user("Hello"), ANSWER, user("More")], "temperature": 1},
        [
            {"messages": [user("Hello")]},
            {"messages": [SYSTEM, user("Hello!")]},
            {"messages": [{**SYSTEM, "content": "Be long."}, user("Hello")]},
            {"messages": [SYSTEM, SYSTEM, user("Hello")]},
            {"messages": [SYSTEM, user("Hello")], "model": "n"},
        ],
    ),
    "messages": (
        MESSAGES,
        {"system": [text("Be brief.", **CACHED)], "messages": [user([text("Hello", **CACHED)])]},
        {
            "system": [text("Be brief.", **CACHED)],
            "messages": [user([text("Hello")]), ANSWER, user([text("More", **CACHED)])],
        },
        [
            {"messages": [user([text("Hello", **CACHED)])]},
            {"system": "Be long.", "messages": [user("Hello")]},
            {"system": [text("Be brief.", **CACHED)], "messages": [user([text("Hello!")])]},
        ],
    ),
    "responses": (
        RESPONSES,
        {"instructions": "Be brief.", "input": "Hello"},
        {"instructions": "Be brief.", "input": [user("Hello"), ANSWER, CALL, user("More")]},
        [
            {"input": "Hello"},
            {"instructions": "Be long.", "input": "Hello"},
            {"instructions": "Be brief.", "input": [CALL, user("Hello")]},
            {"instructions": "Be brief.", "input": [user("Hello!")]},
        ],
    ),
}


@pytest.mark.parametrize(("endpoint", "first", "later", "others"), CASES.values(), ids=CASES)
def test_turns_of_one_conversation_are_known_by_its_beginning(
    endpoint: Endpoint, first: dict[str, Any], later: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    begun = conversation(endpoint, **first)
    assert not begun.continues
    assert conversation(endpoint, **later) == Conversation(begun.id, continues=True)
    ids = {begun.id, conversation(endpoint, "another key", **first).id}
    ids |= {conversation(endpoint, **other).id for other in others}
    assert len(ids) == len(others) + 2


def test_texts_and_parts_of_text_say_the_same() -> None:
    ids = {
        conversation(RESPONSES, input=value).id
        for value in ("Hi", [user("Hi")], [user([{"type": "input_text", "text": "Hi"}])])
    }
    assert len(ids) == 1


@pytest.mark.parametrize("messages", [[], ["Hello"], [1, None], [user(None)], [{"role": "user"}]], ids=str)
def test_odd_messages_are_somebody_elses_business(messages: list[Any]) -> None:
    conversation(CHAT, messages=messages)


def test_text_that_is_not_utf_8_or_split_characters_does_not_matter() -> None:
    whole = request(CHAT, messages=[])
    whole.members["messages"] = msgspec.Raw(b'[{"role":"user","content":"\\ud800"}]')
    assert conversation_of(whole, "k") is not None


def test_a_count_belongs_to_its_conversation() -> None:
    messages = [user("Hello")]
    assert conversation(COUNT_TOKENS, messages=messages) == conversation(MESSAGES, messages=messages)


def test_what_is_no_conversation() -> None:
    assert conversation_of(request(EMBEDDINGS, input="Hello"), "k") is None
    assert conversation_of(request(CHAT), "k") is None


# Who served it


def test_who_served_last_is_known_for_five_minutes() -> None:
    affinity = Affinity()
    assert affinity.served(b"c", 0) is None
    affinity.note(b"c", A, 0)
    affinity.note(b"c", B, 10)
    assert affinity.served(b"c", AFFINITY_NS + 9) == B
    assert affinity.served(b"c", AFFINITY_NS + 10) is None


def test_of_too_many_conversations_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity_module, "MOST_CONVERSATIONS", 2)
    affinity = Affinity()
    for conversation_id in (b"1", b"2", b"1", b"3"):
        affinity.note(conversation_id, A, 0)
    assert [affinity.served(conversation_id, 1) for conversation_id in (b"1", b"2", b"3")] == [A, None, A]
