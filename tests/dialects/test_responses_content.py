"""Content of Responses as content of Chat."""

from typing import Any

import pytest

from proxy.core.errors import BadRequest
from proxy.dialects.responses_content import as_json, message_content, output_content

Fields = dict[str, Any]

URL = "data:image/png;base64,AA=="
CHAT_IMAGE = {"type": "image_url", "image_url": {"url": URL}}


def image(**more: object) -> Fields:
    return {"type": "input_image", "image_url": URL, **more}


@pytest.mark.parametrize(
    ("content", "made"),
    [
        pytest.param("Hi", "Hi", id="text"),
        pytest.param(None, "", id="nothing"),
        pytest.param([], "", id="no parts"),
        pytest.param(
            [
                {"type": "input_text", "text": "a"},
                {"type": "output_text", "text": "b"},
                {"type": "text", "text": ""},
            ],
            "a\nb\n",
            id="texts",
        ),
        pytest.param([{"type": "refusal", "refusal": "no"}], "no", id="a refusal"),
        pytest.param(
            [{"type": "input_text", "text": "a"}, image(detail="auto")],
            [{"type": "text", "text": "a"}, CHAT_IMAGE],
            id="an image",
        ),
        pytest.param(
            [image(detail="low")],
            [{"type": "image_url", "image_url": {"url": URL, "detail": "low"}}],
            id="an image with little detail",
        ),
        pytest.param([image(detail="original")], [CHAT_IMAGE], id="an image in a detail unknown to Chat"),
        pytest.param(
            [{"type": "image_url", "image_url": {"url": URL, "detail": "high"}}],
            [{"type": "image_url", "image_url": {"url": URL, "detail": "high"}}],
            id="an image as in Chat",
        ),
        pytest.param([{"type": "computer_screenshot", "image_url": URL}], [CHAT_IMAGE], id="a screenshot"),
        pytest.param(
            [{"type": "input_file", "filename": "a.pdf", "file_data": "data:x"}],
            [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:x"}}],
            id="a file",
        ),
        pytest.param(
            [{"type": "input_file", "file_data": "data:x"}],
            [{"type": "file", "file": {"filename": "file", "file_data": "data:x"}}],
            id="a file without a name",
        ),
        pytest.param(
            [{"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}}],
            [{"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}}],
            id="audio",
        ),
    ],
)
def test_messages(content: object, made: object) -> None:
    assert message_content(content, "x", files=True) == made


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (5, "x"),
        (["a"], "x[0]"),
        ([{}], "x[0].type"),
        ([{"type": "input_text"}], "x[0].text"),
        ([{"type": "refusal", "refusal": None}], "x[0].refusal"),
        ([{"type": "input_video"}], "x[0].type"),
        ([{"type": "input_image", "file_id": "file-1"}], "x[0].image_url"),
        ([{"type": "input_file", "file_id": "file-1"}], "x[0].file_data"),
        ([{"type": "input_file", "file_url": "https://x"}], "x[0].file_data"),
        ([{"type": "input_file", "file_data": "x", "filename": 5}], "x[0].filename"),
        ([{"type": "input_audio", "input_audio": "x"}], "x[0].input_audio"),
    ],
)
def test_what_cannot_be_told_is_refused(content: object, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        message_content(content, "x", files=True)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


def test_files_are_for_providers_that_take_them() -> None:
    content = [{"type": "input_file", "file_data": "data:x"}]
    for read in (message_content, output_content):
        with pytest.raises(BadRequest, match="input_file"):
            read(content, "x", files=False)


@pytest.mark.parametrize(
    ("output", "text", "kinds"),
    [
        ("done", "done", []),
        ("", "(no output)", []),
        (None, "(no output)", []),
        ([], "(no output)", []),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}], "a\nb", []),
        ([{"type": "input_text", "text": "a"}, image()], "a\n[image]", ["image_url"]),
        (
            [{"type": "input_file", "file_data": "x"}, {"type": "input_audio", "input_audio": {}}],
            "[file]\n[audio]",
            ["file", "input_audio"],
        ),
        ({"type": "computer_screenshot", "image_url": URL}, "[image]", ["image_url"]),
        ({"type": "exit", "code": 1}, '{"type":"exit","code":1}', []),
        ([{"stdout": "ü"}], '[{"stdout":"ü"}]', []),
        ([1, 2], "[1,2]", []),
    ],
)
def test_outputs(output: object, text: str, kinds: list[str]) -> None:
    made, media = output_content(output, "x", files=True)
    assert made == text
    assert [part["type"] for part in media] == kinds


def test_json_has_an_end() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadRequest, match="nested too deeply"):
        as_json(deep, "x")
