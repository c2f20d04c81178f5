"""The compiled kernel and its pure twin: the same block or the same refusal, on valid and on hostile input."""

from array import array
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.vehicle import _pure
from packager.vehicle.errors import CorruptError
from packager.vehicle.wire import encode_varint

_native = pytest.importorskip("packager.vehicle._native", reason="no compiled kernel here")


@dataclass(frozen=True)
class Case:
    out_bytes: int
    source: bytes
    pieces: tuple[int, ...]
    literals: bytes
    controls: bytes
    values: bytes


@st.composite
def valid_cases(draw: st.DrawFn) -> tuple[Case, bytes]:
    """A delta block made from its parts, with the block that must come out."""
    source, literals, new = bytearray(), bytearray(), bytearray()
    pieces: list[int] = []
    wanted = bytearray()
    for gap, old, changed in draw(
        st.lists(st.tuples(st.binary(max_size=5), st.binary(min_size=1, max_size=12), st.booleans()), max_size=6)
    ):
        literals += gap
        new += gap
        pieces += [len(new), len(old)]
        residual = draw(st.binary(min_size=len(old), max_size=len(old))) if changed else bytes(len(old))
        source += old
        wanted += residual
        new += bytes((a + b) & 0xFF for a, b in zip(old, residual, strict=True))
    tail = draw(st.binary(max_size=5))
    controls, values, at = bytearray(), bytearray(), 0
    while at < len(wanted):
        start = next((i for i in range(at, len(wanted)) if wanted[i]), None)
        if start is None:
            break
        end = draw(st.integers(start + 1, len(wanted)))
        controls += encode_varint(start - at) + encode_varint(end - start)
        values += wanted[start:end]
        at = end
    case = Case(
        len(new) + len(tail), bytes(source), tuple(pieces), bytes(literals + tail), bytes(controls), bytes(values)
    )
    return case, bytes(new + tail)


@st.composite
def hostile_cases(draw: st.DrawFn) -> Case:
    """A valid case with one part replaced by bytes that follow no rule."""
    case, _ = draw(valid_cases())
    integers = st.one_of(st.integers(0, 40), st.sampled_from([2**31, 2**32 - 1, 2**63, 2**64 - 1]))
    damage = draw(st.sampled_from(["out_bytes", "source", "pieces", "literals", "controls", "values", "varint"]))
    if damage == "out_bytes":
        changes: dict[str, object] = {damage: draw(st.integers(0, 80))}
    elif damage == "pieces":
        flat = draw(st.lists(integers, max_size=8))
        changes = {damage: tuple(flat[: len(flat) // 2 * 2])}
    elif damage == "varint":
        number = draw(st.integers(0, 2**63 - 1))
        at = draw(st.integers(0, len(case.controls)))
        changes = {"controls": case.controls[:at] + encode_varint(number) + case.controls[at:]}
    else:
        changes = {damage: draw(st.binary(max_size=40))}
    return Case(**{**{name: getattr(case, name) for name in Case.__dataclass_fields__}, **changes})


def run(kernel: object, case: Case, *, in_place: bool = False) -> bytes | type[Exception]:
    """Return what a kernel makes of a case: the block, or the class of its error; with its source apart, or at the end of the block."""
    source, out = memoryview(bytearray(case.source)), bytearray(b"\xa5" * case.out_bytes)
    if in_place:
        memoryview(out)[len(out) - len(source) :] = source
        source = memoryview(out)[len(out) - len(source) :]
    try:
        kernel.apply_delta(out, source, array("Q", case.pieces), case.literals, case.controls, case.values)  # type: ignore[attr-defined]
    except CorruptError as error:
        return type(error)
    return bytes(out)


@given(valid_cases())
def test_both_kernels_make_the_block(made: tuple[Case, bytes]) -> None:
    case, block = made
    assert run(_pure, case) == block
    assert run(_native, case) == block
    assert run(_pure, case, in_place=True) == block
    assert run(_native, case, in_place=True) == block


@given(hostile_cases())
def test_both_kernels_refuse_the_same(case: Case) -> None:
    assert run(_native, case) == run(_pure, case)
    if len(case.source) <= case.out_bytes:
        assert run(_native, case, in_place=True) == run(_pure, case)


@given(
    st.integers(0, 40),
    st.binary(max_size=40),
    st.lists(st.integers(0, 40), max_size=6).map(lambda flat: tuple(flat[: len(flat) // 2 * 2])),
    st.binary(max_size=20),
    st.binary(max_size=20),
    st.binary(max_size=20),
)
def test_both_kernels_agree_on_noise(
    out_bytes: int, source: bytes, pieces: tuple[int, ...], literals: bytes, controls: bytes, values: bytes
) -> None:
    case = Case(out_bytes, source, pieces, literals, controls, values)
    assert run(_native, case) == run(_pure, case)
