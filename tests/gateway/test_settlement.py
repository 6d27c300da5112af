"""The settlement contract, row by row."""

import pytest

from proxy.core.entities import Billing, Finish, Usage
from proxy.core.metering import ReportedUsage
from proxy.gateway.settlement import Reached, settle

REPORTED = ReportedUsage(input_tokens=100, output_tokens=20, cached_tokens=10)
HALF = ReportedUsage(input_tokens=100)
ESTIMATE = (90, 15)

FAULTS = [Finish.UPSTREAM_ERROR, Finish.TRUNCATED, Finish.TIMEOUT]
BROKEN_OFF = [Finish.CLIENT_GONE, Finish.SHUTDOWN, Finish.REVOKED]


def ended(
    finish: Finish, reached: Reached, reported: ReportedUsage | None = None
) -> tuple[Billing, Usage, bool]:
    settlement = settle(finish, reached, reported, lambda: ESTIMATE)
    assert settlement.finish is finish
    return settlement.billing, settlement.usage, settlement.estimated


def test_complete_with_usage() -> None:
    assert ended(Finish.OK, Reached.COMPLETE, REPORTED) == (Billing.SETTLED, Usage(100, 20, 10), False)


def test_complete_without_usage() -> None:
    assert ended(Finish.OK, Reached.COMPLETE) == (Billing.ESTIMATED, Usage(90, 15), True)


def test_only_the_missing_classes_are_estimated() -> None:
    assert ended(Finish.OK, Reached.COMPLETE, HALF) == (Billing.ESTIMATED, Usage(100, 15), True)


def test_a_reported_zero_is_a_report() -> None:
    zero = ReportedUsage(input_tokens=0, output_tokens=0)
    assert ended(Finish.OK, Reached.COMPLETE, zero) == (Billing.SETTLED, Usage(), False)


@pytest.mark.parametrize("finish", FAULTS)
@pytest.mark.parametrize("reached", [Reached.NOTHING, Reached.ANSWERED])
@pytest.mark.parametrize("reported", [None, REPORTED])
def test_a_providers_fault_before_any_content_is_void(
    finish: Finish, reached: Reached, reported: ReportedUsage | None
) -> None:
    assert ended(finish, reached, reported) == (Billing.VOID, Usage(), False)


@pytest.mark.parametrize("finish", FAULTS)
def test_a_providers_fault_after_content(finish: Finish) -> None:
    assert ended(finish, Reached.CONTENT) == (Billing.ESTIMATED, Usage(90, 15), True)
    assert ended(finish, Reached.CONTENT, REPORTED) == (Billing.SETTLED, Usage(100, 20, 10), False)


@pytest.mark.parametrize("finish", BROKEN_OFF)
def test_broken_off_before_the_providers_2xx_is_void(finish: Finish) -> None:
    assert ended(finish, Reached.NOTHING) == (Billing.VOID, Usage(), False)


@pytest.mark.parametrize("finish", BROKEN_OFF)
@pytest.mark.parametrize("reached", [Reached.ANSWERED, Reached.CONTENT])
def test_broken_off_after_it_is_estimated(finish: Finish, reached: Reached) -> None:
    assert ended(finish, reached) == (Billing.ESTIMATED, Usage(90, 15), True)
    assert ended(finish, reached, REPORTED) == (Billing.ESTIMATED, Usage(100, 20, 10), True)


def test_the_estimate_is_made_only_when_needed() -> None:
    def unwanted() -> tuple[int, int]:
        raise AssertionError("estimated without need")

    settle(Finish.OK, Reached.COMPLETE, REPORTED, unwanted)
    settle(Finish.TIMEOUT, Reached.NOTHING, None, unwanted)


@pytest.mark.parametrize("finish", [*BROKEN_OFF, Finish.CRASH])
def test_what_came_after_the_last_report_of_an_answer_that_was_broken_off_counts(finish: Finish) -> None:
    early = ReportedUsage(input_tokens=100, output_tokens=3)
    assert ended(finish, Reached.CONTENT, early) == (Billing.ESTIMATED, Usage(100, 15), True)


def test_the_whole_answer_for_a_client_that_is_gone_is_settled_by_its_report() -> None:
    assert ended(Finish.CLIENT_GONE, Reached.COMPLETE, REPORTED) == (
        Billing.SETTLED,
        Usage(100, 20, 10),
        False,
    )
