"""The built-in provider that answers without any network, for first runs, demonstrations and tests.

It repeats the last user message, a word in each event when streamed; its embeddings are unit
vectors that depend on nothing but the input. docs/providers.md, "echo"
"""

import asyncio
import base64
import hashlib
import math
import re
import struct
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec

from proxy.core.errors import Progress, UpstreamError
from proxy.core.estimation import estimate_chat_input, estimate_plain_input, estimate_text
from proxy.core.tokenizers import family_of

ENDPOINTS = ("chat/completions", "completions", "embeddings", "models")

NO_USER_MESSAGE = "Nothing to repeat: there is no user message."
NO_TEXT = "Nothing to repeat: the last user message holds no text."

# What one read() returns at most, give or take an event: as much as a socket would.
PIECE_BYTES = 16 * 1024
MAX_CHOICES = 8
DIMENSIONS = 256

# A word takes the whitespace before it, and the last one also that behind it.
_WORDS = re.compile(r"\s*\S+(?:\s+\Z)?|\s+")

_encode = msgspec.json.encode


class EchoAnswer:
    """An answer made here, read like one from a socket."""

    def __init__(self, status: int, content_type: bytes, parts: Iterable[bytes]) -> None:
        self.status = status
        self.headers = [(b"content-type", content_type)]
        self.progress = Progress.BODY
        self._parts = iter(parts)
        self._begun = False

    async def read(self) -> bytes | None:
        """Return the next piece of the body, None at its end."""
        if self._begun:
            await asyncio.sleep(0)  # others get their turn, since nothing here ever waits
        self._begun = True
        piece = bytearray()
        for part in self._parts:
            piece += part
            if len(piece) >= PIECE_BYTES:
                break
        return bytes(piece) or None

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body; raises UpstreamError above `limit` bytes."""
        body = bytearray()
        while (piece := await self.read()) is not None:
            body += piece
            if len(body) > limit:
                self.close()
                message = f"the echo provider's answer has more than {limit} bytes"
                raise UpstreamError("upstream_invalid_response", message)
        return bytes(body)

    def nudge(self) -> None:
        """Do nothing: a read never waits."""

    def close(self) -> None:
        self._parts = iter(())


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Request(msgspec.Struct):
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _ChatRequest(_Request, kw_only=True):
    messages: list[dict[str, Any]]
    tools: Any = None


class _CompletionRequest(_Request, kw_only=True):
    prompt: str | list[str]


class _EmbeddingRequest(msgspec.Struct):
    model: str
    input: str | Annotated[list[str | int | list[int]], msgspec.Meta(min_length=1, max_length=2048)]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    encoding_format: Literal["float", "base64"] | None = None


def respond(endpoint: str, body: object) -> EchoAnswer:
    """Answer a request body as a provider would; what it cannot do is refused in OpenAI's form."""
    if endpoint == "models":
        model = {"id": "echo", "object": "model", "created": 0, "owned_by": "sluice"}
        return _json({"object": "list", "data": [model]})
    if endpoint not in ENDPOINTS or not isinstance(body, bytes):
        known = ", ".join(ENDPOINTS)
        return _refusal(404, "not_found", f"The echo provider has no {endpoint}; it has {known}.")
    try:
        if endpoint == "embeddings":
            return _embeddings(msgspec.json.decode(body, type=_EmbeddingRequest))
        if endpoint == "completions":
            return _completion(msgspec.json.decode(body, type=_CompletionRequest))
        return _chat(msgspec.json.decode(body, type=_ChatRequest))
    except (msgspec.DecodeError, RecursionError) as error:
        return _refusal(400, "invalid_value", f"The echo provider cannot read the request: {error}.")


def _json(body: object, status: int = 200) -> EchoAnswer:
    return EchoAnswer(status, b"application/json", [_encode(body)])


def _refusal(status: int, code: str, message: str) -> EchoAnswer:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return _json({"error": error}, status)


def _chat(request: _ChatRequest) -> EchoAnswer:
    input_tokens = estimate_chat_input(request.messages, request.tools, family_of(request.model))
    texts = [_last_user_text(request.messages)] * (request.n or 1)
    head = _head("chatcmpl-", "chat.completion", request)
    return _generated(request, head, texts, input_tokens, chat=True)


def _completion(request: _CompletionRequest) -> EchoAnswer:
    input_tokens = estimate_plain_input(request.prompt, family_of(request.model))
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
    texts = [prompt for prompt in prompts for _ in range(request.n or 1)]
    return _generated(request, _head("cmpl-", "text_completion", request), texts, input_tokens, chat=False)


def _head(prefix: str, kind: str, request: _Request) -> dict[str, object]:
    created = int(time.time())
    return {"id": prefix + uuid.uuid4().hex, "object": kind, "created": created, "model": request.model}


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            return _text(message.get("content")) or NO_TEXT
    return NO_USER_MESSAGE


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _generated(
    request: _Request, head: dict[str, object], texts: list[str], input_tokens: int, *, chat: bool
) -> EchoAnswer:
    family = family_of(request.model)
    limit = request.max_completion_tokens or request.max_tokens
    output_tokens = 0
    answers = []
    for text in texts:
        tokens = estimate_text(text, family)
        finish = "stop"
        if limit is not None and tokens > limit:
            text = text[: max(len(text) * limit // tokens, 1)]  # crude: as if all characters were alike
            tokens, finish = limit, "length"
        output_tokens += tokens
        answers.append((text, finish))
    usage = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    if request.stream:
        asked = request.stream_options is not None and bool(request.stream_options.include_usage)
        return EchoAnswer(
            200, b"text/event-stream", _events(head, answers, usage if asked else None, chat=chat)
        )
    choices = []
    for index, (text, finish) in enumerate(answers):
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choices.append({"index": index, **said, "logprobs": None, "finish_reason": finish})
    return _json({**head, "choices": choices, "usage": usage})


def _events(
    head: dict[str, object], answers: list[tuple[str, str]], usage: dict[str, int] | None, *, chat: bool
) -> Iterator[bytes]:
    if chat:
        head = {**head, "object": "chat.completion.chunk"}
    no_usage = {"usage": None} if usage else {}

    def event(index: int, said: dict[str, object], finish: str | None) -> bytes:
        choice = {"index": index, **said, "logprobs": None, "finish_reason": finish}
        return b"data: %b\n\n" % _encode({**head, "choices": [choice], **no_usage})

    for index, (text, finish) in enumerate(answers):
        if chat:
            yield event(index, {"delta": {"role": "assistant", "content": ""}}, None)
        for word in _WORDS.finditer(text):
            yield event(index, {"delta": {"content": word[0]}} if chat else {"text": word[0]}, None)
        yield event(index, {"delta": {}} if chat else {"text": ""}, finish)
    if usage:
        yield b"data: %b\n\n" % _encode({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _embeddings(request: _EmbeddingRequest) -> EchoAnswer:
    items: list[Any] = [request.input] if isinstance(request.input, str) else list(request.input)
    if isinstance(items[0], int):
        items = [items]  # one text as token ids
    tokens = estimate_plain_input(items, family_of(request.model))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return EchoAnswer(200, b"application/json", _embedding_parts(request, items, usage))


def _embedding_parts(request: _EmbeddingRequest, items: list[Any], usage: dict[str, int]) -> Iterator[bytes]:
    yield b'{"object":"list","data":['
    for index, item in enumerate(items):
        packed = _vector(item, request.dimensions or DIMENSIONS)
        embedding: object = struct.unpack(f"<{len(packed) // 4}f", packed)
        if request.encoding_format == "base64":
            embedding = base64.b64encode(packed).decode()
        yield b"," if index else b""
        yield _encode({"object": "embedding", "index": index, "embedding": embedding})
    yield b'],"model":%b,"usage":%b}' % (_encode(request.model), _encode(usage))


def _vector(item: object, dimensions: int) -> bytes:
    """Return a unit vector, as little-endian 32-bit floats, that the item alone determines."""
    digest = hashlib.shake_256(_encode(item)).digest(2 * dimensions)
    values = struct.unpack(f"<{dimensions}h", digest)
    length = math.hypot(*values) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))
