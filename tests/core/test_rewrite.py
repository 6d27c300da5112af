"""The changes of a request body, and that there are no others."""

import msgspec
import pytest

from proxy.core import rewrite
from proxy.core.rewrite import Overrides


def members(text: str) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw])


def encoded(body: dict[str, msgspec.Raw]) -> str:
    return msgspec.json.encode(body).decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{"stream_options":{"include_usage":true}}'),
        ('{"stream_options":null}', '{"stream_options":{"include_usage":true}}'),
        ('{"stream_options":{}}', '{"stream_options":{"include_usage":true}}'),
        (
            '{"stream_options":{"include_usage":false,"x":[1, 2]}}',
            '{"stream_options":{"include_usage":true,"x":[1, 2]}}',
        ),
    ],
)
def test_usage_is_asked_for_and_other_stream_options_stay(before: str, after: str) -> None:
    body = members(before)
    rewrite.ask_for_usage(body)
    assert encoded(body) == after


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("{}", False),
        ('{"stream_options":null}', False),
        ('{"stream_options":{"include_usage":false}}', False),
        ('{"stream_options":{"include_usage":true}}', True),
        ('{"stream_options":"yes"}', False),
    ],
)
def test_wants_usage(body: str, wanted: bool) -> None:
    assert rewrite.wants_usage(members(body)) is wanted


@pytest.mark.parametrize(
    ("before", "ceiling", "fill", "after"),
    [
        ('{"max_tokens":500}', 100, None, '{"max_tokens":100}'),
        ('{"max_tokens":50}', 100, None, '{"max_tokens":50}'),
        ('{"max_tokens":50}', 100, 100, '{"max_tokens":50}'),
        ("{}", 100, None, "{}"),
        ("{}", 100, 100, '{"max_tokens":100}'),
        (
            '{"max_tokens":500,"max_completion_tokens":20}',
            100,
            None,
            '{"max_tokens":100,"max_completion_tokens":20}',
        ),
        ('{"max_tokens":500}', None, None, '{"max_tokens":500}'),
    ],
)
def test_lengths_are_clamped_never_invented(
    before: str, ceiling: int | None, fill: int | None, after: str
) -> None:
    body = members(before)
    asked = {name: int(bytes(body[name])) for name in rewrite.LENGTH_FIELDS if name in body}
    rewrite.clamp_length(body, asked, ceiling=ceiling, fill=fill, field="max_tokens")
    assert encoded(body) == after


def test_overrides_remove_then_default_then_set() -> None:
    body = members('{"a":1,"b":2.50,"c":{"deep": [ ]}}')
    rewrite.apply_overrides(body, Overrides({"a": {"x": [None]}}, {"b": 9, "d": "new"}, ("c",)))
    assert encoded(body) == '{"a":{"x":[null]},"b":2.50,"d":"new"}'


@pytest.mark.parametrize(
    ("thinking", "max_tokens", "after"),
    [
        ('{"type":"enabled","budget_tokens":2000}', 3000, '{"type":"enabled","budget_tokens":2000}'),
        ('{"type":"enabled","budget_tokens":3000}', 3000, '{"type":"enabled","budget_tokens":1500}'),
        ('{"type":"enabled","budget_tokens":3000}', 1100, '{"type":"enabled","budget_tokens":1024}'),
        ('{"type":"enabled","budget_tokens":3000}', 1024, None),
        ('{"type":"enabled","budget_tokens":"3000"}', 1024, '{"type":"enabled","budget_tokens":"3000"}'),
        ('{"type":"adaptive"}', 10, '{"type":"adaptive"}'),
        ('"on"', 10, '"on"'),
    ],
)
def test_a_budget_fits_the_length(thinking: str, max_tokens: int, after: str | None) -> None:
    body = members('{"thinking":' + thinking + "}")
    rewrite.fit_thinking(body, max_tokens)
    assert encoded(body) == ("{}" if after is None else '{"thinking":' + after + "}")
