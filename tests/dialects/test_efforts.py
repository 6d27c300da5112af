"""Words and budgets for how hard to think."""

import pytest

from proxy.dialects.efforts import BUDGETS, EFFORTS, effort_for_budget, nearest_effort


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(0, "low"), (2047, "low"), (2048, "medium"), (8191, "medium"), (8192, "high"), (100_000, "high")],
)
def test_budgets(budget: int, effort: str) -> None:
    assert effort_for_budget(budget) == effort


@pytest.mark.parametrize(
    ("effort", "known", "expected"),
    [
        ("medium", ("low", "medium", "high"), "medium"),
        ("minimal", ("low", "medium", "high"), "low"),
        ("medium", ("low", "high", "max"), "high"),
        ("xhigh", ("low", "medium", "high"), "high"),
        ("ultra", ("none", "low", "medium"), "medium"),
    ],
    ids=["known", "below", "between", "above", "no effort"],
)
def test_the_nearest_effort(effort: str, known: tuple[str, ...], expected: str) -> None:
    assert nearest_effort(effort, known) == expected


def test_each_effort_has_a_budget_that_rises() -> None:
    budgets = [BUDGETS[effort] for effort in EFFORTS]
    assert budgets == sorted(budgets)
    assert len(BUDGETS) == len(EFFORTS)
