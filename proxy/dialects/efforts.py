"""How hard to think: the words of both protocols, and the budgets of LLM tokens before there were words."""

#: From least to most; providers know some of them.
EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")

#: The budget that stands for each effort at models that know no efforts. The least allowed is 1,024.
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 32000}


def effort_for_budget(budget_tokens: int) -> str:
    """Return the word for a budget."""
    if budget_tokens < 2048:
        return "low"
    return "medium" if budget_tokens < 8192 else "high"


def nearest_effort(effort: str, known: tuple[str, ...]) -> str:
    """Return the effort itself if it is known, else the next known one up, else the highest.

    What is no effort at all counts as medium.
    """
    rank = EFFORTS.index(effort) if effort in EFFORTS else EFFORTS.index("medium")
    ranked = sorted((EFFORTS.index(word), word) for word in known if word in EFFORTS)
    return next((word for other, word in ranked if other >= rank), ranked[-1][1])
