"""Turns an alignment into a bundle: for every block the smallest form that the ECU can decode, chosen by measuring.

No coding wins everywhere, so each block is coded in all forms that fit, and the head is counted in: segments cost bytes in the map.
The choice depends on the bytes and the profile alone.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from packager.bundle.columns import compress
from packager.bundle.forms import (
    QUICK_LEVEL,
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
from packager.bundle.inplace import Range, arrange, without
from packager.bundle.predicted_forms import label_pieces, labels_form, predicted_form
from packager.bundle.writer import CodedBlock, Identity, WrittenBundle, write_bundle
from packager.diff import zstd
from packager.diff.engine import DEFAULT_THREADS, Alignment
from packager.diff.prediction import Prediction
from packager.model.errors import BudgetError
from packager.vehicle.core.index import MAX_WHOLE_OLD_BYTES
from packager.vehicle.core.manifest import READS_SEGMENTS, Op
from packager.vehicle.core.predicted import label_whole
from packager.vehicle.core.segments import MAX_SEGMENT_BYTES, Segment, SegmentMap
from packager.vehicle.core.spills import encode_spills
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.profile import Coder, UpdateProfile, check_block_bytes, grid_block_bytes

MAX_WINDOW_BLOCKS: Final = 4
"""Old windows are at most this many blocks: the vehicle hashes a window for every block that uses it."""

SEGMENT_COST_BYTES: Final = 4
"""What a segment costs in the map, about; only the choice of forms depends on it."""
COARSER_SEGMENT_BYTES: Final = (64, 512)
"""Shortest segments of the coarser alignments that are tried where memory is short."""
BOTH_TRIED_BYTES: Final = 2 << 10
"""Up to this length a bundle is also made without prediction, whose own bytes count then, and the smaller one wins; and also where the head
says to what addresses half of the blocks lead, which do not read the segments."""
LABELS_PAY_FROM: Final = 4
WINDOW_PAYS_FROM: Final = 2
"""The slow forms take 1 to 3 s per MiB. They are looked at where a fast compression of the block alone is less than this many times what
the segments make of it; beyond, they were shorter by 2 % at most."""
RIVAL_LEVEL: Final = 12
"""They are made at this level first, in a tenth of the time, and at the full one only where they win at this one, or nearly:"""
RIVAL_MARGIN: Final = 1.05
"""a long window gains more by the full level than segments do."""
HASTY_LEVEL: Final = 7
"""Up to this level they are looked at only where the segments are no better than that fast compression."""
FormMaker: TypeAlias = Callable[[Place, Means], CodedBlock | None]
_WITHOUT_SEGMENTS: Final = ("raw", "compressed+zstd", "compressed+lzma", "window+zstd")


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
    alignment: Alignment,
    profile: UpdateProfile,
    label: Label,
    level: int = zstd.LEVEL,
    threads: int = DEFAULT_THREADS,
) -> EncodedBundle:
    """Encode the smallest bundle that fits the ECU, of an alignment and its rivals; the first of equals.

    Args:
        old: The old image; None for a full bundle.
        new: The new image, not empty.
        alignment: Of `new` with `old`; `NO_ALIGNMENT` for a full bundle.
        profile: Limits of the ECU.
        label: What the bundle says of itself.
        level: zstd level, 1 to 22.
        threads: How many blocks are coded at once; the bundle does not depend on it.

    Raises:
        BudgetError: No form fits the memory of the ECU, or its scratch holds no block.
    """
    each = (alignment, *alignment.rivals)
    made = [_encode_one(old, new, rival, profile, label, level, threads) for rival in each]
    return min(made, key=lambda encoded: len(encoded.written.data))


def _encode_one(
    old: bytes | None,
    new: bytes,
    alignment: Alignment,
    profile: UpdateProfile,
    label: Label,
    level: int,
    threads: int,
) -> EncodedBundle:
    block_bytes = grid_block_bytes(len(new), profile)
    identity = Identity(
        new=ImageId.of(new),
        old=None if old is None else ImageId.of(old),
        block_log2=check_block_bytes(block_bytes),
        release_counter=label.release_counter,
        version=label.version,
        hardware_ids=label.hardware_ids,
        in_place=old is not None and not profile.spare_slot,
        scratch_bytes=0 if old is None or profile.spare_slot else _scratch_bytes(profile, min(block_bytes, len(new))),
    )
    window_bytes = min(MAX_WINDOW_BLOCKS * block_bytes, profile.ram_bytes // 4)
    rich = [(Means(profile.coders, window_bytes, level), alignment.segments)]
    made: list[EncodedBundle] = []
    if alignment.prediction is not None and not identity.in_place and profile.predictors:
        labelled_old = b""
        if old is not None and len(new) <= block_bytes and len(old) <= MAX_WHOLE_OLD_BYTES:
            labelled = bytearray(old)
            label_whole(alignment.prediction.context, labelled)
            labelled_old = bytes(labelled)
        predicting = Means(profile.coders, window_bytes, level, alignment.prediction, labelled_old)
        predicted = _encode(identity, old, new, predicting, alignment.prediction.segments, threads)
        if (
            predicted.written.memory_bytes > profile.ram_bytes
        ):  # a window in a few blocks is worth less than what is predicted in the others
            predicting = Means(profile.coders, 0, level, alignment.prediction)
            predicted = _encode(identity, old, new, predicting, alignment.prediction.segments, threads)
        if predicted.written.memory_bytes <= profile.ram_bytes and _is_best(predicted, alignment.prediction):
            return predicted
        made.append(predicted)
    for attempts in (rich, _modest_attempts(profile, level, alignment)):
        made += [_encode(identity, old, new, *attempt, threads) for attempt in attempts]
        fitting = [encoded for encoded in made if encoded.written.memory_bytes <= profile.ram_bytes]
        if fitting:
            return min(fitting, key=lambda encoded: len(encoded.written.data))
    least_bytes = min(encoded.written.memory_bytes for encoded in made)
    raise BudgetError(
        f"bundle to {identity.new}: needs {least_bytes} bytes of memory on the ECU, its profile has {profile.ram_bytes}",
        hint="raise ram_kib, or set a smaller block_kib in the ECU's profile",
    )


def _is_best(predicted: EncodedBundle, prediction: Prediction) -> bool:
    """Tell whether a bundle without prediction need not be tried: this one is not tiny, and most of its blocks read the segments."""
    if len(predicted.written.data) <= BOTH_TRIED_BYTES:
        return False
    apart = sum(predicted.blocks_by_form.get(form, 0) for form in _WITHOUT_SEGMENTS)
    return not prediction.follows_addresses or 2 * apart < sum(predicted.blocks_by_form.values())


def _scratch_bytes(profile: UpdateProfile, longest_bytes: int) -> int:
    """Return how much scratch an in-place update may use; it must hold the longest block while that is written."""
    if profile.scratch_bytes < longest_bytes:
        raise BudgetError(
            f"in-place update: the profile has {profile.scratch_bytes} bytes of scratch, expected at least {longest_bytes}: "
            "the block that is being written must lie there whole, or a power cut could not be recovered from",
            hint="raise scratch_kib, set a smaller block_kib, or give the ECU a spare slot",
        )
    return profile.scratch_bytes


def _modest_attempts(
    profile: UpdateProfile, level: int, alignment: Alignment
) -> Iterator[tuple[Means, Sequence[Segment]]]:
    """Yield what to try where memory is short: less of the alignment, fewer coders, no windows.

    Segments cost the vehicle `SEGMENT_BYTES` each, with prediction `MAP_ENTRY_BYTES` more, so the short ones go first.
    """
    segments = alignment.segments
    for coders in dict.fromkeys((profile.coders, profile.coders - {Coder.LZMA}, frozenset({Coder.RAW}))):
        for least_bytes in (0, *COARSER_SEGMENT_BYTES):
            yield Means(coders, 0, level), [segment for segment in segments if segment.length_bytes >= least_bytes]
        yield Means(coders, 0, level), ()


def _encode(
    identity: Identity, old: bytes | None, new: bytes, means: Means, segments: Sequence[Segment], threads: int
) -> EncodedBundle:
    segment_map = SegmentMap.of(segments)
    block_bytes = 1 << identity.block_log2

    def smallest_form(start: int) -> CodedBlock:
        output = new[start : start + block_bytes]
        pieces = segment_map.pieces(start, start + len(output))
        return _smallest_form(Place(start >> identity.block_log2, start, output, old, pieces), means)

    with ThreadPoolExecutor(threads) as pool:
        if len(new) <= block_bytes:
            means = replace(means, pool=pool)
            blocks = [smallest_form(0)]
        else:
            blocks = list(pool.map(smallest_form, range(0, len(new), block_bytes)))
    if identity.in_place and old is not None:
        return _encode_in_place(identity, old, new, means, segment_map, blocks)
    if (
        any(block.op is Op.PREDICTED for block in blocks)
        and means.prediction
        and not means.prediction.follows_addresses
    ):
        segments = _used_segments(segment_map, blocks, block_bytes)
        written = write_bundle(identity, blocks, segments, means.coders, means.prediction)
    elif any(block.op is Op.PREDICTED for block in blocks):
        # The address map follows from the segment map: it must hold also what no block reads.
        written = write_bundle(identity, blocks, list(segment_map), means.coders, means.prediction)
    else:
        written = write_bundle(identity, blocks, _used_segments(segment_map, blocks, block_bytes), means.coders)
    return EncodedBundle(written, _count_forms(blocks))


def _encode_in_place(
    identity: Identity, old: bytes, new: bytes, means: Means, segment_map: SegmentMap, blocks: list[CodedBlock]
) -> EncodedBundle:
    """Order the blocks by what they overwrite, put old bytes aside or code blocks anew where that is not enough, and write the bundle."""
    block_bytes = 1 << identity.block_log2
    longest_bytes = min(block_bytes, len(new))
    reads = [_old_ranges(block, segment_map, block_bytes) for block in blocks]

    @functools.cache
    def extra_bytes(number: int) -> int:
        coded = compress(blocks[number].output, means.coders - {Coder.LZMA}, QUICK_LEVEL)[1]
        return max(len(coded) - len(blocks[number].blob), 0)

    divisible = {block.block for block in blocks if block.op in READS_SEGMENTS}
    found = arrange(old, new, block_bytes, reads, identity.scratch_bytes - longest_bytes, extra_bytes, divisible)
    for number in found.recoded:
        alone = Place(number, number * block_bytes, blocks[number].output, None, ())
        blocks[number] = _smallest_form(alone, means)
    if found.left_out:
        segments: list[Segment] = []
        for block in list(blocks):
            start = block.block * block_bytes
            pieces = segment_map.pieces(start, start + len(block.output))
            if block.block in found.left_out:
                pieces = without(pieces, found.left_out[block.block])
                place = Place(block.block, start, block.output, old, pieces)
                blocks[block.block] = _smallest_form(place, replace(means, window_bytes=0))
            segments += pieces
        segment_map = SegmentMap.of(segments)
    spilled = b"".join(old[first : first + length] for first, length in found.spills)
    spills = encode_spills(list(found.spills), Digest.of(spilled).value) if spilled else b""
    written = write_bundle(
        replace(identity, scratch_bytes=longest_bytes + len(spilled)),
        [blocks[number] for number in found.order],
        _used_segments(segment_map, blocks, block_bytes),
        means.coders,
        spills=spills,
    )
    return EncodedBundle(written, _count_forms(blocks))


def _old_ranges(block: CodedBlock, segment_map: SegmentMap, block_bytes: int) -> list[Range]:
    """Return the stretches of the old image that a block reads."""
    if block.op is Op.WINDOW:
        return [(block.window_offset, block.window_offset + len(block.source))]
    if block.op not in READS_SEGMENTS:
        return []
    start = block.block * block_bytes
    pieces = segment_map.pieces(start, start + len(block.output))
    return [(piece.old_offset, piece.old_offset + piece.length_bytes) for piece in pieces]


def _smallest_form(place: Place, means: Means) -> CodedBlock:
    """Measure the forms of a block; a tie goes to the one that comes first here."""
    cheap = fill_form(place) or copy_form(place)
    if cheap is not None:
        return cheap
    forms = [raw_form(place)]
    quick_size = means.start(compress, place.output, means.coders - {Coder.LZMA}, QUICK_LEVEL)
    labelled = label_pieces(place, means)

    def segments_form(place: Place, means: Means) -> CodedBlock:
        return delta_form(place, means) if labelled is None else predicted_form(place, means, labelled)

    if place.pieces:
        forms.append(segments_form(place, means))
    shortest = _cost(forms[-1], place)
    if place.pieces and shortest <= TINY_BLOB_BYTES:
        return forms[-1]
    quick = len(quick_size()[1])
    if place.pieces and means.level <= HASTY_LEVEL and shortest < quick:
        return forms[-1]
    rivals: list[FormMaker] = [labels_form] if not place.pieces or shortest * LABELS_PAY_FROM > quick else []
    rivals += [compressed_form, window_form] if not place.pieces or shortest * WINDOW_PAYS_FROM > quick else []
    promising = _promising(place, means, rivals, (segments_form, shortest) if place.pieces else None)
    forms += [form for form in (rival(place, means) for rival in promising) if form is not None]
    return min(forms, key=lambda form: _cost(form, place))


def _promising(
    place: Place, means: Means, rivals: Sequence[FormMaker], segments: tuple[FormMaker, int] | None
) -> Sequence[FormMaker]:
    """Keep the form that is shortest when all are coded quickly, unless the segments are clearly shorter.

    Args:
        place: The block.
        means: What may be used.
        rivals: Of the segments, if there are any.
        segments: What codes them, and what they cost at the full level.
    """
    if not rivals or (len(rivals) == 1 and segments is None) or means.level <= RIVAL_LEVEL:
        return rivals
    alone = replace(means, level=RIVAL_LEVEL, coders=means.coders - {Coder.LZMA}, pool=None)
    makers = [*([segments[0]] if segments is not None else []), *rivals]
    forms = [form() for form in [means.start(maker, place, alone) for maker in makers]]
    best, best_cost = None, float(len(place.output))
    for maker, form in zip(makers, forms, strict=True):
        cost = _cost(form, place) if form is not None else best_cost
        if segments is not None and maker is segments[0]:
            # Where the full level gains nothing, as with packed data, it does not help rivals, either.
            best_cost = cost * min(max(cost / segments[1], 1) ** 2, RIVAL_MARGIN)
        elif cost < best_cost:
            best, best_cost = maker, cost
    return [best] if best is not None else []


def _cost(form: CodedBlock, place: Place) -> int:
    """Return the length of a form with what its segments cost in the head."""
    return len(form.blob) + (SEGMENT_COST_BYTES * len(place.pieces) if form.op in READS_SEGMENTS else 0)


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
