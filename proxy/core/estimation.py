"""Tokens of whole requests and answers, estimated when no provider has told them (yet).

For limits and holds before a request is sent, for `count_tokens`, and for usage that a provider
did not report. docs/limits.md, "The estimate"
"""

import msgspec

from proxy.core.images import size_of
from proxy.core.tokenizers import Family

# Tokens around the text itself.
_MESSAGE = 4
_REPLY_PRIMER = 3
_TOOL_DEFINITION = 8
_TOOL_CALL = 8
_TOOL_RESULT = 6

_OVERHEAD_BY_TYPE = {
    "function_call": _TOOL_CALL,
    "custom_tool_call": _TOOL_CALL,
    "tool_use": _TOOL_CALL,
    "server_tool_use": _TOOL_CALL,
    "tool_result": _TOOL_RESULT,
    "function_call_output": _TOOL_RESULT,
    "custom_tool_call_output": _TOOL_RESULT,
}
_OVERHEAD_BY_ROLE = {"tool": _MESSAGE + _TOOL_RESULT, "function": _MESSAGE + _TOOL_RESULT}

_IMAGES = frozenset({"image", "image_url", "input_image"})

# Texts of at least so many characters are counted once; at most so many of them are known.
_LONG = 256
_MOST_KNOWN = 4096

# What no model reads as text: names of things, media, and what only machines understand.
_NO_TEXT = frozenset(
    {
        "annotations",
        "cache_control",
        "call_id",
        "citations",
        "data",
        "detail",
        "encrypted_content",
        "file_data",
        "file_id",
        "file_url",
        "format",
        "id",
        "image_url",
        "logprobs",
        "media_type",
        "result",
        "role",
        "signature",
        "status",
        "tool_call_id",
        "tool_use_id",
        "type",
        "url",
    }
)


def estimate_text(text: str, family: Family) -> int:
    """Return the estimated tokens of a text, rounded up."""
    return _tokens(family.milli_tokens(text.encode(errors="replace")))


def estimate_plain_input(value: object, family: Family) -> int:
    """Return the estimate for `prompt` or for the `input` of embeddings.

    A text, token ids, or a list of either.
    """
    tally = _Tally(family)
    tally.add(value)
    return _tokens(tally.milli_tokens())


def estimate_chat_input(messages: object, tools: object, family: Family, *, system: object = None) -> int:
    """Return the estimate for a conversation, in the shape of any of the three protocols.

    `messages` are those of Chat or Messages, or the `input` of Responses; `system` is the
    `system` of Messages or the `instructions` of Responses. All are decoded JSON that nobody
    has checked: what has an unknown shape is counted by its texts.
    """
    tally = _Tally(family)
    tally.add(messages)
    tally.add(system)
    without_role = isinstance(messages, str) + (system is not None)
    tally.overhead += _REPLY_PRIMER + _MESSAGE * without_role
    if not isinstance(tools, list):
        return _tokens(tally.milli_tokens())
    tally.overhead += _TOOL_DEFINITION * len(tools)
    definitions = b"".join(map(_compact, tools)).decode()
    # Compact JSON is nine tenths of it where the provider writes the definition its own way.
    return _tokens(tally.milli_tokens() + _known_texts.milli_tokens(definitions, family) * 9 // 10)


class _KnownTexts:
    """What long texts counted: tools send a conversation, and their definitions, again with every turn.

    No text is kept, only its hash, which Python keys with a secret of the process (PEP 456).
    """

    def __init__(self) -> None:
        self._milli_tokens: dict[tuple[int, int, int], int] = {}

    def milli_tokens(self, text: str, family: Family) -> int:
        known = self._milli_tokens
        mark = hash(text), len(text), id(family)
        milli_tokens = known.get(mark)
        if milli_tokens is None:
            milli_tokens = family.milli_tokens(text.encode(errors="replace"))
            if len(known) >= _MOST_KNOWN:
                del known[next(iter(known))]
            known[mark] = milli_tokens
        return milli_tokens


_known_texts = _KnownTexts()


class _Tally:
    """Gathers the texts of a decoded JSON value, and what counts without being text."""

    def __init__(self, family: Family) -> None:
        self.overhead = 0
        self._family = family
        self._long_milli_tokens = 0
        self._texts: list[str] = []

    def add(self, value: object) -> None:
        """Add all that is in a value. A loop, since clients choose how deep they nest."""
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                if len(value) < _LONG:
                    self._texts.append(value)
                else:
                    self._long_milli_tokens += _known_texts.milli_tokens(value, self._family)
            elif isinstance(value, dict):
                waiting += self._members(value)
            elif isinstance(value, list):
                if value and isinstance(value[0], int):
                    self.overhead += len(value)  # token ids
                else:
                    waiting += value

    def milli_tokens(self) -> int:
        # One pass over all short texts. The NULs between them end every run, and are taken off again.
        text = "\0".join(self._texts).encode(errors="replace")
        separators = max(len(self._texts) - 1, 0) * self._family.weights.others
        short_milli_tokens = self._family.milli_tokens(text) - separators
        return short_milli_tokens + self._long_milli_tokens + self.overhead * 1000

    def _members(self, value: dict[str, object]) -> list[object]:
        """Count an object's overhead or image; return what may still hold text."""
        kind = value.get("type")
        if not isinstance(kind, str):
            kind = ""
        if kind in _IMAGES:
            self.overhead += self._image_tokens(value)
            return []
        self.overhead += _OVERHEAD_BY_TYPE.get(kind, 0)
        role = value.get("role")
        if isinstance(role, str):
            self.overhead += _OVERHEAD_BY_ROLE.get(role, _MESSAGE)
        calls = value.get("tool_calls")
        if isinstance(calls, list):
            self.overhead += _TOOL_CALL * len(calls)
        if kind == "tool_use":  # its input is an object, which the model reads as JSON
            return [value.get("name"), _compact(value.get("input")).decode()]
        members = [member for key, member in value.items() if key not in _NO_TEXT]
        if kind == "text":
            members.append(value.get("data"))  # of a document's source
        return members

    def _image_tokens(self, part: dict[str, object]) -> int:
        """Return the tokens of an image part of Chat, Responses or Messages."""
        source = part.get("image_url") or part.get("source")
        image = source if isinstance(source, dict) else {"url": source, "detail": part.get("detail")}
        data, url = image.get("data"), image.get("url")
        if isinstance(url, str) and url.startswith("data:"):
            data = url.partition(",")[2]
        size = size_of(data) if isinstance(data, str) else None
        return self._family.image_tokens(size, image.get("detail"))


class OutputCounter:
    """Counts the text of an answer as it streams: content, reasoning, tool arguments."""

    # Characters kept as pieces: enough to fold seldom, little beside a thousand open streams.
    _FOLD = 2048

    __slots__ = ("_family", "_kept", "_milli_tokens", "_pieces")

    def __init__(self, family: Family) -> None:
        self._family = family
        self._pieces: list[str] = []
        self._kept = 0
        self._milli_tokens = 0

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._kept += len(piece)
        if self._kept >= self._FOLD:
            self._fold()

    @property
    def tokens(self) -> int:
        """The estimated tokens of everything added, rounded up."""
        rest = "".join(self._pieces).encode(errors="replace")
        return _tokens(self._milli_tokens + self._family.milli_tokens(rest))

    def _fold(self) -> None:
        """Count up to the last space, so that no word is counted as two."""
        text = "".join(self._pieces)
        end = text.rfind(" ", len(text) // 2)
        if end < 0:
            end = len(text)
        self._milli_tokens += self._family.milli_tokens(text[:end].encode(errors="replace"))
        self._pieces = [text[end:]]
        self._kept = len(text) - end


class Calibration:
    """Learns, per upstream model, how far the estimate is off, from answers that report usage."""

    # Short texts say more about chat templates than about the tokenizer.
    _LEAST_TOKENS = 50
    _WEIGHT = 0.2  # of the latest answer
    _BOUNDS = (0.6, 1.8)
    _MODELS = 1000

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}

    def observe(self, model: str, estimated: int, reported: int) -> None:
        """Learn from one answer whose tokens were estimated and reported."""
        if estimated < self._LEAST_TOKENS:
            return
        least, most = self._BOUNDS
        ratio = min(max(reported / estimated, least), most)
        before = self._ratios.pop(model, 1.0)
        if len(self._ratios) >= self._MODELS:
            del self._ratios[next(iter(self._ratios))]  # the one not seen for longest
        self._ratios[model] = before + (ratio - before) * self._WEIGHT

    def corrected(self, model: str, estimated: int) -> int:
        """Return an estimate multiplied by what was learned for the model."""
        return round(estimated * self._ratios.get(model, 1.0))


def _compact(value: object) -> bytes:
    """Return decoded JSON as JSON; what is nested deeper than can be written is no text."""
    try:
        return msgspec.json.encode(value)
    except RecursionError:
        return b""


def _tokens(milli_tokens: int) -> int:
    return -(-milli_tokens // 1000)
