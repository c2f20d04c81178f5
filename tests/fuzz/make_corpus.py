"""Writes the seeds in tests/fuzz/corpus: `python -m tests.fuzz.make_corpus`. They are made from bytes of a fixed seed."""

from pathlib import Path

from packager.vehicle._pure_adaptive import write_adaptive
from packager.vehicle.core.journal import JOURNAL_BYTES, Journal
from packager.vehicle.core.segments import Segment
from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.state import Begun, EcuState, encode_state
from packager.vehicle.instructions import InstructionSet
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint, zigzag
from tests.faulty_storage import MemoryFile
from tests.fuzz.fuzz_resume import BINDING
from tests.predicted_cases import code
from tests.repository_simulator import make_bundle
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


def delta_seed(
    block: int, pieces: list[tuple[int, int]], literals: bytes, runs: list[tuple[int, int]], source: bytes
) -> bytes:
    """Return an input of fuzz_delta.c; all numbers below 128."""
    controls = bytes(number for run in runs for number in run)
    header = block.to_bytes(2, "little") + len(source).to_bytes(2, "little") + bytes((len(pieces),))
    header += len(literals).to_bytes(2, "little") + len(controls).to_bytes(2, "little")
    header += b"".join(number.to_bytes(2, "little") for piece in pieces for number in piece)
    return header + source + literals + controls + noise(8, sum(run for _, run in runs))


def label_seed(sets: list[InstructionSet], data: bytes, new_at: int, old_at: int) -> bytes:
    """Return an input of fuzz_predict.c: pages take turns with the sets, everything from old byte 4096 on moves."""
    pages = bytes(number % len(sets) for number in range(4))
    header = bytes((0, len(sets) - 1, len(pages), 2, 0x55, 0))
    bases = [12 if kind is InstructionSet.RECORDS else 0 for kind in sets]
    header += b"".join(bytes((kind, 255)) + base.to_bytes(8, "little") for kind, base in zip(sets, bases, strict=True))
    header += pages
    header += bytes(10) + (4095).to_bytes(2, "little") + (64).to_bytes(8, "little")
    return header + new_at.to_bytes(8, "little") + old_at.to_bytes(8, "little") + data


def unit_seed() -> bytes:
    """Return an input of fuzz_predict.c that adds residuals to units of two bytes."""
    header = bytes((1, 0, 0, 0, 0, 1)) + bytes((2, 3, 0, 9, 20, 0, 12))
    return header + bytes((3, 0, 2, 4)) + noise(10, 40) + noise(11, 6)


def adaptive_seed() -> bytes:
    """Return an input of fuzz_adaptive.c whose stream changes the ends of two pieces that meet within a unit."""
    made, pieces = noise(12, 300), [(3, 100), (103, 50), (200, 100)]
    wanted = made[:99] + bytes(8) + made[107:290] + bytes(10)
    stream = write_adaptive(made, wanted, [number for piece in pieces for number in piece])
    header = bytes((len(pieces),)) + b"".join(at.to_bytes(2, "little") + bytes((length,)) for at, length in pieces)
    return header + len(made).to_bytes(2, "little") + made + stream


def segments_seed(
    segments: list[Segment], old: int, new: int, start: int, end: int, *, near: int = 16, room: int = 64
) -> bytes:
    """Return an input of fuzz_segments.c."""
    gaps, lengths, diagonals, at, diagonal = b"", b"", b"", 0, 0
    for segment in segments:
        gaps += encode_varint(segment.new_offset - at)
        lengths += encode_varint(segment.length_bytes)
        diagonals += encode_varint(zigzag(segment.old_offset - segment.new_offset - diagonal))
        at, diagonal = segment.new_offset + segment.length_bytes, segment.old_offset - segment.new_offset
    numbers = (old, new), (start, end, near, room, len(gaps), len(lengths))
    head = [b"".join(number.to_bytes(2, "little") for number in group) for group in numbers]
    return bytes((len(segments),)) + head[0] + b"\0" + head[1] + gaps + lengths + diagonals


def resume_seeds() -> dict[str, bytes]:
    """Return inputs of fuzz_resume.py."""
    file = MemoryFile(JOURNAL_BYTES)
    journal = Journal(file, BINDING)
    journal.start()
    journal.finished(2)
    numbers, no_intent = (
        b"".join(number.to_bytes(width, "little") for number, width in ((7, 8), (position, 4), (2**32 - 1, 4), (9, 1)))
        for position in (3, 2**32 - 1)
    )
    bundle = make_bundle("bdc", "2", 2, b"old" * 50, b"new" * 50).target
    image = ImageTarget("bdc", "2", ImageId.of(b"new" * 50), 2, ("bdc",), 4096)
    state = {"BDC": EcuState("b", 3, image.image), "DSC": EcuState("a", 2, None, Begun(bundle, image))}
    slots = bytes(file.content[:160]) + bytes(file.content[4096 : 4096 + 160])
    return {
        "journal": b"\0" + slots,
        "numbers": b"\1" + numbers + numbers,
        "position-that-is-no-intent": b"\1" + no_intent,
        "resume": b"\2\x15" + slots,
        "resume-numbers": b"\2\x8a" + numbers,
        "state": b"\3" + encode_state(state),
    }


def main() -> None:
    for target in ("adaptive", "core", "delta", "predict", "resume", "segments"):
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
    for sample in (full_one_block(), delta_one_block(), small_delta()):
        (CORPUS / "core" / sample.name).write_bytes(bytes((200, 0)) + sample.data)
    two_pieces = delta_seed(12, [(2, 4), (8, 3)], b"<<--.", [(1, 2), (2, 1)], b"abcdefg")
    (CORPUS / "delta" / "two-pieces").write_bytes(two_pieces)
    runs = delta_seed(100, [(0, 30), (40, 60)], b"0123456789", [(0, 5), (10, 9), (16, 48), (0, 2)], noise(9, 90))
    (CORPUS / "delta" / "runs-to-the-end").write_bytes(runs)
    for kind in InstructionSet:
        seed = label_seed([kind, InstructionSet.THUMB2], code(kind, kind, 120), 4096 - 60, 8192 - 50)
        (CORPUS / "predict" / kind.name.lower()).write_bytes(seed)
    (CORPUS / "predict" / "units").write_bytes(unit_seed())
    (CORPUS / "adaptive" / "changes").write_bytes(adaptive_seed())
    crossed = [Segment(0, 50, 30), Segment(35, 0, 10), Segment(45, 20, 200), Segment(300, 60, 1)]
    (CORPUS / "segments" / "crossed").write_bytes(segments_seed(crossed, 240, 310, 20, 305))
    short = [Segment(at * 7, (at * 37) % 300, 5) for at in range(40)]
    (CORPUS / "segments" / "many-short").write_bytes(segments_seed(short, 310, 280, 0, 280, near=3, room=40))
    for name, seed in resume_seeds().items():
        (CORPUS / "resume" / name).write_bytes(seed)


if __name__ == "__main__":
    main()
