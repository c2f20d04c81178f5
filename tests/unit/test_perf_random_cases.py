"""A small sample of the random cases; the campaign itself is `make random-cases`."""

from dataclasses import replace

import pytest

from packager.vehicle.errors import CorruptError
from tests.perf import random_cases
from tests.perf.random_cases import make_case, run_case, run_range

SEED = 20


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_applying_a_bundle_makes_the_new_image(first: int) -> None:
    met, failures = run_range(SEED, first, first + 100)
    assert not failures, failures[0]
    assert met["cases"] == 100
    assert met["over budget"] < 10
    assert min(met["full"], met["delta"], met["in place"]) > 0


@pytest.mark.parametrize("number", [6325, 26542])
def test_cases_that_once_failed(number: int) -> None:
    """All labels, no pieces: the old bytes that the segments name are read and hashed all the same, and must be within the caps."""
    encoded = run_case(make_case(2, number))
    assert encoded is not None
    assert "predicted+zstd" in encoded.blocks_by_form


def test_a_case_is_made_of_its_numbers_alone() -> None:
    assert make_case(1, 7) == make_case(1, 7)
    assert len({make_case(1, number).new for number in range(20)} | {make_case(2, 0).new}) == 21


def test_another_image_is_a_failure() -> None:
    case = next(case for case in (make_case(SEED, number) for number in range(99)) if case.profile.spare_slot)
    assert run_case(case) is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_cases, "_applied", lambda case, head, data: case.new[:-1])
        with pytest.raises(AssertionError, match="another image"):
            run_case(replace(case))


def test_a_failing_case_tells_how_to_repeat_it_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(case: random_cases.Case) -> None:
        if case == make_case(SEED, 2):
            raise CorruptError("no such luck")

    monkeypatch.setattr(random_cases, "run_case", fail)
    met, (failure,) = run_range(SEED, 0, 5)
    assert met["cases"] == 4
    assert "no such luck" in failure
    assert f"--seed {SEED} --only 2" in failure
