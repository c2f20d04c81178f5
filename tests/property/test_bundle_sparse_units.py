"""Residuals in units: the compiled writer, its slow twin, and the vehicle's reader agree."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from packager.bundle.predicted_forms import sparse_units_slowly
from packager.diff import matcher
from packager.vehicle import _pure
from tests import needs

pytestmark = needs.MATCHER


@st.composite
def cases(draw: st.DrawFn) -> tuple[bytes, bytes, list[tuple[int, int]]]:
    """Two blocks that are equal outside the cuts."""
    made = draw(st.binary(min_size=1, max_size=60))
    borders = sorted(draw(st.lists(st.integers(0, len(made)), max_size=8)))
    cuts = [(first, second - first) for first, second in zip(borders[::2], borders[1::2], strict=False)]
    wanted = bytearray(made)
    for start, length in cuts:
        for position in draw(st.lists(st.integers(start, start + length - 1), max_size=6)) if length else ():
            wanted[position] = draw(st.integers(0, 255))
    return made, bytes(wanted), cuts


@given(cases(), st.sampled_from([1, 2, 4]))
def test_what_is_written_is_what_is_read(case: tuple[bytes, bytes, list[tuple[int, int]]], unit: int) -> None:
    made, wanted, cuts = case
    flat = array("Q", (number for cut in cuts for number in cut))
    gaps, values = matcher.sparse_units(made, wanted, flat, unit)
    out = bytearray(made)
    _pure.add_units(out, flat, gaps, values, unit)
    assert out == wanted
    slow_gaps, slow_values = sparse_units_slowly(made, wanted, cuts, unit)
    assert gaps == slow_gaps
    assert len(values) == len(slow_values)
    slow = bytearray(made)
    _pure.add_units(slow, flat, slow_gaps, slow_values, unit)
    assert slow == wanted
