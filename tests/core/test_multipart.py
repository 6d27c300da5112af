"""Text parts, found wherever they stand and however the body is split."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import BadRequest
from proxy.core.multipart import MAX_PARTS, FormScanner, TextPart

WANTED = ("model", "provider")


def part(headers: str, value: bytes = b"v") -> bytes:
    return b"--b\r\n" + headers.encode() + b"\r\n\r\n" + value + b"\r\n"


def named(name: str, value: bytes = b"v") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"', value)


END = b"--b--\r\n"
FILE = part(
    'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav', b"\x00RIFF"
)


def scan(body: bytes, boundary: bytes | None = b"b") -> dict[str, TextPart]:
    scanner = FormScanner(boundary, WANTED)
    scanner.feed(body)
    scanner.finish()
    return scanner.parts


# name: body, values of the wanted parts
FORMS = {
    "model first": (named("model", b"m") + FILE + END, {"model": b"m"}),
    "model last": (FILE + named("model", b"m") + END, {"model": b"m"}),
    "both": (named("provider", b"p") + FILE + named("model", b"m") + END, {"provider": b"p", "model": b"m"}),
    "neither": (FILE + END, {}),
    "no parts": (END, {}),
    "empty value": (named("model", b"") + END, {"model": b""}),
    "value with line breaks and dashes": (
        named("model", b"\r\n--\r\n-\r") + END,
        {"model": b"\r\n--\r\n-\r"},
    ),
    "file of that name": (part('Content-Disposition: form-data; name="model"; filename="x"') + END, {}),
    "file with a foreign name": (
        part("Content-Disposition: form-data; name=\"model\"; filename*=utf-8''x") + END,
        {},
    ),
    "name without quotes": (part("content-disposition:form-data;name=model") + END, {"model": b"v"}),
    "escaped name": (part('Content-Disposition: form-data; name="mo\\del"') + END, {"model": b"v"}),
    "semicolon in a name": (part('Content-Disposition: form-data; name="a;name=model"') + END, {}),
    "further headers": (
        part('Content-Type: text/plain\r\nContent-Disposition: form-data; name="model"') + END,
        {"model": b"v"},
    ),
    "harmless transfer encoding": (
        part('Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: 8bit') + END,
        {"model": b"v"},
    ),
    "part without headers": (b"--b\r\n\r\nv\r\n" + named("model") + END, {"model": b"v"}),
    "padding": (named("model").replace(b"--b", b"--b \t") + END, {"model": b"v"}),
    "preamble": (b"hello\r\n" + named("model") + END, {"model": b"v"}),
    "leading line break": (b"\r\n" + named("model") + END, {"model": b"v"}),
    "epilogue": (named("model") + END + named("model", b"other"), {"model": b"v"}),
    "no line break at the end": (named("model") + b"--b--", {"model": b"v"}),
    "delimiter without its line break is content": (named("model", b"x--b--") + END, {"model": b"x--b--"}),
}


@pytest.mark.parametrize(("body", "values"), FORMS.values(), ids=FORMS)
class TestForms:
    def test_whole(self, body: bytes, values: dict[str, bytes]) -> None:
        assert {name: found.value for name, found in scan(body).items()} == values

    def test_byte_by_byte(self, body: bytes, values: dict[str, bytes]) -> None:
        scanner = FormScanner(b"b", WANTED)
        for i in range(len(body)):
            scanner.feed(body[i : i + 1])
        scanner.finish()
        assert scanner.parts == scan(body)

    def test_the_offsets_are_those_of_the_body(self, body: bytes, values: dict[str, bytes]) -> None:
        for found in scan(body).values():
            assert body[found.value_start : found.value_end] == found.value
            assert body[found.start :].startswith(b"--b")
            assert body[found.end - 2 :].startswith(b"\r\n--b")

    def test_a_part_cut_out_is_gone_and_leaves_a_form(self, body: bytes, values: dict[str, bytes]) -> None:
        for name, found in scan(body).items():
            rest = scan(body[: found.start] + body[found.end :])
            assert {other: part.value for other, part in rest.items()} == {
                other: value for other, value in values.items() if other != name
            }


MALFORMED = {
    "empty": b"",
    "no closing delimiter": named("model"),
    "cut in the headers": b"--b\r\nContent-Dis",
    "cut in the delimiter": named("model") + b"--b-",
    "bare line feeds": (named("model") + END).replace(b"\r\n", b"\n"),
    "bare line feed in a header": part('Content-Disposition: form-data;\n name="model"') + END,
    "bare carriage return in a header": part('Content-Disposition: form-data; \rname="model"') + END,
    "folded header": part('Content-Disposition: form-data;\r\n name="model"') + END,
    "header without colon": part("Content-Disposition") + END,
    "header without name": part(": form-data") + END,
    "two dispositions": part(
        'Content-Disposition: form-data; name="a"\r\ncontent-disposition: form-data; name="model"'
    )
    + END,
    "two names": part('Content-Disposition: form-data; name="a"; name="model"') + END,
    "foreign name": part("Content-Disposition: form-data; name*=utf-8''model") + END,
    "no form-data": part('Content-Disposition: attachment; name="model"') + END,
    "malformed parameter": part('Content-Disposition: form-data; name="model') + END,
    "no parameter": part("Content-Disposition: form-data; model") + END,
    "encoded text": part('Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64')
    + END,
    "longer boundary": named("model").replace(b"--b", b"--bb") + END,
    "long headers": part("X: " + "x" * 17_000) + END,
    "headers without end": b"--b\r\nX: " + b"x" * 17_000,
    "long value": named("model", b"m" * 5000) + END,
    "many parts": FILE * (MAX_PARTS + 1) + END,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_forms_are_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        scan(body)
    assert caught.value.code == "invalid_value"


def test_a_wanted_part_comes_once() -> None:
    with pytest.raises(BadRequest) as caught:
        scan(named("model", b"cheap") + named("model", b"dear") + END)
    assert (caught.value.code, caught.value.param) == ("duplicate_key", "model")
    assert scan(named("other") + named("other") + END) == {}


@pytest.mark.parametrize("boundary", [None, b"", b"a" * 71, b"a ", b"a\r\nb", b'a"', b"\xff"])
def test_the_boundary_is_checked(boundary: bytes | None) -> None:
    with pytest.raises(BadRequest, match="boundary"):
        FormScanner(boundary, WANTED)


def test_memory_is_bounded_by_what_is_wanted() -> None:
    scanner = FormScanner(b"b", WANTED)
    scanner.feed(FILE.removesuffix(b"\r\n"))
    for _ in range(100):
        scanner.feed(b"\r\n--" * 10_000)
        assert len(scanner._buffer) < 10
    scanner.feed(b"\r\n" + END)
    scanner.finish()


names = st.sampled_from(["model", "provider", "file", "Model", "model ", "modél"])
contents = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"--", b"-", b"x", b"\x00"]), max_size=12).map(
    b"".join
)


@given(st.lists(st.tuples(names, contents), max_size=6, unique_by=lambda each: each[0]), st.data())
def test_the_splits_of_the_body_change_nothing(fields: list[tuple[str, bytes]], data: st.DataObject) -> None:
    body = b"".join(named(name, value) for name, value in fields) + END
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    scanner = FormScanner(b"b", WANTED)
    for start, end in itertools.pairwise([0, *cuts, len(body)]):
        scanner.feed(body[start:end])
    scanner.finish()
    assert {name: found.value for name, found in scanner.parts.items()} == {
        name: value for name, value in fields if name in WANTED
    }


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for text in (body, b"--b\r\n" + body, named("model").replace(b"form-data", b"form-data" + body) + END):
        with contextlib.suppress(BadRequest):
            assert scan(text).keys() <= set(WANTED)
