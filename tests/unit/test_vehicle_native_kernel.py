"""The CPython face of the compiled kernel: what it accepts, what it refuses, and that it hands the interpreter over."""

import threading
from array import array
from typing import Any

import pytest

from packager.vehicle import _pure
from packager.vehicle.errors import CorruptError
from packager.vehicle.wire import encode_varint


@pytest.fixture(params=["pure", "native"])
def kernel(request: pytest.FixtureRequest) -> Any:
    return _pure if request.param == "pure" else pytest.importorskip("packager.vehicle._native")


def test_it_has_a_name(kernel: Any) -> None:
    assert kernel.NAME in ("C", "pure Python")


@pytest.mark.parametrize("pieces", [array("Q", [1, 3]), [1, 3], (1, 3), memoryview(array("Q", [1, 3]))])
def test_pieces_are_a_buffer_or_a_sequence(kernel: Any, pieces: Any) -> None:
    out = bytearray(5)
    kernel.apply_delta(memoryview(out), b"abc", pieces, b"<>", memoryview(b"\x01\x01"), b"\x01")
    assert out == b"<acc>"


def test_pieces_at_an_odd_address_are_copied(kernel: Any) -> None:
    numbers = memoryview(bytearray(b"\0" + array("Q", [1, 3]).tobytes()))[1:].cast("Q")
    out = bytearray(5)
    kernel.apply_delta(out, b"abc", numbers, b"<>", b"", b"")
    assert out == b"<abc>"


def test_no_pieces_are_only_literals(kernel: Any) -> None:
    out = bytearray(3)
    kernel.apply_delta(out, b"", array("Q"), b"xyz", b"", b"")
    assert out == b"xyz"


def test_an_overlapping_source_is_taken_as_it_was(kernel: Any) -> None:
    both = bytearray(b"abcdef..")
    kernel.apply_delta(memoryview(both)[2:], memoryview(both)[:6], [0, 6], b"", b"", b"")
    assert both == b"ababcdef"


@pytest.mark.parametrize(
    ("pieces", "literals", "controls", "values"),
    [
        ([0, 5], b"", b"", b""),  # longer than the source
        ([0, 3], b"", b"", b""),  # source left over
        ([0, 4], b"x", b"", b""),  # literals left over
        ([1, 4], b"", b"", b""),  # leaves the block
        ([0, 3, 2, 1], b"", b"", b""),  # pieces overlap
        ([2**63, 2**63], b"", b"", b""),  # sum overflows 64 bits
        ([2**64 - 1, 2], b"", b"", b""),
        ([0, 4], b"", b"\x00\x00", b""),  # empty run
        ([0, 4], b"", b"\x00", b"z"),  # half a pair
        ([0, 4], b"", b"\x00\x05", b"12345"),  # run leaves the source
        ([0, 4], b"", b"\x04\x01", b"1"),  # skip leaves the source
        ([0, 4], b"", b"\x00\x02", b"1"),  # values short
        ([0, 4], b"", b"\x00\x01", b"12"),  # values left over
        ([0, 4], b"", b"\x80\x00\x01", b"1"),  # padded varint
        ([0, 4], b"", b"\xff" * 10, b"1"),  # varint of ten bytes
        ([0, 4], b"", encode_varint(2**63 - 1) + encode_varint(2**63 - 1), b"1"),
    ],
)
def test_broken_columns_are_corrupt(
    kernel: Any, pieces: list[int], literals: bytes, controls: bytes, values: bytes
) -> None:
    with pytest.raises(CorruptError, match="delta block: "):
        kernel.apply_delta(bytearray(4), b"abcd", pieces, literals, controls, values)


def test_the_output_must_be_writable(kernel: Any) -> None:
    with pytest.raises(TypeError):
        kernel.apply_delta(b"abcd", b"abcd", [0, 4], b"", b"", b"")


def test_half_a_piece_is_a_fault_of_the_caller(kernel: Any) -> None:
    with pytest.raises(IndexError):
        kernel.apply_delta(bytearray(4), b"abcd", [0, 4, 4], b"", b"", b"")


def test_many_threads_may_decode_at_once() -> None:
    native: Any = pytest.importorskip("packager.vehicle._native")
    size = 1 << 20
    source, values = bytes(range(256)) * (size // 256), b"\x01" * size
    outputs = [bytearray(size) for _ in range(4)]
    controls = encode_varint(0) + encode_varint(size)
    threads = [
        threading.Thread(target=native.apply_delta, args=(out, source, [0, size], b"", controls, values))
        for out in outputs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(map(bytes, outputs)) == {(bytes(range(1, 256)) + b"\0") * (size // 256)}
