"""Writes the seeds in tests/fuzz/corpus: `python -m tests.fuzz.make_corpus`. They are made from bytes of a fixed seed."""

from pathlib import Path

from packager.vehicle.profile import Coder
from packager.vehicle.segments import Segment
from tests.sample_bundles import BLOCK, COPY, DELTA, FILL, Sample, delta_one_block, full_one_block, make, noise

CORPUS = Path(__file__).parent / "corpus"


def small_delta() -> Sample:
    """Return a bundle with changed, filled and copied blocks that is short enough for a fuzzer."""
    old = noise(3, 2 * BLOCK)
    new = old[50:BLOCK] + b"x" * 50 + b"\0" * BLOCK + old[:100] + b"y" + old[101:160] + bytes(BLOCK - 160) + old[:99]
    segments = [Segment(0, 50, BLOCK - 50), Segment(2 * BLOCK, 0, 100), Segment(2 * BLOCK + 101, 101, 59)]
    segments.append(Segment(3 * BLOCK, 0, 99))
    forms = [DELTA, FILL, DELTA, COPY]
    return make("small-delta", old, new, forms, segments, coders=frozenset({Coder.RAW}), hardware_ids=("a", "b"))


def delta_seed() -> bytes:
    """Return an input of fuzz_delta.c: two pieces with a gap, and two runs."""
    pieces = (2, 4, 8, 3)
    lengths = (12, 7), (5, 4)
    header = b"".join(value.to_bytes(2, "little") for value in lengths[0]) + bytes((2,))
    header += b"".join(value.to_bytes(2, "little") for value in lengths[1])
    header += b"".join(value.to_bytes(2, "little") for value in pieces)
    return header + b"abcdefg" + b"<<--." + bytes((1, 2, 2, 1)) + b"\x01\x02\x03"


def main() -> None:
    for target in ("core", "delta"):
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
    for sample in (full_one_block(), delta_one_block(), small_delta()):
        (CORPUS / "core" / sample.name).write_bytes(bytes((200, 0)) + sample.data)
    (CORPUS / "delta" / "two-pieces").write_bytes(delta_seed())


if __name__ == "__main__":
    main()
