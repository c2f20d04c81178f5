"""Turns an alignment into a bundle: for every block the smallest form that the ECU can decode, chosen by measuring.

No coding wins everywhere, so each block is coded in all forms that fit, and the head is counted in: segments cost bytes in the map.
The choice depends on the bytes and the profile alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from packager.bundle.columns import compress
from packager.bundle.forms import (
    TINY_BLOB_BYTES,
    Means,
    Place,
    compressed_form,
    copy_form,
    delta_form,
    fill_form,
    raw_form,
    window_form,
)
from packager.bundle.writer import CodedBlock, Identity, WrittenBundle, write_bundle
from packager.diff import zstd
from packager.model.errors import BudgetError
from packager.vehicle.identity import ImageId
from packager.vehicle.manifest import READS_SEGMENTS
from packager.vehicle.profile import Coder, UpdateProfile, check_block_bytes, grid_block_bytes
from packager.vehicle.segments import MAX_SEGMENT_BYTES, Segment, SegmentMap

SEGMENT_COST_BYTES: Final = 4
"""What a segment costs in the map, about; only the choice of forms depends on it."""
MAX_WINDOW_BLOCKS: Final = 4
"""Old windows are at most this many blocks: the vehicle hashes a window for every block that uses it."""

COARSER_SEGMENT_BYTES: Final = (64, 512)
"""Shortest segments of the coarser alignments that are tried where memory is short."""
QUICK_LEVEL: Final = 3
WINDOW_PAYS_FROM: Final = 2


@dataclass(frozen=True, slots=True)
class Label:
    """What a bundle says of itself besides the identities of its images."""

    release_counter: int = 0
    version: str = ""
    hardware_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EncodedBundle:
    """A bundle and how its blocks were coded.

    Attributes:
        written: The bytes.
        blocks_by_form: Number of blocks per form: the operation's name, with the coder where there is one.
    """

    written: WrittenBundle
    blocks_by_form: Mapping[str, int]


def encode(
    old: bytes | None,
    new: bytes,
    segments: Sequence[Segment],
    profile: UpdateProfile,
    label: Label,
    level: int = zstd.LEVEL,
) -> EncodedBundle:
    """Encode the smallest bundle that fits the ECU.

    Args:
        old: The old image; None for a full bundle.
        new: The new image, not empty.
        segments: Alignment of `new` with `old`; empty for a full bundle.
        profile: Limits of the ECU.
        label: What the bundle says of itself.
        level: zstd level, 1 to 22.

    Raises:
        BudgetError: No form fits the memory of the ECU.
    """
    block_bytes = grid_block_bytes(len(new), profile)
    identity = Identity(
        new=ImageId.of(new),
        old=None if old is None else ImageId.of(old),
        block_log2=check_block_bytes(block_bytes),
        release_counter=label.release_counter,
        version=label.version,
        hardware_ids=label.hardware_ids,
    )
    richest, *poorer = _attempts(profile, block_bytes, level, segments)
    encoded = _encode(identity, old, new, *richest)
    if encoded.written.memory_bytes <= profile.ram_bytes:
        return encoded
    made = [_encode(identity, old, new, *attempt) for attempt in poorer]
    fitting = [encoded for encoded in made if encoded.written.memory_bytes <= profile.ram_bytes]
    if not fitting:
        least_bytes = min(encoded.written.memory_bytes for encoded in made)
        raise BudgetError(
            f"bundle to {identity.new}: needs {least_bytes} bytes of memory on the ECU, its profile has {profile.ram_bytes}",
            hint="raise ram_kib, or set a smaller block_kib in the ECU's profile",
        )
    return min(fitting, key=lambda encoded: len(encoded.written.data))


def _attempts(
    profile: UpdateProfile, block_bytes: int, level: int, segments: Sequence[Segment]
) -> Iterator[tuple[Means, Sequence[Segment]]]:
    """Yield what to try: all means with the whole alignment, then less of either, for ECUs with little memory.

    Segments cost the vehicle `SEGMENT_BYTES` each, so the short ones go first.
    """
    window_bytes = min(MAX_WINDOW_BLOCKS * block_bytes, profile.ram_bytes // 4)
    yield Means(profile.coders, window_bytes, level), segments
    for coders in dict.fromkeys((profile.coders, profile.coders - {Coder.LZMA}, frozenset({Coder.RAW}))):
        for least_bytes in (0, *COARSER_SEGMENT_BYTES):
            yield Means(coders, 0, level), [segment for segment in segments if segment.length_bytes >= least_bytes]
        yield Means(coders, 0, level), ()


def _encode(
    identity: Identity, old: bytes | None, new: bytes, means: Means, segments: Sequence[Segment]
) -> EncodedBundle:
    segment_map = SegmentMap.of(segments)
    block_bytes = 1 << identity.block_log2
    blocks = []
    for start in range(0, len(new), block_bytes):
        output = new[start : start + block_bytes]
        pieces = segment_map.pieces(start, start + len(output))
        blocks.append(_smallest_form(Place(start >> identity.block_log2, start, output, old, pieces), means))
    used = _used_segments(segment_map, blocks, block_bytes)
    return EncodedBundle(write_bundle(identity, blocks, used, means.coders), _count_forms(blocks))


def _smallest_form(place: Place, means: Means) -> CodedBlock:
    """Measure the forms of a block; a tie goes to the one that comes first here."""
    cheap = fill_form(place) or copy_form(place)
    if cheap is not None:
        return cheap
    forms = [raw_form(place)]
    map_bytes = SEGMENT_COST_BYTES * len(place.pieces)
    if place.pieces:
        forms.append(delta_form(place, means))
    if not place.pieces or _may_be_beaten(len(forms[-1].blob) + map_bytes, place.output, means):
        forms += [form for form in (compressed_form(place, means), window_form(place, means)) if form is not None]
    return min(forms, key=lambda form: len(form.blob) + (map_bytes if form.op in READS_SEGMENTS else 0))


def _may_be_beaten(delta_bytes: int, output: bytes, means: Means) -> bool:
    """Tell from a fast compression whether trying the slow forms can pay.

    They take 3 s per MiB; on code, a delta this much below the block by itself was beaten by 2 % at most.
    """
    if delta_bytes <= TINY_BLOB_BYTES:
        return False
    _, quick = compress(output, means.coders - {Coder.LZMA}, QUICK_LEVEL)
    return delta_bytes * WINDOW_PAYS_FROM > len(quick)


def _used_segments(segment_map: SegmentMap, blocks: Sequence[CodedBlock], block_bytes: int) -> list[Segment]:
    """Return what the blocks read of the map, cut at blocks that read none of it and joined again elsewhere."""
    used: list[Segment] = []
    for block in blocks:
        if block.op not in READS_SEGMENTS:
            continue
        start = block.block * block_bytes
        for piece in segment_map.pieces(start, start + len(block.output)):
            last = used[-1] if used else None
            if (
                last is not None
                and last.length_bytes + piece.length_bytes <= MAX_SEGMENT_BYTES
                and last.new_offset + last.length_bytes == piece.new_offset
                and last.old_offset + last.length_bytes == piece.old_offset
            ):
                used[-1] = last._replace(length_bytes=last.length_bytes + piece.length_bytes)
            else:
                used.append(piece)
    return used


def _count_forms(blocks: Sequence[CodedBlock]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for block in blocks:
        coders = {block.coder, *block.coders} - {Coder.RAW}
        form = "+".join((block.op.name, *sorted(coder.name for coder in coders))).lower()
        counts[form] = counts.get(form, 0) + 1
    return dict(sorted(counts.items()))
