"""Taking secrets out of what providers say, before anybody else reads it."""

import re
from collections.abc import Iterable

MASK = "***"

# Bounds the work of the patterns below; only the first 2 KiB of a provider's text are ever shown.
MAX_TEXT_CHARS = 8192

# Shorter ones are placeholders such as "none" or "x": hiding them would only garble the text.
_SHORTEST_SECRET = 4
# A provider may quote only the beginning of a key.
_TELLING_PREFIX = 8

_KEY_LIKE = re.compile(
    r"""
      (?<=://)[^/\s@:]+:[^/\s@]*(?=@)                        # credentials in a URL
    | (?<=\bBearer\s)\S{6,}
    | \b(?:sk|pk|rk|ak|tp|xai|csk|nvapi|pplx|org|proj)[-_][\w.*…-]{6,}
    | \b(?:gsk|hf|fw|tgp|r8)_\w{8,}
    | \bAIza[\w-]{10,}                                       # Google
    | \beyJ[\w-]{8,}\.[\w.-]+                                # a JSON web token
    | \bbce-v3/\S+                                           # Baidu
    | \b(?:AKIA|AKID|LTAI)\w{12,}
    | \b[0-9a-f]{32}\.\w{16}\b                               # Zhipu
    """,
    re.VERBOSE,
)
_LONG = re.compile(r"[\w-]{32,}")
# What a long run must hold, all three, to be no word, no name and no request id.
_MIXTURE = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"))


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without its key-like parts and without `secrets`, even when cut short.

    Request ids (UUIDs, hexadecimal) stay: they are what a provider's support asks for.
    Only the first `MAX_TEXT_CHARS` characters are kept.
    """
    text = text[:MAX_TEXT_CHARS]
    for secret in secrets:
        if len(secret) >= _TELLING_PREFIX:
            text = re.sub(re.escape(secret[:_TELLING_PREFIX]) + r"[^\s\"'<>,;)]*", MASK, text)
        elif len(secret) >= _SHORTEST_SECRET:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return _LONG.sub(_hide_mixture, _KEY_LIKE.sub(MASK, text))


def _hide_mixture(run: re.Match[str]) -> str:
    return MASK if all(kind.search(run[0]) for kind in _MIXTURE) else run[0]
