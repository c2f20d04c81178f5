"""Prediction, compiled and pure: the same bytes or the same refusal; and what was made a label is unmade exactly."""

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.vehicle import _pure, _pure_predict
from packager.vehicle._pure_stretch import Context, Kind
from packager.vehicle.errors import CorruptError
from packager.vehicle.instructions import ALL_GROUPS, InstructionSet
from packager.vehicle.wire import encode_varint
from tests.predicted_cases import PAGE, U64, code, contexts, stretches

_native = pytest.importorskip("packager.vehicle._native", reason="no compiled kernel here")


@settings(max_examples=150, deadline=None)
@given(contexts(), stretches(), st.sampled_from([Kind.LABEL, Kind.UNLABEL]))
def test_both_kernels_label_a_block_alike(context: Context, stretch: tuple[int, bytes], kind: Kind) -> None:
    address, data = stretch
    pure, compiled = bytearray(data), bytearray(data)
    _pure_predict.label_block(context, kind, pure, address)
    _native.label_block(context, kind, compiled, address)
    assert pure == compiled


@settings(max_examples=150, deadline=None)
@given(contexts(), stretches(), st.lists(st.integers(0, 80), max_size=4), stretches())
def test_both_kernels_label_a_source_alike(
    context: Context, stretch: tuple[int, bytes], lengths: list[int], second: tuple[int, bytes]
) -> None:
    """Pieces are cut anywhere, also within instructions, and may be longer than the source."""
    new_at, data = stretch
    old_at, _ = second
    triples, at = array("Q"), 0
    for length in lengths:
        triples.extend(((new_at + at) & U64, length, (old_at + at * 3) & U64))
        at += length
    triples.extend((new_at, max(len(data) - at, 0), old_at))
    results = []
    for label_source in (_pure_predict.label_source, _native.label_source):
        source = bytearray(data)
        try:
            label_source(context, source, triples)
            results.append((None, bytes(source)))
        except CorruptError:
            results.append((CorruptError, bytes(source)))
    assert results[0] == results[1]


@settings(max_examples=250, deadline=None)
@given(contexts(), stretches())
def test_unlabelling_undoes_labelling(context: Context, stretch: tuple[int, bytes]) -> None:
    """On any bytes at any address, whatever the pages around say: on this the whole coding rests."""
    address, data = stretch
    block = bytearray(data)
    _native.label_block(context, Kind.LABEL, block, address)
    _native.label_block(context, Kind.UNLABEL, block, address)
    assert block == data


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 3 * PAGE), st.integers(1, 3 * PAGE), st.integers(0, 3 * PAGE))
def test_both_kernels_label_database_pages_alike(seed: int, first: int, count: int, new_at: int) -> None:
    """Stretches of whole pages cut anywhere: before, in and behind the lists of cells; what was made a label is unmade."""
    context = Context(
        bytes((InstructionSet.BTREE,)),
        b"\1",
        array("Q", (0,)),
        bytes(8),
        array("Q"),
        array("q"),
        8 * PAGE,
        8 * PAGE,
    )
    data = code(seed, InstructionSet.BTREE, 4 * PAGE)[first : first + count]
    sources, blocks = [], []
    for kernel in (_pure_predict, _native):
        source, block = bytearray(data), bytearray(data)
        kernel.label_source(context, source, array("Q", (new_at, len(data), first)))
        kernel.label_block(context, Kind.LABEL, block, first)
        sources.append(source)
        blocks.append(bytes(block))
        kernel.label_block(context, Kind.UNLABEL, block, first)
        assert block == data
    assert sources[0] == sources[1]
    assert blocks[0] == blocks[1]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(InstructionSet),
    st.sampled_from(InstructionSet),
    st.integers(0, int(ALL_GROUPS)),
    st.integers(0, int(ALL_GROUPS)),
    st.integers(0, 1 << 30),
    st.integers(0, 3),
)
def test_unlabelling_undoes_labelling_at_every_border(
    first: InstructionSet, second: InstructionSet, groups: int, others: int, seed: int, odd: int
) -> None:
    """Pages take turns with two modes, so that instructions and pairs straddle borders between all rules."""
    pages = 16
    context = Context(
        bytes((first, second)),
        bytes((groups, others)),
        array("Q", (0, 0)),
        bytes(number % 2 for number in range(pages)),
        array("Q", (0,)),
        array("q", (64,)),
        pages * PAGE,
        pages * PAGE,
    )
    data = bytearray(code(seed, first, pages * PAGE - odd))
    for page in range(1, pages, 2):
        data[page * PAGE + 6 : page * PAGE + 4000] = code(seed + page, second, 3994)
    block = bytearray(data)
    _native.label_block(context, Kind.LABEL, block, odd)
    _native.label_block(context, Kind.UNLABEL, block, odd)
    assert block == data


@pytest.mark.parametrize("other", [InstructionSet.THUMB2, InstructionSet.AARCH64, InstructionSet.X86])
def test_a_pair_is_not_looked_for_in_the_next_page(other: InstructionSet) -> None:
    """AUIPC at the end of a page, its load in the next one, which has other rules: the load is not touched by the first."""
    context = Context(
        bytes((InstructionSet.RISCV, other)),
        bytes((127, 127)),
        array("Q", (0, 0)),
        b"\0\1",
        array("Q"),
        array("q"),
        2 * PAGE,
        2 * PAGE,
    )
    data = bytes(PAGE - 4) + bytes.fromhex("97820100 03a30294".replace(" ", "")) + bytes(PAGE - 4)
    for kernel in (_native, _pure_predict):
        block = bytearray(data)
        kernel.label_block(context, Kind.LABEL, block, 0)
        assert block[:PAGE] == data[:PAGE]
        kernel.label_block(context, Kind.UNLABEL, block, 0)
        assert block == data


@st.composite
def units(draw: st.DrawFn) -> tuple[int, tuple[int, ...], bytes, bytes, int]:
    """A block length, pieces in it, gaps, values and unit; mostly valid."""
    pieces: list[int] = []
    at = 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), max_size=6)):
        pieces += [at + gap, length]
        at += gap + length
    unit = draw(st.sampled_from((1, 2, 4)))
    gaps = draw(st.lists(st.integers(0, 6), max_size=6))
    coded = b"".join(map(encode_varint, gaps))
    values = draw(st.binary(min_size=len(gaps) * unit, max_size=len(gaps) * unit))
    damage = draw(st.sampled_from(("none", "none", "gaps", "values", "far")))
    if damage == "gaps":
        coded += draw(st.binary(max_size=12))
    elif damage == "values":
        values = draw(st.binary(max_size=20))
    elif damage == "far":
        coded += encode_varint(draw(st.sampled_from((1 << 31, (1 << 63) - 1))))
        values += bytes(unit)
    return at + draw(st.integers(0, 5)), tuple(pieces), coded, values, unit


@settings(max_examples=150, deadline=None)
@given(units())
def test_both_kernels_add_units_alike(case: tuple[int, tuple[int, ...], bytes, bytes, int]) -> None:
    length, pieces, gaps, values, unit = case
    results = []
    for add_units in (_pure.add_units, _native.add_units):
        out = bytearray(b"\xf0" * length)
        try:
            add_units(out, array("Q", pieces), gaps, values, unit)
            results.append(bytes(out))
        except CorruptError:
            results.append(b"refused")
    assert results[0] == results[1]
