"""A cheap alignment for measurements: from the map files of generated firmware, or along shared words of any two images."""

from collections.abc import Iterable, Iterator

from packager.vehicle.core.segments import Segment
from sample_images.linker import PlacedFunction
from sample_images.synthesiser import INSTRUCTION_SETS, FirmwareSpec, symbols

_SEED_BYTES = 32


def by_symbols(old: FirmwareSpec, new: FirmwareSpec) -> list[Segment]:
    """Pair the functions of two versions by name, and what lies between them by its place behind the function before."""
    base = INSTRUCTION_SETS[new.isa].base_address
    before = {function.name: (function.address, function.length_bytes) for function in symbols(old)}
    return list(_joined(_pairs(symbols(new), before, base), new.flash_bytes, old.flash_bytes))


def _pairs(
    functions: Iterable[PlacedFunction], before: dict[str, tuple[int, int]], base: int
) -> Iterator[tuple[int, int]]:
    for function in functions:
        if function.name in before:
            yield function.address - base, before[function.name][0] - base


def _joined(starts: Iterable[tuple[int, int]], new_bytes: int, old_bytes: int) -> Iterator[Segment]:
    """Let each diagonal last until the next one starts."""
    at, diagonal = 0, 0
    for new_offset, old_offset in starts:
        if old_offset - new_offset != diagonal:
            if new_offset > at and (segment := _clipped(at, new_offset, diagonal, old_bytes)):
                yield segment
            at, diagonal = new_offset, old_offset - new_offset
    if segment := _clipped(at, new_bytes, diagonal, old_bytes):
        yield segment


def _clipped(start: int, end: int, diagonal: int, old_bytes: int) -> Segment | None:
    start, end = max(start, -diagonal), min(end, old_bytes - diagonal)
    return Segment(start, start + diagonal, end - start) if start < end else None


def by_seeds(old: bytes, new: bytes) -> list[Segment]:
    """Follow, from every aligned seed of the old image that recurs in the new one, the bytes as long as most are equal."""
    where = {old[at : at + _SEED_BYTES]: at for at in range(0, len(old) - _SEED_BYTES, _SEED_BYTES)}
    starts = [(0, 0)]
    at = 0
    while at + _SEED_BYTES <= len(new):
        diagonal = starts[-1][1] - starts[-1][0]
        place = at + diagonal
        if place >= 0 and new[at : at + _SEED_BYTES] == old[place : place + _SEED_BYTES]:
            at += _SEED_BYTES
            continue
        found = where.get(new[at : at + _SEED_BYTES])
        if found is None:
            at += 1
        else:
            starts.append((at, found))
            at += _SEED_BYTES
    return list(_joined(starts[1:], len(new), len(old)))
