"""Runs of every length, far from and close to the end of the block and of the values: the compiled kernel adds as its pure twin does."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.vehicle import _pure
from packager.vehicle.wire import encode_varint
from tests.sample_bundles import noise

native: Any = pytest.importorskip("packager.vehicle._native", reason="no compiled kernel here")


def both(source: bytes, pieces: list[int], literals: bytes, runs: list[tuple[int, int]], values: bytes) -> bytes:
    controls = b"".join(encode_varint(skip) + encode_varint(run) for skip, run in runs)
    block_bytes = len(source) + len(literals)
    made, expected = bytearray(block_bytes), bytearray(block_bytes)
    native.apply_delta(made, source, pieces, literals, controls, values)
    _pure.apply_delta(expected, source, pieces, literals, controls, values)
    assert made == expected
    return bytes(made)


@pytest.mark.parametrize("run", [*range(1, 70), 127, 128, 1000])
def test_every_length_of_a_run(run: int) -> None:
    """At the start, in the middle and at the end; every byte around it stays."""
    source = noise(1, 1200)
    for at in (0, 100, len(source) - run):
        values = noise(run, run)
        wanted = bytearray(source)
        wanted[at : at + run] = bytes((a + b) & 0xFF for a, b in zip(source[at : at + run], values, strict=True))
        assert both(source, [0, len(source)], b"", [(at, run)], values) == wanted


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 150), st.integers(1, 75)), min_size=1, max_size=30),
    st.lists(st.integers(1, 300), min_size=1, max_size=5),
    st.integers(0, 1000),
)
def test_many_runs_over_many_pieces(runs: list[tuple[int, int]], lengths: list[int], seed: int) -> None:
    source = noise(seed, max(sum(lengths), sum(map(sum, runs))))
    lengths.append(len(source) - sum(lengths))
    pieces: list[int] = []
    at = 0
    for length in lengths:
        pieces += [at + 1, length]
        at += length + 1
    both(source, pieces, noise(seed + 1, len(lengths)), runs, noise(seed + 2, sum(run for _, run in runs)))
