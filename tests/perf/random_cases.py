"""Applies the bundles of random image pairs: `python -m tests.perf.random_cases --cases 100000 --seed 1 --jobs 2`.

Each case is made of its number and the seed alone: the images, with copied, edited, filled, periodic and generated-code stretches,
linked anew or renumbered; the profile, with block size, memory, coders and scratch; the engine; how the bundle is cut on its way.
A failing case is printed with the command that repeats it. Nothing touches a disk, so that a hundred thousand cases are a matter of
minutes.
"""

import argparse
import functools
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass

from packager.bundle.encoder import EncodedBundle, Label, encode
from packager.diff.engine import NO_ALIGNMENT, Engine, align
from packager.diff.prediction import Mode
from packager.model.errors import BudgetError
from packager.vehicle.core.applier import Applier
from packager.vehicle.core.blocks import OldImage
from packager.vehicle.core.head import Head, SignedHead, read_head
from packager.vehicle.core.inplace import InPlaceSlot, OverwrittenImage
from packager.vehicle.core.segments import Segment
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.instructions import ALL_GROUPS, InstructionSet
from packager.vehicle.profile import KIB, Coder, UpdateProfile
from tests.faulty_storage import MemoryFile
from tests.predicted_bundles import follow
from tests.predicted_cases import code

CASES_PER_TASK = 200
CODE_BYTES = 16 * KIB
RAW, ZSTD, ALL = frozenset({Coder.RAW}), frozenset({Coder.RAW, Coder.ZSTD}), frozenset(Coder)
CODER_SETS = (RAW, RAW, ZSTD, ZSTD, ZSTD, ALL)
KINDS = ("copy", "copy", "edit", "edit", "fresh", "fill", "period", "code", "moved code")


@dataclass(frozen=True, slots=True)
class Case:
    """One case; `old` is None for a full bundle."""

    old: bytes | None
    new: bytes
    profile: UpdateProfile
    engine: Engine
    effort: int
    level: int
    workers: int
    cut: int


def make_case(seed: int, number: int) -> Case:
    """Make a case of nothing but its numbers."""
    chance = random.Random(f"{seed}/{number}")
    largest = chance.choice((300, 2000, 6000, 6000, 12_000)) if chance.random() < 0.985 else 64 * KIB
    if chance.random() < 0.04:
        old, new = _linked_images(chance, chance.choice((3000, 6000, 9000)))
    else:
        old = _old_image(chance, largest)
        new = _new_image(chance, old, largest)
    tables = random.Random(f"tables {seed}/{number}")
    if tables.random() < 0.03:
        old, new = _renumbered_images(tables, tables.choice((2000, 6000, 9000)))
    is_full = chance.random() < 0.08
    block_bytes = chance.choice((None, 4 * KIB, 4 * KIB, 8 * KIB, 64 * KIB))
    in_place = not is_full and chance.random() < 0.3
    profile = UpdateProfile(
        ram_bytes=chance.choice((40 * KIB, 64 * KIB, 256 * KIB, 1 << 20, 256 << 20)),
        spare_slot=not in_place,
        coders=chance.choice(CODER_SETS),
        block_bytes=block_bytes,
        scratch_bytes=chance.choice((1, 1, 2, 5)) * (block_bytes or 64 * KIB) if in_place else 0,
        predictors=chance.random() < 0.8,
    )
    return Case(
        old=None if is_full else old,
        new=new,
        profile=profile,
        engine=Engine.MATCH if chance.random() < 0.8 else Engine.BSDIFF,
        effort=chance.choice((1, 3, 5, 7)),
        level=chance.choice((1, 3, 3, 9)),
        workers=2 if chance.random() < 0.05 else 1,
        cut=chance.choice((1 << 30, 4096, 1000, 37)),
    )


def _old_image(chance: random.Random, largest: int) -> bytes:
    made = bytearray()
    wanted = chance.randint(1, largest)
    if chance.random() < 0.25:
        return _code(chance, wanted)
    while len(made) < wanted:
        made += _fresh(chance, chance.choice(("fresh", "fill", "period", "code", "code")), chance.randint(1, wanted))
    return bytes(made[:wanted])


def _fresh(chance: random.Random, kind: str, length_bytes: int) -> bytes:
    if kind == "code":
        return _code(chance, min(length_bytes, 3000))
    if kind == "fresh":
        return chance.randbytes(length_bytes)
    unit = chance.randbytes(chance.randint(2, 40)) if kind == "period" else chance.choice((b"\0", b"\xff", b"A"))
    return (unit * (length_bytes // len(unit) + 1))[:length_bytes]


@functools.cache
def _library(number: int, instruction_set: InstructionSet) -> bytes:
    return code(number, instruction_set, CODE_BYTES)


def _code(chance: random.Random, length_bytes: int) -> bytes:
    """Return generated instructions; making them anew for every case would take longer than the case."""
    library = _library(chance.randrange(8), chance.choice(tuple(InstructionSet)))
    at = chance.randrange(0, CODE_BYTES - 4, 4)
    return (library[at:] + library * (length_bytes // CODE_BYTES + 1))[:length_bytes]


def _new_image(chance: random.Random, old: bytes, largest: int) -> bytes:
    """Return stretches of the old image, changed in the ways of firmware, and new ones."""
    if chance.random() < 0.01:
        return old
    made = bytearray()
    at = 0
    for _ in range(chance.randint(1, 10)):
        kind = chance.choice(KINDS)
        if kind in ("copy", "edit", "moved code"):
            at = at if chance.random() < 0.6 else chance.randrange(len(old))
            piece = bytearray(old[at : at + chance.randint(1, len(old))])
            at = min(at + len(piece) + chance.choice((0, 0, 1, 4, 60)), len(old) - 1)
            if kind == "edit":
                for _ in range(chance.randint(1, 12) if piece else 0):
                    piece[chance.randrange(len(piece))] = chance.randrange(256)
            if kind == "moved code":
                _add_to_words(chance, piece)
            made += piece
        else:
            made += _fresh(chance, kind, chance.randint(1, max(largest // 4, 1)))
    return bytes(made[: 2 * largest]) or b"\0"


def _linked_images(chance: random.Random, length_bytes: int) -> tuple[bytes, bytes]:
    """Return code, and what a linker would make of it with other code put in: every reference leads where it led."""
    instruction_set = chance.choice(tuple(InstructionSet))
    old = _library(chance.randrange(8), instruction_set)[:length_bytes].ljust(length_bytes, b"\0")
    segments = []
    shift = old_at = 0
    for _ in range(chance.randint(1, 4)):
        end = min(old_at + chance.randrange(0, length_bytes, 4), length_bytes)
        segments.append(Segment(old_at + shift, old_at, end - old_at))
        shift += 4 * chance.randint(0, 40)
        old_at = end
    segments.append(Segment(old_at + shift, old_at, length_bytes - old_at))
    mode = Mode(instruction_set, ALL_GROUPS, chance.choice((0, 0x08000000)))
    new = follow(old, mode, [segment for segment in segments if segment.length_bytes], length_bytes + shift)
    return old, bytes(new)


def _renumbered_images(chance: random.Random, length_bytes: int) -> tuple[bytes, bytes]:
    """Return code behind a table whose entries name things by number, and the same after some were added and numbered anew."""
    count = chance.choice((50, 300))
    first = chance.choice((0, 1000, (1 << 32) - 2 * count))
    added = sorted(chance.randrange(count) for _ in range(chance.randint(1, 8)))
    becomes = [number + sum(at <= number for at in added) for number in range(count)]
    entries = [chance.randrange(count) for _ in range(length_bytes // 8)]
    rest = _code(chance, length_bytes - 4 * len(entries))
    old, new = (
        b"".join((first + of[entry]).to_bytes(4, "little") for entry in entries) for of in (range(count), becomes)
    )
    return old + rest, new + rest


def _add_to_words(chance: random.Random, piece: bytearray) -> None:
    """Add one number to many words, as moved functions do to the addresses in code."""
    shift = chance.choice((2, 4, 8, 0x100, -4, 0x10000))
    for at in range(chance.randrange(4), len(piece) - 4, chance.choice((4, 8, 12, 40))):
        word = int.from_bytes(piece[at : at + 4], "little")
        piece[at : at + 4] = ((word + shift) & 0xFFFFFFFF).to_bytes(4, "little")


def run_case(case: Case) -> EncodedBundle | None:
    """Encode and apply a case.

    Returns:
        The bundle, which made exactly the new image; None if none fits the ECU's memory.

    Raises:
        AssertionError: It made something else, or exceeds the profile.
    """
    alignment = NO_ALIGNMENT if case.old is None else align(case.old, case.new, case.engine, case.effort)
    try:
        encoded = encode(case.old, case.new, alignment, case.profile, Label(1, "1.0"), case.level)
    except BudgetError:
        return None
    data = encoded.written.data
    head = _head(encoded, case.profile)
    assert head.bundle_bytes == len(data)
    assert head.manifest.memory_bytes <= case.profile.ram_bytes
    assert head.manifest.scratch_bytes <= case.profile.scratch_bytes
    assert _applied(case, head, data) == case.new, "another image came out"
    return encoded


def _head(encoded: EncodedBundle, profile: UpdateProfile) -> Head:
    data = encoded.written.data[: encoded.written.head_bytes]
    return read_head(data, SignedHead(len(data), Digest.of(data)), profile)


def _applied(case: Case, head: Head, data: bytes) -> bytes:
    place: InPlaceSlot | None = None
    old: OldImage | None = None if case.old is None else MemoryFile(len(case.old), content=case.old)
    slot = MemoryFile(len(case.new))
    if head.manifest.in_place and case.old is not None:
        slot = MemoryFile(max(len(case.old), len(case.new)), content=case.old)
        scratch = MemoryFile(head.manifest.scratch_bytes)
        place, old = InPlaceSlot(head, slot, scratch, None), OverwrittenImage(head, slot, scratch)
    with Applier(head, old, slot, workers=case.workers, destination=place) as applier:
        for at in range(applier.next_offset, len(data), case.cut):
            applier.feed(data[at : at + case.cut])
        assert applier.finish().image == ImageId.of(case.new)
    return bytes(slot.content[: len(case.new)])


def run_range(seed: int, first: int, last: int) -> tuple[Counter[str], list[str]]:
    """Run some cases. Returns counts of what was met, and what failed."""
    met: Counter[str] = Counter()
    failures = []
    for number in range(first, last):
        case = make_case(seed, number)
        try:
            encoded = run_case(case)
        except Exception:  # noqa: BLE001 - whatever it is, the other cases go on
            failures.append(
                f"case {number}: {case.profile}, {case.engine}, {len(case.old or b'')} -> {len(case.new)} bytes\n"
                f"{traceback.format_exc()}repeat: python -m tests.perf.random_cases --seed {seed} --only {number}"
            )
            continue
        met["cases"] += 1
        if encoded is None:
            met["over budget"] += 1
            continue
        met["full" if case.old is None else "delta" if case.profile.spare_slot else "in place"] += 1
        predictors = _head(encoded, case.profile).predictors
        met["with a value map"] += predictors is not None and len(predictors.old_values) > 0
        met.update({f"blocks {form}": count for form, count in encoded.blocks_by_form.items()})
    return met, failures


def _tasks(cases: int) -> Iterator[tuple[int, int]]:
    for first in range(0, cases, CASES_PER_TASK):
        yield first, min(first + CASES_PER_TASK, cases)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="run this one case")
    options = parser.parse_args()
    started = time.monotonic()
    total: Counter[str] = Counter()
    failed: list[str] = []
    if options.only is not None:
        total, failed = run_range(options.seed, options.only, options.only + 1)
    else:
        with ProcessPoolExecutor(options.jobs) as pool:
            waiting = {pool.submit(run_range, options.seed, *bounds) for bounds in _tasks(options.cases)}
            told = 0
            while waiting:
                done, waiting = wait(waiting, timeout=10, return_when=FIRST_EXCEPTION)
                for future in done:
                    met, failures = future.result()
                    total += met
                    failed += failures
                    for failure in failures:
                        print(failure, flush=True)
                if total["cases"] - told >= 1000:
                    told = total["cases"]
                    print(
                        f"{told} of {options.cases} cases, {time.monotonic() - started:.0f} s",
                        file=sys.stderr,
                        flush=True,
                    )
    if options.only is not None and failed:
        print(failed[0])
    for name, count in sorted(total.items()):
        print(f"{count:9} {name}")
    print(f"{len(failed):9} failed, seed {options.seed}, {time.monotonic() - started:.0f} s")
    return 1 if failed or not total["cases"] else 0


if __name__ == "__main__":
    sys.exit(main())
