"""What a scripted upstream answers: ordinary answers of model providers, and every way to spoil them.

A `Reply` is data. The functions at the end make ordinary ones (`chat`, `chat_stream`, `error`, …);
its methods return spoiled copies, which can be combined:

    chat("hello", usage=(3, 5))
    chat_stream("Hel", "lo").gated()              # every frame waits for reply.gates[i].open()
    chat_stream("Hel", "lo").broken(2, End.RESET) # two frames, then a reset
    chat("hello").cut(20, End.CLOSE)              # half of the headers, then end of file
    chat("hello").in_pieces(1).interim(100, 103)
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus

from tests.support.signals import Gate


class End(Enum):
    """What the upstream does once a reply is written."""

    KEEP = "keep the connection for the next request"
    CLOSE = "close it"
    RESET = "reset it"
    HANG = "leave it open and never write again"


class Framing(Enum):
    """How the length of a body is told."""

    LENGTH = "content-length"
    CHUNKED = "transfer-encoding: chunked, a chunk for each part"
    EOF = "the end of the connection"
    RAW = "not at all: the parts are the whole answer, status line included"


Part = bytes | Gate


@dataclass(frozen=True)
class Reply:
    """One answer. `headers` that name content-length or connection replace those made here.

    Only bodies framed by the end of the connection announce that it will be closed; `then(End.CLOSE)`
    closes it without a word, as servers do with connections that were idle for long.
    """

    parts: tuple[Part, ...] = ()
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    framing: Framing = Framing.LENGTH
    end: End = End.KEEP
    #: Answer when the request's headers are in.
    early: bool = False
    #: Parts of the body that are written; None means all of them, and the proper end.
    part_limit: int | None = None
    #: Bytes of the whole answer that are written.
    byte_limit: int | None = None
    #: Bytes per write.
    piece: int | None = None
    interim_statuses: tuple[int, ...] = ()

    @property
    def gates(self) -> list[Gate]:
        return [part for part in self.parts if isinstance(part, Gate)]

    @property
    def body(self) -> bytes:
        """The whole body, as an honest upstream sends it."""
        return b"".join(part for part in self.parts if isinstance(part, bytes))

    def open_all(self) -> None:
        for gate in self.gates:
            gate.open()

    def gated(self) -> "Reply":
        """Put a gate before every part of the body."""
        return replace(self, parts=tuple(each for part in self.parts for each in (Gate(), part)))

    def broken(self, parts: int, end: End) -> "Reply":
        """Write only so many parts of the body, without its proper end; gates count as parts."""
        return replace(self, part_limit=parts, end=end)

    def cut(self, size: int, end: End) -> "Reply":
        """Write only the first `size` bytes of the answer, headers included."""
        return replace(self, byte_limit=size, end=end)

    def in_pieces(self, size: int) -> "Reply":
        """Write `size` bytes at a time."""
        return replace(self, piece=size)

    def then(self, end: End) -> "Reply":
        return replace(self, end=end)

    def with_headers(self, *headers: tuple[str, str]) -> "Reply":
        return replace(self, headers=self.headers + headers)

    def framed(self, framing: Framing) -> "Reply":
        """Tell the length of the body in another way; End.CLOSE comes with Framing.EOF."""
        return replace(self, framing=framing, end=End.CLOSE if framing is Framing.EOF else self.end)

    def before_body(self) -> "Reply":
        """Answer when the request's headers are in; a refusal does not read its body."""
        return replace(self, early=True)

    def interim(self, *statuses: int) -> "Reply":
        """Send 1xx answers first."""
        return replace(self, interim_statuses=statuses)

    def compressed(self, encoding: str = "gzip") -> "Reply":
        """Compress the body although nobody asked: gzip, deflate (zlib) or raw-deflate."""
        bits = {"gzip": 31, "deflate": 15, "raw-deflate": -15}[encoding]
        compressor = zlib.compressobj(wbits=bits)
        parts: list[Part] = []
        for part in self.parts:
            if isinstance(part, bytes):
                part = compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH)
            parts.append(part)
        parts.append(compressor.flush())
        header = ("content-encoding", encoding.removeprefix("raw-"))
        return replace(self, parts=tuple(parts), headers=(*self.headers, header))

    def steps(self) -> Iterator[Part]:
        """Yield what is written, in order, with the gates between."""
        left = self.byte_limit
        for step in self._whole_steps():
            if isinstance(step, Gate):
                yield step
                continue
            data = step if left is None else step[:left]
            size = self.piece or len(data) or 1
            for start in range(0, len(data), size):
                yield data[start : start + size]
            if left is not None:
                left -= len(data)
                if left <= 0:
                    return

    def _whole_steps(self) -> Iterator[Part]:
        for status in self.interim_statuses:
            yield f"HTTP/1.1 {status} Interim\r\nx-interim: yes\r\n\r\n".encode()
        if self.framing is not Framing.RAW:
            yield self._head()
        for part in self.parts[: self.part_limit]:
            if self.framing is Framing.CHUNKED and isinstance(part, bytes):
                if part:
                    yield b"%x\r\n%b\r\n" % (len(part), part)
            else:
                yield part
        if self.framing is Framing.CHUNKED and self.part_limit is None:
            yield b"0\r\n\r\n"

    def _head(self) -> bytes:
        given = {name.lower() for name, _ in self.headers}
        headers = list(self.headers)
        if self.framing is Framing.CHUNKED:
            headers.append(("transfer-encoding", "chunked"))
        elif self.framing is Framing.LENGTH and "content-length" not in given:
            headers.append(("content-length", str(len(self.body))))
        if self.framing is Framing.EOF and "connection" not in given:
            headers.append(("connection", "close"))
        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


# Any answer


def raw(*parts: Part, end: End = End.KEEP) -> Reply:
    """Write exactly these bytes, status line and all."""
    return Reply(parts, framing=Framing.RAW, end=end)


def hang() -> Reply:
    """Read the request and never answer."""
    return raw(end=End.HANG)


def hang_up() -> Reply:
    """Read the request and close without a byte."""
    return raw(end=End.CLOSE)


def reset() -> Reply:
    """Read the request and reset the connection without a byte."""
    return raw(end=End.RESET)


def text(body: str | bytes, *, status: int = 200, content_type: str = "text/plain") -> Reply:
    data = body.encode() if isinstance(body, str) else body
    return Reply((data,), status, (("content-type", content_type),))


def json_reply(
    value: object, *, status: int = 200, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
) -> Reply:
    pairs = tuple(headers.items() if isinstance(headers, Mapping) else headers)
    data = json.dumps(value, ensure_ascii=False).encode()
    return Reply((data,), status, (("content-type", "application/json"), *pairs))


def redirect(location: str, status: int = 307) -> Reply:
    return Reply((), status, (("location", location),))


def sse(*frames: object, newline: str = "\n") -> Reply:
    """Stream server-sent events, a chunk for each.

    A frame that is bytes is written as it is; a string is the data of an event; anything else is
    the JSON data of one. `newline` makes the CR and CRLF dialects.
    """
    return Reply(
        tuple(_frame(frame, newline) for frame in frames),
        headers=(("content-type", "text/event-stream"),),
        framing=Framing.CHUNKED,
    )


def _frame(frame: object, newline: str) -> bytes:
    if isinstance(frame, bytes):
        return frame
    data = frame if isinstance(frame, str) else json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
    return f"data: {data}{newline}{newline}".encode()


# OpenAI's forms


def chat(
    content: str = "hello",
    *,
    usage: tuple[int, int] | Mapping[str, object] | None = (3, 5),
    model: str = "upstream-model",
    finish: str | None = "stop",
    **message: object,
) -> Reply:
    """A chat completion; `usage` is (input tokens, output tokens), or the member as it is."""
    answer: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": finish,
            }
        ],
    }
    if usage is not None:
        answer["usage"] = chat_usage(usage)
    return json_reply(answer)


def chat_usage(usage: tuple[int, int] | Mapping[str, object]) -> Mapping[str, object]:
    if isinstance(usage, Mapping):
        return usage
    prompt, completion = usage
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def chat_chunk(
    delta: Mapping[str, object] | None = None,
    *,
    finish: str | None = None,
    usage: tuple[int, int] | Mapping[str, object] | None = None,
    model: str = "upstream-model",
) -> dict[str, object]:
    """The data of one event of a chat stream; without a delta it carries only usage."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [] if delta is None else [choice],
    }
    if usage is not None:
        chunk["usage"] = chat_usage(usage)
    return chunk


def chat_stream(
    *contents: str,
    usage: tuple[int, int] | Mapping[str, object] | None = (3, 5),
    model: str = "upstream-model",
    finish: str | None = "stop",
    done: bool = True,
    newline: str = "\n",
) -> Reply:
    """A chat stream: the role, a frame for each content, the finish reason, usage, [DONE]."""
    frames: list[object] = [chat_chunk({"role": "assistant", "content": ""}, model=model)]
    frames += [chat_chunk({"content": content}, model=model) for content in contents]
    if finish is not None:
        frames.append(chat_chunk({}, finish=finish, model=model))
    if usage is not None:
        frames.append(chat_chunk(usage=usage, model=model))
    if done:
        frames.append("[DONE]")
    return sse(*frames, newline=newline)


def embeddings(
    *vectors: Sequence[float], usage: tuple[int, int] = (3, 0), model: str = "upstream-model"
) -> Reply:
    data = [
        {"object": "embedding", "index": index, "embedding": list(vector)}
        for index, vector in enumerate(vectors or ((0.5, -0.5),))
    ]
    counts = {"prompt_tokens": usage[0], "total_tokens": usage[0]}
    return json_reply({"object": "list", "data": data, "model": model, "usage": counts})


def models(*names: str) -> Reply:
    data = [{"id": name, "object": "model", "created": 1, "owned_by": "test"} for name in names]
    return json_reply({"object": "list", "data": data})


def error(
    status: int,
    message: str = "it went wrong",
    *,
    code: str | None = None,
    type: str = "upstream_said",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
) -> Reply:
    """A refusal in OpenAI's form."""
    body = {"error": {"message": message, "type": type, "param": None, "code": code}}
    return json_reply(body, status=status, headers=headers)


# Anthropic's forms


def message(
    content: str = "hello", *, usage: tuple[int, int] = (3, 5), model: str = "upstream-model"
) -> Reply:
    """An answer of the Messages API."""
    return json_reply(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": content}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": usage[0], "output_tokens": usage[1]},
        }
    )


def message_stream(*contents: str, usage: tuple[int, int] = (3, 5), model: str = "upstream-model") -> Reply:
    """A stream of the Messages API: message_start to message_stop, a delta for each content."""
    start: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": usage[0], "output_tokens": 1},
    }
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": content}}
        for content in contents
    ]
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": usage[1]},
        },
        {"type": "message_stop"},
    ]
    return sse(*(event_frame(event) for event in events))


def event_frame(event: Mapping[str, object]) -> bytes:
    """An event whose name repeats the type of its data, as Messages and Responses streams have it."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()
