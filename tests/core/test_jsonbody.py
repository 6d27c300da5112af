"""Request bodies: strictness, and members that pass unread."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import jsonbody
from proxy.core.errors import BadRequest
from proxy.core.jsonbody import (
    bool_member,
    encode,
    object_member,
    parse_object,
    positive_int_member,
    text_member,
    value_member,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)
KEYS = st.text(max_size=6).filter(lambda key: key != "N")  # n in another case is refused
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)
DUMPS: list[Callable[[Any], str]] = [
    lambda value: json.dumps(value, separators=(",", ":")),
    lambda value: json.dumps(value),
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    lambda value: json.dumps(value, indent=2) + "\r\n\t",
]


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_object(body)
    assert caught.value.status == 400
    return caught.value


@given(OBJECTS, st.sampled_from(DUMPS))
def test_any_object_is_read_and_written_again(value: dict[str, Any], dumps: Callable[[Any], str]) -> None:
    members = parse_object(dumps(value).encode())
    assert {name: json.loads(bytes(raw)) for name, raw in members.items()} == value
    assert json.loads(encode(members)) == value


def test_members_keep_their_bytes() -> None:
    body = (
        b'{"model": "a", "x": {"y" :1.50, "z":"\\u00e9"},\n "n": 1e2, "big": 123456789012345678901234567890}'
    )
    members = parse_object(body)
    members["model"] = msgspec.Raw(b'"b"')
    assert encode(members) == (
        b'{"model":"b","x":{"y" :1.50, "z":"\\u00e9"},"n":1e2,"big":123456789012345678901234567890}'
    )


def test_new_members_may_be_plain_values() -> None:
    assert encode({**parse_object(b'{"a":1}'), "stream": True}) == b'{"a":1,"stream":true}'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" ", "truncated"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b'"text"', "not an object"),
        (b"{", "truncated"),
        (b'{"a":1}x', "trailing"),
        (b'{"a":1}{}', "trailing"),
        (b'{"a":1,}', "trailing comma"),
        (b"{'a':1}", "byte 1"),
        (b'{"a":NaN}', "byte 5"),
        (b'{"a":-Infinity}', "byte 6"),
        (b'{"a":01}', "number"),
        (b'{"a":"\\x"}', "escape"),
        (b'{"a":"\n"}', "byte 6"),
        (b'\xef\xbb\xbf{"a":1}', "byte 0"),
        ('{"a":1}'.encode("utf-16"), "UTF-8 (byte 0)"),
        (b'{"a":"\xff"}', "UTF-8 (byte 6)"),
        (b'{"\xff":1}', "UTF-8 (byte 2)"),
        (b'{"a":"\xed\xa0\x80"}', "UTF-8 (byte 6)"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deep"),
        (b"[" * 100_000, "not an object"),
        (b'{"a":' * 100_000, "too deep"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else value,
)
def test_what_is_not_a_json_object_is_refused(body: bytes, reason: str) -> None:
    error = refused(body)
    assert error.code == "invalid_json"
    assert reason in error.message


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"\\ud800"}',
        b'{"a":["\\udC00 \\ud800"]}',
        b'{"\\udbff":1}',
        b'{"a":"\\\\\\ud83d\\ude00\\ud83d"}',
    ],
)
def test_half_a_surrogate_pair_is_refused(body: bytes) -> None:
    assert refused(body).code == "invalid_value"


@pytest.mark.parametrize(
    "body", [b'{"a":"\\ud83d\\ude00"}', b'{"a":"\\\\ud800"}', b'{"a":"\\uD83D\\uDE00\\n"}']
)
def test_whole_pairs_and_escaped_backslashes_are_fine(body: bytes) -> None:
    assert list(parse_object(body)) == ["a"]


def test_an_escaped_backslash_before_ud800_is_no_surrogate() -> None:
    assert refused(b'{"a":"\\\\ud800",}').code == "invalid_json"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"a":1,"a":1}', "a"),
        (b'{"a":1,"a":2}', "a"),
        (b'{"a":12,"a":1}', "a"),
        (b'{"a":1,"a":12}', "a"),
        (b'{"a":1.5,"b":2,"a":1}', "a"),
        (b'{"a":1,"b":2,"b":2}', "b"),
        (b'{"a":1,"a":2,"b":3}', "a"),
        (b'{"model":"x","mod\\u0065l":"y"}', "model"),
        (b'{"mod\\u0065l":"x","model":"y"}', "model"),
        (b'{"":1,"":2}', ""),
        ('{"é":1,"é":2}'.encode(), "é"),
        (b'{ "a" : 1 , "a" : 1 }', "a"),
        # The first value looks, from inside, like the end of a shorter one and the next member.
        (b'{"a":"x\\",\\"b\\":1}","a":"x","b":1}', "a"),
        (b'{"a":[1,2],"b":1,"a":[1]}', "a"),
    ],
)
def test_duplicates_are_refused_by_name(body: bytes, key: str) -> None:
    error = refused(body)
    assert (error.code, error.param) == ("duplicate_key", key)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6), st.sampled_from(DUMPS))
def test_duplicates_are_found_wherever_they_are(
    pairs: list[tuple[str, Any]], dumps: Callable[[Any], str]
) -> None:
    body = ("{" + ", ".join(f"{dumps(key)}:{dumps(value)}" for key, value in pairs) + "}").encode()
    keys = [key for key, _ in pairs]
    if len(set(keys)) == len(keys):
        assert list(parse_object(body)) == keys
    else:
        error = refused(body)
        assert error.code == "duplicate_key"
        assert keys.count(str(error.param)) > 1


@pytest.mark.parametrize("body", [b"{}", b" { } ", b"\n{\t}\r\n"])
def test_an_empty_object_is_one(body: bytes) -> None:
    assert parse_object(body) == {}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"Model":"x"}', "invalid_value", "model"),
        (b'{"model":"x","Model":"y"}', "duplicate_key", "model"),
        (b'{"MAX_TOKENS":1,"max_tokens":2}', "duplicate_key", "max_tokens"),
        ('{"meſſages":[]}'.encode(), "invalid_value", "messages"),
        (b'{"N":3}', "invalid_value", "n"),
    ],
)
def test_deciding_keys_have_one_spelling(body: bytes, code: str, param: str) -> None:
    error = refused(body)
    assert (error.code, error.param) == (code, param)


def test_other_keys_may_be_written_as_one_likes() -> None:
    assert list(parse_object('{"userID":1,"userid":2,"ÄÖ":3}'.encode())) == ["userID", "userid", "ÄÖ"]


def test_an_object_of_very_many_members_is_refused() -> None:
    members = {f"k{n}": n for n in range(jsonbody.MAX_MEMBERS)}
    assert len(parse_object(json.dumps(members).encode())) == jsonbody.MAX_MEMBERS
    assert refused(json.dumps({**members, "one": 1}).encode()).code == "invalid_value"


def one(raw: bytes) -> jsonbody.Members:
    return {"m": msgspec.Raw(raw)}


def test_members_of_each_type() -> None:
    assert text_member(one(b'"\\u00e9x"'), "m") == "éx"
    assert bool_member(one(b"true"), "m") is True
    assert bool_member(one(b"false"), "m") is False
    assert positive_int_member(one(b"1"), "m") == 1
    assert positive_int_member(one(b"2147483648"), "m") == 2**31
    assert value_member(one(b'[1,{"a":null}]'), "m") == [1, {"a": None}]
    assert object_member(one(b'{"a": 1}'), "m") == {"a": msgspec.Raw(b"1")}


READERS = [text_member, bool_member, positive_int_member, value_member, object_member]


@pytest.mark.parametrize("reader", READERS)
def test_absent_and_null_are_the_same(reader: Callable[[jsonbody.Members, str], object]) -> None:
    assert reader({}, "m") is None
    assert reader(one(b"null"), "m") is None


@pytest.mark.parametrize(
    ("reader", "raw"),
    [
        (text_member, b"1"),
        (text_member, b'["a"]'),
        (bool_member, b"1"),
        (bool_member, b'"true"'),
        *(
            (positive_int_member, raw)
            for raw in (
                b"0", b"-1", b"1.5", b"1.0", b"1e2", b'"5"', b"true", b"[]", b"{}", b"1e400",
                b"2147483649", b"9223372036854775808", b"18446744073709551616", b"9" * 5000,
            )
        ),
        (value_member, b"[1e400]"),
        (value_member, b"9" * 5000),
        (value_member, b"[" * 2000 + b"]" * 2000),
        (object_member, b"[]"),
        (object_member, b'"{}"'),
    ],
)  # fmt: skip
def test_wrong_members_are_refused_by_name(
    reader: Callable[[jsonbody.Members, str], object], raw: bytes
) -> None:
    with pytest.raises(BadRequest) as caught:
        reader(one(raw), "m")
    assert (caught.value.code, caught.value.param) == ("invalid_value", "m")
    assert len(caught.value.message) < 250


def test_an_inner_object_is_as_strict() -> None:
    with pytest.raises(BadRequest) as caught:
        object_member(one(b'{"include_usage":false,"include_usage":true}'), "m")
    assert (caught.value.code, caught.value.param) == ("duplicate_key", "include_usage")


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(junk: bytes) -> None:
    for body in (junk, b'{"a":' + junk + b"}", b'{"a":"' + junk + b'"}', b"{" + junk + b"}"):
        assert outcome(body) in {"read", "invalid_json", "invalid_value", "duplicate_key"}


def outcome(body: bytes) -> str:
    try:
        parse_object(body)
    except BadRequest as error:
        error.message.encode()  # can be sent
        return error.code
    return "read"
