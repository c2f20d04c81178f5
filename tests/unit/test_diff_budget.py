"""A time budget lowers the effort, by lengths alone."""

import pytest

from packager.diff.budget import S_PER_MIB, effort_within, expected_s
from packager.diff.engine import MAX_EFFORT, MIN_EFFORT
from packager.vehicle.profile import MIB, Coder

ZSTD = frozenset({Coder.RAW, Coder.ZSTD})
EFFORTS = range(MIN_EFFORT, MAX_EFFORT + 1)


def test_every_effort_is_expected_to_take_some_time_and_a_higher_one_no_less() -> None:
    assert list(S_PER_MIB) == list(EFFORTS)
    assert sorted(S_PER_MIB.values()) == list(S_PER_MIB.values())


@pytest.mark.parametrize("effort", [1, 2, 3, 4, 6, 8, 9])
def test_the_highest_effort_within_the_budget_is_taken(effort: int) -> None:
    """6 is expected to take as long as 5, and 8 as 7, so that nothing less than the higher one fits."""
    budget_s = expected_s(effort, 10 * MIB, ZSTD)
    assert effort_within(MAX_EFFORT, budget_s, 10 * MIB, ZSTD) == effort
    assert effort_within(MAX_EFFORT, budget_s, 10 * MIB + 1, ZSTD) < max(effort, 2)


def test_a_budget_never_raises_the_effort() -> None:
    assert effort_within(3, 1e9, 1, ZSTD) == 3
    assert effort_within(3, None, 1 << 40, ZSTD) == 3


def test_the_least_effort_is_taken_where_none_fits() -> None:
    assert effort_within(9, 0.001, 1 << 30, ZSTD) == 1


def test_more_coders_take_longer() -> None:
    times = [expected_s(5, MIB, coders) for coders in (ZSTD, ZSTD | {Coder.ADAPTIVE}, frozenset(Coder))]
    assert times == sorted(set(times))
