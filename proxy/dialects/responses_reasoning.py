"""Reasoning in `encrypted_content`: what lets a client that keeps only this give it back next turn.

It is no secret, since the client gets the same text in the open: a version and base64, not OpenAI's
format and not meant to look like it. docs/dialects.md, "Responses over Chat"
"""

import base64

PREFIX = "sluice-reasoning-1:"


def sealed(text: str) -> str:
    """Return reasoning text as `encrypted_content`."""
    return PREFIX + base64.b64encode(text.encode()).decode()


def unsealed(content: object) -> str:
    """Return the text of our own `encrypted_content`; nothing for anybody else's, or a damaged one."""
    if not isinstance(content, str) or not content.startswith(PREFIX):
        return ""
    try:
        return base64.b64decode(content[len(PREFIX) :], validate=True).decode()
    except ValueError:
        return ""
