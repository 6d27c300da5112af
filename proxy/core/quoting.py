"""Text of strangers, made safe for messages and logs."""


def quoted(text: str, limit: int = 128) -> str:
    """Return `text` in quotes, control characters escaped, cut after `limit` characters."""
    return repr(text) if len(text) <= limit else repr(text[:limit]) + "…"
