"""Text of strangers, made safe for messages, logs and spreadsheets."""


def quoted(text: str, limit: int = 128) -> str:
    """Return `text` in quotes, control characters escaped, cut after `limit` characters."""
    return repr(text) if len(text) <= limit else repr(text[:limit]) + "…"


def unformulaic(text: str) -> str:
    """Return text that no spreadsheet takes for a formula, for a cell of a CSV file."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
