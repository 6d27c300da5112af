"""Conversations from Chat to Messages and back, and requests of any shape at all."""

import itertools
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import BadRequest
from proxy.dialects.messages_from_chat import messages_request
from proxy.dialects.messages_models import MessagesTraits, messages_traits
from proxy.dialects.messages_to_chat import chat_request
from proxy.dialects.traits import ChatTraits
from tests.support.messages import arguments, json_values, names

Fields = dict[str, Any]

# -- there and back

words = st.text(min_size=1, max_size=10).filter(lambda text: text.strip())


@st.composite
def conversations(draw: st.DrawFn) -> list[Fields]:
    """A Chat conversation in good order, as the clients of Chat keep theirs."""
    messages: list[Fields] = [{"role": "system", "content": draw(words)}] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(words)})
        for step in range(draw(st.integers(0, 2))):
            messages += draw(_tool_use(f"{turn}_{step}"))
        messages.append({"role": "assistant", "content": draw(words)})
    return [*messages, {"role": "user", "content": draw(words)}]


@st.composite
def _tool_use(draw: st.DrawFn, place: str) -> list[Fields]:
    calls = [
        {
            "id": f"call_{place}_{n}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(given)},
        }
        for n, (name, given) in enumerate(draw(st.lists(st.tuples(names, arguments), min_size=1, max_size=3)))
    ]
    said = {"role": "assistant", "content": draw(st.none() | words), "tool_calls": calls}
    return [said, *({"role": "tool", "tool_call_id": call["id"], "content": draw(words)} for call in calls)]


def there_and_back(messages: list[Fields]) -> list[Fields]:
    there = messages_request(
        {"model": "m", "messages": messages}, max_tokens_default=1, traits=MessagesTraits()
    )
    assert there.dropped == {}
    back = chat_request(there.body, ChatTraits())
    assert back.dropped == {}
    out: list[Fields] = back.body["messages"]
    return out


def normal(messages: list[Fields]) -> list[Fields]:
    """Return the messages with their arguments decoded, since JSON has many spellings."""
    out = []
    for message in messages:
        calls = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls", ())
        ]
        out.append(message | {"tool_calls": calls} if calls else message)
    return out


@given(conversations())
def test_roles_texts_calls_and_results_stay_in_their_order(messages: list[Fields]) -> None:
    assert normal(there_and_back(messages)) == normal(messages)


@given(conversations(), st.randoms(use_true_random=False))
def test_results_in_disorder_come_back_in_order(messages: list[Fields], random: Any) -> None:
    shuffled: list[Fields] = []
    results: list[Fields] = []
    for message in messages:
        if message["role"] == "tool":
            results.append(message)
            continue
        random.shuffle(results)
        shuffled += results
        results = []
        shuffled.append(message)
    assert normal(there_and_back(shuffled)) == normal(messages)


# -- whatever comes


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is right, or one time in forty anything."""
    return st.integers(0, 39).flatmap(lambda luck: json_values if luck == 13 else strategy)


def fields(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Fields]:
    """An object with members that are mostly right, and perhaps one that nobody knows."""
    optional = {"cache_control": json_values, "unheard_of": json_values}
    return st.fixed_dictionaries({name: mostly(value) for name, value in members.items()}, optional=optional)


just = st.just
few_ids = st.sampled_from(["a", "b", "c:0", ""])
some_text = st.text(max_size=8)
schema = st.dictionaries(some_text, json_values, max_size=2)
source = (
    fields(type=just("url"), url=some_text)
    | fields(type=just("base64"), media_type=just("image/png"), data=some_text)
    | fields(type=just("text"), data=some_text)
)
leaf = fields(type=just("text"), text=some_text) | fields(
    type=just("image"), source=fields(type=just("url"), url=some_text)
)
shown = (
    leaf
    | fields(type=just("document"), title=some_text, source=fields(type=just("text"), data=some_text))
    | fields(type=just("document"), source=fields(type=just("content"), content=st.lists(leaf, max_size=2)))
    | fields(type=just("search_result"), title=some_text, content=st.lists(leaf, max_size=2))
    | fields(type=just("tool_reference"), tool_name=names)
    | fields(type=some_text)
)
user_blocks = shown | fields(
    type=just("tool_result"),
    tool_use_id=few_ids,
    content=some_text | st.lists(shown, max_size=2),
    is_error=st.booleans(),
)
assistant_blocks = (
    fields(type=just("text"), text=some_text)
    | fields(type=just("tool_use"), id=few_ids, name=names, input=arguments)
    | fields(type=just("thinking"), thinking=some_text, signature=some_text)
    | fields(type=some_text)
)
messages_messages = (
    fields(role=just("user"), content=some_text | st.lists(user_blocks, max_size=4))
    | fields(role=just("assistant"), content=some_text | st.lists(assistant_blocks, max_size=4))
    | fields(role=just("system"), content=some_text | st.lists(leaf, max_size=2))
)
parts = (
    fields(type=just("text"), text=some_text)
    | fields(
        type=just("image_url"), image_url=fields(url=just("https://x") | just("data:image/png;base64,AA"))
    )
    | fields(
        type=just("file"), file=fields(file_data=just("data:application/pdf;base64,AA"), filename=some_text)
    )
)
chat_calls = fields(
    id=few_ids, function=fields(name=names, arguments=some_text | arguments.map(json.dumps))
) | (fields(id=few_ids, custom=fields(name=names, input=some_text)))
chat_thoughts = fields(type=just("thinking"), thinking=some_text, signature=some_text) | fields(
    type=just("redacted_thinking"), data=some_text
)
said = st.none() | some_text | st.lists(fields(type=just("text"), text=some_text), max_size=2)
chat_messages = (
    fields(role=st.sampled_from(["system", "developer"]), content=some_text)
    | fields(role=just("user"), content=some_text | st.lists(parts, max_size=3))
    | fields(role=just("tool"), tool_call_id=few_ids, content=some_text | st.lists(parts, max_size=2))
    | fields(
        role=just("assistant"),
        content=said,
        tool_calls=st.lists(chat_calls, max_size=3),
        thinking_blocks=st.lists(chat_thoughts, max_size=2),
    )
)
numbers = st.integers(-1, 5000) | st.floats(0, 2)
messages_bodies = st.fixed_dictionaries(
    {"messages": mostly(st.lists(messages_messages, min_size=1, max_size=6))},
    optional={
        "system": mostly(some_text | st.lists(leaf, max_size=2)),
        "max_tokens": mostly(numbers),
        "temperature": mostly(numbers),
        "top_k": mostly(numbers),
        "stop_sequences": mostly(st.lists(some_text, max_size=6)),
        "tools": mostly(
            st.lists(
                fields(name=names, input_schema=schema, type=just("custom"), defer_loading=st.booleans()),
                max_size=2,
            )
        ),
        "tool_choice": fields(type=st.sampled_from(["auto", "any", "none"])),
        "thinking": fields(type=st.sampled_from(["enabled", "adaptive", "disabled"]), budget_tokens=numbers),
        "output_config": fields(effort=some_text, format=fields(type=just("json_schema"), schema=schema)),
        "metadata": fields(user_id=some_text),
        "unheard_of": json_values,
    },
)
chat_bodies = st.fixed_dictionaries(
    {"messages": mostly(st.lists(chat_messages, min_size=1, max_size=6))},
    optional={
        "max_tokens": mostly(st.integers(1, 99_999)),
        "temperature": mostly(numbers),
        "top_p": mostly(numbers),
        "stop": mostly(some_text | st.lists(some_text, max_size=6)),
        "tools": mostly(st.lists(fields(function=fields(name=names, parameters=schema)), max_size=2)),
        "tool_choice": mostly(st.sampled_from(["auto", "none", "required"])),
        "parallel_tool_calls": mostly(st.booleans()),
        "reasoning_effort": mostly(st.sampled_from(["none", "low", "max", "odd"])),
        "response_format": fields(type=just("json_schema"), json_schema=fields(schema=schema)),
        "user": mostly(some_text),
        "unheard_of": json_values,
    },
)
chat_traits = st.builds(
    ChatTraits,
    reasoning_switch=st.sampled_from(["none", "reasoning_effort", "thinking_type", "enable_thinking"]),
    tool_choice_required=st.sampled_from(["required", None]),
    **{
        name: st.booleans()
        for name in ("replays_reasoning", "late_system", "keeps_cache_control", "json_schema", "sampling")
    },
)


@given(messages_bodies, chat_traits)
def test_any_messages_request_is_translated_or_refused(body: Fields, traits: ChatTraits) -> None:
    before = json.dumps(body)
    try:
        chat = chat_request(body, traits).body
    except BadRequest:
        return
    finally:
        assert json.dumps(body) == before
    assert _is_in_order(chat["messages"])
    msgspec.json.encode(chat)


@given(chat_bodies, st.sampled_from(["claude-2", "claude-sonnet-4-5", "claude-opus-5", "other"]))
def test_any_chat_request_is_translated_or_refused(body: Fields, model: str) -> None:
    before = json.dumps(body)
    try:
        request = messages_request(body, max_tokens_default=1, traits=messages_traits(model)).body
    except BadRequest:
        return
    finally:
        assert json.dumps(body) == before
    roles = [message["role"] for message in request["messages"]]
    assert roles[0] == "user"
    assert all(role != following for role, following in itertools.pairwise(roles))
    assert all(message["content"] for message in request["messages"])
    assert _is_in_order(chat_request(request, ChatTraits(files=True)).body["messages"])
    msgspec.json.encode(request)


def _is_in_order(messages: list[Fields]) -> bool:
    """Whether each call is directly followed by its result."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if not waiting or message["tool_call_id"] != waiting.pop(0):
                return False
        elif waiting:
            return False
        waiting = waiting or [call["id"] for call in message.get("tool_calls", ())]
    return not waiting
