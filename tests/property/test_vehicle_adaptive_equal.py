"""Adaptive residuals, compiled, pure, and from the specification: the same bytes, the same block, the same refusal."""

import math
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.vehicle import _pure_adaptive
from packager.vehicle.errors import CorruptError
from tests import spec_adaptive
from tests.sample_bundles import noise
from tests.spec_reader import SpecCorruptError, need

_native = pytest.importorskip("packager.vehicle._native", reason="no compiled kernel here")


def test_the_steps_are_those_of_the_logistic_function() -> None:
    half = [int(4096 / (1 + math.exp((16 - number) / 2))) for number in range(16)]
    assert [*half, 2047, *(4095 - step for step in reversed(half))] == list(_pure_adaptive._STEPS)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, "array[int]"]:
    """A block, and pieces in it; some units are half covered, and the last may be short."""
    pieces, at = array("Q"), 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 300)), max_size=6)):
        pieces.extend((at + gap, length))
        at += gap + length
    block = noise(draw(st.integers(0, 99)), at + draw(st.integers(0, 5)))
    return block if draw(st.booleans()) else bytes(byte & 0x11 for byte in block), pieces


@st.composite
def changes(draw: st.DrawFn) -> tuple[bytes, bytes, "array[int]"]:
    """A block, what it shall be, and pieces that cover all differences."""
    made, pieces = draw(blocks())
    wanted = bytearray(made)
    covered = [at for n in range(0, len(pieces), 2) for at in range(pieces[n], pieces[n] + pieces[n + 1])]
    step, amount = draw(st.integers(1, 90)), draw(st.sampled_from((0, 4, 8, 255)))
    for at in covered[::step]:
        wanted[at] = (wanted[at] + (amount or at % 7)) & 0xFF
    return made, bytes(wanted), pieces


@settings(max_examples=30, deadline=None)
@given(changes())
def test_what_is_written_is_read(case: tuple[bytes, bytes, "array[int]"]) -> None:
    made, wanted, pieces = case
    stream = _pure_adaptive.write_adaptive(made, wanted, pieces)
    assert _native.write_adaptive(made, wanted, pieces) == stream
    assert stream[-1:] != b"\0"
    assert made != wanted or len(stream) <= 2 + len(made) // 64
    for add_adaptive in (_pure_adaptive.add_adaptive, _native.add_adaptive):
        out = bytearray(made)
        add_adaptive(out, pieces, stream)
        assert out == wanted
        with pytest.raises(CorruptError, match="left over"):
            add_adaptive(bytearray(made), pieces, stream + bytes(8))
    out = bytearray(made)
    spec_adaptive.add_adaptive(out, list(zip(pieces[0::2], pieces[1::2], strict=True)), stream, need)
    assert out == wanted


@settings(max_examples=30, deadline=None)
@given(blocks(), st.binary(max_size=200))
def test_any_stream_is_read_alike(case: tuple[bytes, "array[int]"], stream: bytes) -> None:
    block, pieces = case
    results: list[bytes] = []
    for add_adaptive in (_pure_adaptive.add_adaptive, _native.add_adaptive):
        out, refused = bytearray(block), b""
        try:
            add_adaptive(out, pieces, stream)
        except CorruptError:
            refused = b" refused"
        results.append(bytes(out) + refused)
    out, refused = bytearray(block), b""
    try:
        spec_adaptive.add_adaptive(out, list(zip(pieces[0::2], pieces[1::2], strict=True)), stream, need)
    except SpecCorruptError:
        refused = b" refused"
    results.append(bytes(out) + refused)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("length", [1, 1 << 14, (1 << 14) + 1, 1 << 18, (1 << 18) + 1, 1 << 20])
def test_the_slots_follow_from_the_length(length: int) -> None:
    wanted = max(k for k in range(12, 17) if k == 12 or length > 2 << k)
    assert _pure_adaptive.slots_log2(length) == wanted
